"""glibc malloc tuning: keep freed memory for the next batch, but not too much of it.

By default glibc returns free memory at the end of the heap to the system, and the next batch pays a
page fault for every page of it: 2 % of a training step on a CPU. Kept memory costs more than that
where it is much: tensors of the next batch are a little larger or smaller, so that many find no
room where the last ones were.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jangin.models.device import are_kernels_enabled
from jangin.models.memory import KEPT_FREED_BYTES

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3), from glibc's malloc.h."""
_MAPPED_BYTES = 32 * 2**20
"""glibc's maximum on 64 bits: larger blocks are mapped and returned when freed."""
_GROWTH = 1.25


def tune_malloc() -> bool:
    """Let the process keep up to 512 MiB of freed heap.

    Returns False, without effect, if the C library is not glibc or the kernels are off.
    """
    if not are_kernels_enabled():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    options = {_TRIM_THRESHOLD: KEPT_FREED_BYTES, _MMAP_THRESHOLD: _MAPPED_BYTES}
    accepted = [int(mallopt(name, value)) for name, value in options.items()]
    return all(accepted)


class _Figures(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


@lru_cache(maxsize=1)
def _glibc() -> tuple[Any, Any] | None:
    """(`mallinfo2`, `malloc_trim`); None where the C library has no such functions."""
    try:
        library = ctypes.CDLL(None)
        figures, trim = library.mallinfo2, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    figures.restype = _Figures
    return figures, trim


def release_freed_memory(kept: int = KEPT_FREED_BYTES) -> bool:
    """Return freed heap to the system if it is more than `kept` bytes; whether it was.

    Without effect if the C library is not glibc 2.33 or newer, or the kernels are off.
    """
    functions = _glibc() if are_kernels_enabled() else None
    if functions is None or functions[0]().fordblks <= kept:
        return False
    functions[1](0)
    return True


@dataclass(slots=True)
class HeapGrowth:
    """Returns freed heap to the system between batches, where the heap has grown by a quarter.

    The next batch takes a page fault for every returned page, a tenth of a step. A heap that fits
    the largest batch has room for the others where that one was.
    """

    _size: int | None = None
    """Of the heap after the first batch or when it was last returned, in bytes; 0 before the first
    batch, None before the first call."""

    def release(self) -> bool:
        """As `release_freed_memory`, if the heap has grown; to be called before each batch."""
        functions = _glibc() if are_kernels_enabled() else None
        if functions is None:
            return False
        if self._size is None:
            self._size = 0
            return release_freed_memory()
        figures = functions[0]()
        size = figures.arena + figures.hblkhd
        if not self._size:
            self._size = size
        if size <= _GROWTH * self._size or not release_freed_memory():
            return False
        self._size = size
        return True
