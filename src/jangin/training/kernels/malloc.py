"""What the C library does with memory that a batch has freed.

glibc gives the end of the heap back to the system as soon as it is free, and asks for it again
with the next batch, page by page: 2 % of a step on a CPU.
"""

import ctypes

from jangin.models.device import are_kernels_enabled

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of mallopt, in glibc's malloc.h."""
_KEPT_BYTES = 512 * 2**20
_MAPPED_BYTES = 32 * 2**20
"""The largest that glibc takes: larger blocks are not of the heap, and go back at once."""


def tune_malloc() -> bool:
    """Keep up to half a gigabyte of freed memory; False where that was not done.

    It is not done with another C library than glibc, or where the kernels are off. The largest
    amount of memory in use does not change, only what is kept between two peaks.
    """
    if not are_kernels_enabled():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = {_TRIM_THRESHOLD: _KEPT_BYTES, _MMAP_THRESHOLD: _MAPPED_BYTES}
    taken = [int(mallopt(name, value)) for name, value in wanted.items()]
    return all(taken)
