"""Nodes of the graph that are one compiled pass over bf16 rows each, for CPUs.

torch's own kernels make each step of a norm or of an activation a pass over memory. The plain
versions in `lean` and `log_probabilities` are what these are tested against, and what fp32 takes.

Shapes: T tokens, D hidden size, C rows of logits, V vocabulary.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.device import MOST_THREADS, are_kernels_enabled


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The compiled kernels; compiling takes seconds, once on a machine."""
    from jangin.training.kernels.numba import elementwise as fused_kernels

    return fused_kernels


def is_fused(x: torch.Tensor) -> bool:
    """Whether compiled passes take such rows."""
    return takes(x.dtype) and x.device.type == "cpu"


def takes(dtype: torch.dtype) -> bool:
    """Whether compiled passes take rows of this type on a CPU."""
    return (
        dtype == torch.bfloat16
        and torch.get_num_threads() <= MOST_THREADS
        and are_kernels_enabled()
    )


def share(count: int, grain: int, work: Callable[[int, int], None]) -> None:
    """`work(begin, end)` for parts of `range(count)`, one for each of torch's threads.

    Parts begin at multiples of `grain`. Only for work that lets go of the interpreter's lock.
    """
    grains = -(-count // grain)
    threads = min(torch.get_num_threads(), grains)
    if threads <= 1:
        work(0, count)
        return
    ends = [min(count, grains * part // threads * grain) for part in range(threads + 1)]
    list(_pool().map(work, ends[:-1], ends[1:]))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_THREADS, "products")


def halves(x: torch.Tensor) -> npt.NDArray[np.uint16]:
    """The memory of bf16 numbers, or of a copy where rows do not lie one after another."""
    made: npt.NDArray[np.uint16] = x.detach().contiguous().view(torch.uint16).numpy()
    return made


def numbers(x: torch.Tensor) -> npt.NDArray[Any]:
    """The same of other numbers."""
    made: npt.NDArray[Any] = x.detach().contiguous().numpy()
    return made


def add_norm(
    residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(residual + x in fp32, its RMSNorm in bf16); takes fp32 and bf16 (T, D)."""
    apply: Any = _AddRmsNorm.apply
    both: tuple[torch.Tensor, torch.Tensor] = apply(residual, x, weight, epsilon)
    return both


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, of bf16 rows."""
    apply: Any = _SwiGlu.apply
    made: torch.Tensor = apply(gate, up)
    return made


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total, normed = residual.new_empty(x.shape), x.new_empty(x.shape)
        scales = residual.new_empty(len(residual))
        arrays = numbers(residual), halves(x), numbers(weight.float()), np.float32(epsilon)
        kernels().add_norm(*arrays, numbers(total), halves(normed), numbers(scales))
        ctx.save_for_backward(total, weight, scales)
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(
        ctx: Any, grad_total: torch.Tensor | None, grad: torch.Tensor | None
    ) -> tuple[Any, ...]:
        total, weight, scales = ctx.saved_tensors
        if grad is None:
            half = None if grad_total is None else grad_total.to(torch.bfloat16)
            return grad_total, half, None, None
        grad_residual, grad_x = total.new_empty(grad.shape), grad.new_empty(grad.shape)
        grad_weight = total.new_zeros(total.shape[1])
        beside = total if grad_total is None else grad_total
        arrays = numbers(total), numbers(weight.float()), numbers(scales), halves(grad)
        made = numbers(grad_residual), halves(grad_x), numbers(grad_weight)
        kernels().add_norm_back(*arrays, numbers(beside), grad_total is not None, *made)
        return grad_residual, grad_x, grad_weight, None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        made = gate.new_empty(gate.shape)
        kernels().swiglu(halves(gate), halves(up), halves(made))
        return made

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = gate.new_empty(gate.shape), up.new_empty(up.shape)
        kernels().swiglu_back(*(halves(x) for x in (gate, up, grad, grad_gate, grad_up)))
        return grad_gate, grad_up


def log_probabilities(
    logits_CV: torch.Tensor, targets_C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of bf16 logits (C): targets' log p, log of the sum of exponentials, target came first."""
    logp_C, total_C = logits_CV.new_empty(2, len(targets_C), dtype=torch.float32)
    first_C = torch.empty(len(targets_C), dtype=torch.bool)
    made = (numbers(x) for x in (logp_C, total_C, first_C))
    kernels().log_probabilities(halves(logits_CV), numbers(targets_C), *made)
    return logp_C, total_C, first_C


def log_probabilities_back(
    logits_CV: torch.Tensor, targets_C: torch.Tensor, total_C: torch.Tensor, grad_C: torch.Tensor
) -> None:
    """Put the gradient of bf16 logits in their place."""
    given = (numbers(x) for x in (targets_C, total_C, grad_C.float()))
    kernels().log_probabilities_back(halves(logits_CV), *given)
