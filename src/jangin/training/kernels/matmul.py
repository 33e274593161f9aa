"""Products of bf16 matrices on a CPU: our own tiles where they are faster, else torch's.

oneDNN reaches 85 % of what an AVX512_BF16 core can do with the shapes of a small model, and gives
the gradient of a weight in bf16, which then has to be widened and added; tiles reach 95 %, in fp32.
Where the CPU has AMX, oneDNN's products are several times as fast as any from AVX512.

Shapes: T rows, C columns of a weight's product, D columns of its rows, R ranks of several
low-rank adapters, S of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import linear

from jangin.models.device import uses_bf16_tiles
from jangin.training.kernels.elementwise import halves, is_fused, numbers, share

LEAST_ROWS = 256
"""With fewer, laying out the weight takes longer than tiles save."""
_GRAIN, _ROWS = 32, 8
_MOST_SUMMED = 4


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The compiled kernels; compiling takes seconds, once on a machine."""
    from jangin.training.kernels.numba import matmul as product_kernels

    return product_kernels


def _words(x: torch.Tensor) -> npt.NDArray[np.int32]:
    made: npt.NDArray[np.int32] = x.detach().contiguous().view(torch.int32).numpy()
    return made


def is_tiled(rows: torch.Tensor, *wide: int) -> bool:
    """Whether products of such rows with matrices of these dimensions are made of tiles."""
    return len(rows) >= LEAST_ROWS and _fills_tiles(rows, *wide)


def _fills_tiles(rows: torch.Tensor, *wide: int) -> bool:
    fits = is_fused(rows) and len(rows) >= _ROWS
    return fits and not any(size % _GRAIN for size in wide) and uses_bf16_tiles()


@dataclass(frozen=True, slots=True)
class Low:
    """What a low-rank adapter adds to a product: `low[:, at:at + S] @ up.T`."""

    low_TR: torch.Tensor
    """Of several adapters side by side."""
    at: int
    """Even."""
    up_CS: torch.Tensor


def times(
    x_TD: torch.Tensor,
    weight_CD: torch.Tensor,
    bias_C: torch.Tensor | None = None,
    adapter: Low | None = None,
) -> torch.Tensor:
    """(T, C): x @ weight.T + bias, and what the adapter adds."""
    if not is_tiled(x_TD, *weight_CD.shape):
        made_TC = linear(x_TD, weight_CD, None if bias_C is None else bias_C.to(x_TD.dtype))
        if adapter is not None:
            last = adapter.at + adapter.up_CS.shape[1]
            made_TC.addmm_(adapter.low_TR[:, adapter.at : last], adapter.up_CS.T)
        return made_TC
    made_TC = x_TD.new_empty(len(x_TD), len(weight_CD))
    bias = np.zeros(len(weight_CD), np.float32) if bias_C is None else numbers(bias_C.float())
    nothing = np.empty((0, 0), np.int32)
    more: tuple[Any, ...] = nothing, 0, nothing
    if adapter is not None:
        more = _words(adapter.low_TR), adapter.at // 2, _words(adapter.up_CS)
    given = _words(x_TD), _words(weight_CD), bias, *more, halves(made_TC)
    share(len(x_TD), _ROWS, partial(kernels().times, *given))
    return made_TC


def back(grads_TC: Sequence[torch.Tensor], weights_CD: Sequence[torch.Tensor]) -> torch.Tensor:
    """(T, D): the sum of each grad @ weight."""
    sizes = [size for weight in weights_CD for size in weight.shape]
    if len(grads_TC) > _MOST_SUMMED or not is_tiled(grads_TC[0], *sizes):
        pairs = list(zip(grads_TC, weights_CD, strict=True))
        made_TD = pairs[0][0] @ pairs[0][1]
        for grad_TC, weight_CD in pairs[1:]:
            made_TD.addmm_(grad_TC, weight_CD)
        return made_TD
    made_TD = grads_TC[0].new_empty(len(grads_TC[0]), weights_CD[0].shape[1])
    given: list[Any] = []
    for place in range(_MOST_SUMMED):
        if place < len(grads_TC):
            given += [_words(grads_TC[place]), halves(weights_CD[place])]
        else:
            given += [np.empty((0, 0), np.int32), np.empty((0, 0), np.uint16)]
    share(len(made_TD), _ROWS, partial(kernels().back, *given, halves(made_TD)))
    return made_TD


def outer(grads_TC: Sequence[torch.Tensor], x_TD: torch.Tensor) -> list[torch.Tensor]:
    """(C, D) of each grad: grad.T @ x, in fp32 from tiles, else in the type of x."""
    if not _fills_tiles(x_TD, x_TD.shape[1], *(grad.shape[1] for grad in grads_TC)):
        return [grad_TC.T @ x_TD for grad_TC in grads_TC]
    laid = np.empty((len(x_TD) + 1) // 2 * x_TD.shape[1], np.int32)
    kernels().lay_rows(halves(x_TD), laid)
    found = []
    for grad_TC in grads_TC:
        made_CD = torch.empty(grad_TC.shape[1], x_TD.shape[1])
        given = halves(grad_TC), laid, made_CD.numpy()
        share(grad_TC.shape[1], _GRAIN, partial(kernels().outer, *given))
        found.append(made_CD)
    return found
