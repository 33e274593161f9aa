"""bf16 matrix products on a CPU: our AVX512_BF16 microkernel where it is faster, else oneDNN.

With the shapes of a small model oneDNN reaches 85 % of the peak of an AVX512_BF16 core, and returns
weight gradients in bf16, which then have to be converted and summed; our tiles reach 95 % and
return fp32. On a CPU with AMX oneDNN is faster than any AVX512 code, so torch runs.

Shapes: T rows, D input features, C output features, R ranks of stacked LoRA adapters, S ranks of
one adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import linear

from jangin.models.device import multiplies_by_tiles
from jangin.training.kernels.arena import empty, is_used
from jangin.training.kernels.elementwise import as_numpy, as_uint16, is_fused, parallel_for

LEAST_ROWS = 256
"""With fewer rows, repacking the weight costs more than the tiles save."""
_GRAIN, _ROWS = 32, 8
"""Columns and rows of a tile."""
_WIDE_DEVICES = {"cuda", "meta"}
"""Where torch multiplies half precision into fp32; on `meta` tests look at shapes and types."""
_PIECE = 2**21
"""Numbers of a product that `add_grad_weight` adds at a time: 4 MiB in bf16, for a cache."""
_MOST_SUMMED = 4
"""Products that the compiled `grad_input` sums in one pass."""


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The module of compiled loops; the first import on a machine compiles for some seconds."""
    from jangin.text.compiled import one_process_compiles

    with one_process_compiles():
        from jangin.training.kernels.numba import matmul as compiled

    return compiled


def _as_words(x: torch.Tensor) -> npt.NDArray[np.int32]:
    """bf16 (T, D) as int32 (T, D / 2): two neighbours of a row in a word; view if contiguous."""
    array: npt.NDArray[np.int32] = x.detach().contiguous().view(torch.int32).numpy()
    return array


def is_tiled(rows: torch.Tensor, *sizes: int) -> bool:
    """Whether tiles compute the product of rows (T, ...) with matrices of these dimensions."""
    return len(rows) >= LEAST_ROWS and _fills_tiles(rows, *sizes)


def _fills_tiles(rows: torch.Tensor, *sizes: int) -> bool:
    fits = is_fused(rows) and len(rows) >= _ROWS
    return fits and not any(size % _GRAIN for size in sizes) and multiplies_by_tiles()


@dataclass(frozen=True, slots=True)
class LoraTerm:
    """A LoRA term to add to a product: `down[:, start : start + S] @ up.T`."""

    down_TR: torch.Tensor
    """Rows after the down projections of several adapters."""
    start: int
    """First rank of this adapter; even, as kernels read words of two bf16."""
    up_CS: torch.Tensor


def matmul(
    x_TD: torch.Tensor,
    weight_CD: torch.Tensor,
    bias_C: torch.Tensor | None = None,
    adapter: LoraTerm | None = None,
) -> torch.Tensor:
    """X @ weight.T + bias + the adapter's term: (T, C) in the dtype of x.

    weight_CD has the dtype of x, bias_C any float dtype. Tiles sum in fp32 and round once.
    """
    if not is_tiled(x_TD, *weight_CD.shape):
        out_TC = _product(x_TD, weight_CD, bias_C)
        if adapter is not None:
            last = adapter.start + adapter.up_CS.shape[1]
            out_TC.addmm_(adapter.down_TR[:, adapter.start : last], adapter.up_CS.T)
        return out_TC
    out_TC = empty((len(x_TD), len(weight_CD)), x_TD.dtype)
    bias = np.zeros(len(weight_CD), np.float32) if bias_C is None else as_numpy(bias_C.float())
    none = np.empty((0, 0), np.int32)
    lora: tuple[Any, ...] = none, 0, none
    if adapter is not None:
        lora = _as_words(adapter.down_TR), adapter.start // 2, _as_words(adapter.up_CS)
    arguments = _as_words(x_TD), _as_words(weight_CD), bias, *lora, as_uint16(out_TC)
    parallel_for(len(x_TD), _ROWS, partial(kernels().matmul, *arguments))
    return out_TC


def _product(
    x_TD: torch.Tensor, weight_CD: torch.Tensor, bias_C: torch.Tensor | None
) -> torch.Tensor:
    """X @ weight.T + bias by torch: (T, C)."""
    bias = None if bias_C is None else bias_C.to(x_TD.dtype)
    if not is_used(x_TD):
        return linear(x_TD, weight_CD, bias)
    out_TC = empty((len(x_TD), len(weight_CD)), x_TD.dtype)
    if bias is None:
        return torch.mm(x_TD, weight_CD.T, out=out_TC)
    return torch.addmm(bias, x_TD, weight_CD.T, out=out_TC)


def grad_input(
    grads_TC: Sequence[torch.Tensor], weights_CD: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Gradient of the shared input: the sum of grad @ weight over the pairs, (T, D).

    In the dtype of the gradients; each grad is (T, C), its weight (C, D).
    """
    sizes = [size for weight in weights_CD for size in weight.shape]
    if len(grads_TC) > _MOST_SUMMED or not is_tiled(grads_TC[0], *sizes):
        pairs = list(zip(grads_TC, weights_CD, strict=True))
        first, shape = pairs[0][0], (len(pairs[0][0]), pairs[0][1].shape[1])
        out_TD = empty(shape, first.dtype) if is_used(first) else None
        grad_TD = torch.mm(*pairs[0], out=out_TD)
        for grad_TC, weight_CD in pairs[1:]:
            grad_TD.addmm_(grad_TC, weight_CD)
        return grad_TD
    grad_TD = empty((len(grads_TC[0]), weights_CD[0].shape[1]), grads_TC[0].dtype)
    arguments: list[Any] = []
    for index in range(_MOST_SUMMED):
        if index < len(grads_TC):
            arguments += [_as_words(grads_TC[index]), as_uint16(weights_CD[index])]
        else:
            arguments += [np.empty((0, 0), np.int32), np.empty((0, 0), np.uint16)]
    parallel_for(len(grad_TD), _ROWS, partial(kernels().grad_input, *arguments, as_uint16(grad_TD)))
    return grad_TD


def matmul_wide(
    x_TD: torch.Tensor, weight_CD: torch.Tensor, bias_C: torch.Tensor | None = None
) -> torch.Tensor:
    """`matmul` with its sums as they are, in fp32, where `keeps_sums`: for logits."""
    if keeps_sums(x_TD):
        out_TC = torch.mm(x_TD, weight_CD.T, out_dtype=torch.float32)
        return out_TC if bias_C is None else out_TC.add_(bias_C)
    return matmul(x_TD, weight_CD, bias_C)


def keeps_sums(x: torch.Tensor) -> bool:
    """Whether torch multiplies this dtype into fp32 on this device; its CPU build does not."""
    return x.device.type in _WIDE_DEVICES and x.dtype in (torch.bfloat16, torch.float16)


def add_grad_weight(
    total_CD: torch.Tensor | None, grad_TC: torch.Tensor, x_TD: torch.Tensor
) -> torch.Tensor:
    """`total_CD` + grad.T @ x in fp32 at least, in place: bf16 would lose small parts.

    A product that torch returns in bf16 is added in pieces: whole, it would take one and a half
    times the memory of the sum, and be written to memory and read again.
    """
    if keeps_sums(x_TD):
        if total_CD is None:
            return torch.mm(grad_TC.T, x_TD, out_dtype=torch.float32)
        add: Any = torch.ops.aten.addmm.dtype_out
        add(total_CD, grad_TC.T, x_TD, torch.float32, out=total_CD)
        return total_CD
    if _fills_tiles(x_TD, x_TD.shape[1], grad_TC.shape[1]):
        if total_CD is None:
            return grad_weight([grad_TC], x_TD)[0]
        _write_grad_weight(grad_TC, _packed(x_TD), total_CD, add=True)
        return total_CD
    dtype = torch.promote_types(x_TD.dtype, torch.float32)
    if dtype == x_TD.dtype:
        return grad_TC.T @ x_TD if total_CD is None else total_CD.addmm_(grad_TC.T, x_TD)
    if total_CD is None:
        total_CD = x_TD.new_zeros(grad_TC.shape[1], x_TD.shape[1], dtype=dtype)
    rows = max(1, _PIECE // x_TD.shape[1])
    for first in range(0, len(total_CD), rows):
        total_CD[first : first + rows] += grad_TC[:, first : first + rows].T @ x_TD
    return total_CD


def grad_weight(grads_TC: Sequence[torch.Tensor], x_TD: torch.Tensor) -> list[torch.Tensor]:
    """grad.T @ x for each grad (T, C): (C, D), fp32 from tiles, else in the dtype of x."""
    if not _fills_tiles(x_TD, x_TD.shape[1], *(grad.shape[1] for grad in grads_TC)):
        return [grad_TC.T @ x_TD for grad_TC in grads_TC]
    packed, results = _packed(x_TD), []
    for grad_TC in grads_TC:
        grad_CD = torch.empty(grad_TC.shape[1], x_TD.shape[1])
        _write_grad_weight(grad_TC, packed, grad_CD, add=False)
        results.append(grad_CD)
    return results


def _packed(x_TD: torch.Tensor) -> npt.NDArray[np.int32]:
    """Rows as the compiled `grad_weight` reads them."""
    packed = np.empty((len(x_TD) + 1) // 2 * x_TD.shape[1], np.int32)
    kernels().pack_rows(as_uint16(x_TD), packed)
    return packed


def _write_grad_weight(
    grad_TC: torch.Tensor, packed: npt.NDArray[np.int32], out_CD: torch.Tensor, *, add: bool
) -> None:
    arguments = as_uint16(grad_TC), packed, out_CD.numpy(), int(add)
    parallel_for(grad_TC.shape[1], _GRAIN, partial(kernels().grad_weight, *arguments))
