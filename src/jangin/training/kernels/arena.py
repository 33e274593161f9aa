"""Memory of the tensors of a training pass on a CPU, apart from the heap.

glibc's `posix_memalign`, which torch calls, asks for more than it hands out, so a freed block is
too small for the same request again. Between small objects that live longer, such as nodes of the
graph, it stays empty: the heap of a training process was 400 MiB larger than what it held.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from weakref import finalize

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.device import are_kernels_enabled

_SLAB_BYTES = 256 * 2**20
"""Of address space: pages to which nothing was written are not resident."""
_ALIGNMENT = 64
"""Bytes of a cache line, to which torch aligns its tensors too."""


@dataclass(slots=True)
class _Slab:
    """A block of memory whose tensors are cut from the first hole that is large enough."""

    memory: npt.NDArray[np.uint8]
    """(bytes), the first one aligned by torch."""
    holes: list[tuple[int, int]]
    """First byte and end of each, in order; no two touch."""
    freed: list[tuple[int, int]] = field(default_factory=list)
    """Not yet in `holes`: the garbage collector may free a tensor while these are searched."""

    @classmethod
    def of(cls, size: int) -> "_Slab":
        """At least `size` bytes, which is a multiple of the alignment."""
        size = max(size, _SLAB_BYTES)
        # Not from numpy, which asks for huge pages: the system takes long to make them.
        return cls(torch.empty(size, dtype=torch.uint8).numpy(), [(0, size)])

    def take(self, size: int) -> npt.NDArray[np.uint8] | None:
        """`size` bytes; None where no hole has them. They are free again when unreferenced."""
        self._merge()
        for index, (first, end) in enumerate(self.holes):
            if end - first >= size:
                self.holes[index : index + 1] = [(first + size, end)] if first + size < end else []
                block = self.memory[first : first + size]
                finalize(block, self.freed.append, (first, first + size)).atexit = False
                return block
        return None

    @property
    def used(self) -> int:
        """Bytes outside of the holes."""
        self._merge()
        return len(self.memory) - sum(end - first for first, end in self.holes)

    def _merge(self) -> None:
        while self.freed:
            first, end = self.freed.pop()
            index = bisect(self.holes, (first, end))
            if index < len(self.holes) and self.holes[index][0] == end:
                end = self.holes.pop(index)[1]
            if index and self.holes[index - 1][1] == first:
                index -= 1
                first = self.holes.pop(index)[0]
            self.holes.insert(index, (first, end))


@dataclass(slots=True)
class Arena:
    """Slabs of memory that are kept until `release`. For one thread."""

    _slabs: list[_Slab] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Bytes of the tensors in it, each rounded up to the alignment."""
        return sum(slab.used for slab in self._slabs)

    @property
    def reserved(self) -> int:
        """Bytes of address space."""
        return sum(len(slab.memory) for slab in self._slabs)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised contiguous tensor."""
        like = torch.empty(tuple(shape), dtype=dtype, device="meta")
        size = -(-like.numel() * like.element_size() // _ALIGNMENT) * _ALIGNMENT
        if not size:
            return torch.empty(tuple(shape), dtype=dtype)
        storage = torch.from_numpy(self._block(size)).untyped_storage()
        with torch.no_grad():
            return torch.empty(0, dtype=dtype).set_(storage, 0, like.shape, like.stride())

    def _block(self, size: int) -> npt.NDArray[np.uint8]:
        for slab in self._slabs:
            block = slab.take(size)
            if block is not None:
                return block
        self._slabs.append(_Slab.of(size))
        return self._block(size)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, kernels put what they return and keep into this arena, in both passes.

        Without effect if the kernels are off.
        """
        token = _current.set(self if are_kernels_enabled() else None)
        try:
            yield
        finally:
            _current.reset(token)

    def release(self) -> None:
        """Return the memory to the system; that of tensors which still exist follows them."""
        self._slabs.clear()


_current: ContextVar[Arena | None] = ContextVar("arena", default=None)


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor on the CPU: in the arena in use, else on the heap."""
    arena = _current.get()
    return torch.empty(tuple(shape), dtype=dtype) if arena is None else arena.empty(shape, dtype)


def zeros_like(x: torch.Tensor) -> torch.Tensor:
    """Zeros of the shape and dtype of `x`: in the arena in use if `x` is contiguous."""
    if not is_used(x) or not x.is_contiguous():
        return torch.zeros_like(x)
    return empty(x.shape, x.dtype).zero_()


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`x` in `dtype`: itself where it has that, else a copy, which is contiguous in an arena."""
    if x.dtype == dtype or not is_used(x):
        return x.to(dtype)
    return empty(x.shape, dtype).copy_(x)


def is_used(x: torch.Tensor) -> bool:
    """Whether results of operations on `x` are to be written to an arena."""
    return _current.get() is not None and x.device.type == "cpu"
