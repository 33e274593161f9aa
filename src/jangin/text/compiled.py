"""The decorator that compiles numba kernels when their module is imported."""

from collections.abc import Callable
from typing import Any

from numba import njit

Kernel = Callable[..., Any]


def compiled(signature: str, **options: Any) -> Callable[[Kernel], Kernel]:
    """Compile a function now and cache its machine code beside its file or in the user's folder.

    numba raises RuntimeError where neither folder can be written (a read-only container): such a
    process compiles for itself. `options` are those of `numba.njit`, such as `nogil=True`.
    """

    def decorate(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(signature, cache=True, **options)(function)
        except RuntimeError:
            kernel = njit(signature, **options)(function)
        return kernel

    return decorate
