"""The decorator that compiles numba kernels when their module is imported."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from numba import njit

Kernel = Callable[..., Any]
_on_miss: ContextVar[Callable[[], None] | None] = ContextVar("on_miss", default=None)


@contextmanager
def cache_misses(on_miss: Callable[[], None]) -> Iterator[None]:
    """Context in which `on_miss` is called after the first kernel that was not in the cache."""
    token = _on_miss.set(on_miss)
    try:
        yield
    finally:
        _on_miss.reset(token)


@contextmanager
def one_process_compiles() -> Iterator[None]:
    """Context in which other processes wait, and then load what this one has compiled.

    Where files cannot be locked, as on some network disks, each compiles for itself.
    """
    with Path(__file__).open("rb") as stream:
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def compiled(signature: str, **options: Any) -> Callable[[Kernel], Any]:
    """Compile a function now and cache its machine code beside its file or in the user's folder.

    numba raises RuntimeError where neither folder can be written (a read-only container): such a
    process compiles for itself. `options` are those of `numba.njit`, such as `nogil=True`.
    """

    def decorate(function: Kernel) -> Any:
        try:
            kernel: Any = njit(signature, cache=True, **options)(function)
        except RuntimeError:
            kernel = njit(signature, **options)(function)
        on_miss = _on_miss.get()
        if on_miss is not None and not kernel.stats.cache_hits:
            _on_miss.set(None)
            on_miss()
        return kernel

    return decorate
