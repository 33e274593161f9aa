"""RMSNorm, gated activations and log-softmax: one compiled pass for bf16 on a CPU, else torch.

torch's own kernels read and write memory once for each operation of a norm or an activation. The
compiled loops of `numba/elementwise` do it once for all. Each node decides in its forward pass
(`is_fused`), and its backward pass follows.

Shapes: T tokens, D hidden size, C rows of logits, V vocabulary.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import gelu, silu

from jangin.models.device import MOST_THREADS, are_kernels_enabled
from jangin.training.kernels.arena import empty
from jangin.training.kernels.recomputed import Recomputed


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The module of compiled loops; the first import on a machine compiles for some seconds."""
    from jangin.text.compiled import one_process_compiles

    with one_process_compiles():
        from jangin.training.kernels.numba import elementwise

    return elementwise


def is_fused(x: torch.Tensor) -> bool:
    """Whether the compiled loops run on this tensor: its dtype is supported and it is on a CPU."""
    return supports(x.dtype) and x.device.type == "cpu"


def supports(dtype: torch.dtype) -> bool:
    """Whether the compiled loops run on CPU tensors of this dtype.

    Only bf16, with the kernels enabled and at most `MOST_THREADS` threads.
    """
    return (
        dtype == torch.bfloat16
        and torch.get_num_threads() <= MOST_THREADS
        and are_kernels_enabled()
    )


def parallel_for(count: int, grain: int, work: Callable[[int, int], None]) -> None:
    """Call `work(begin, end)` for consecutive parts of `range(count)`, one per torch thread.

    Every part begins at a multiple of `grain`. `work` must release the GIL to run in parallel.
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
    return ThreadPoolExecutor(MOST_THREADS, "kernels")


def as_uint16(x: torch.Tensor) -> npt.NDArray[np.uint16]:
    """The bits of a bf16 CPU tensor, same shape, C-contiguous.

    A view where `x` is contiguous, so that kernels can write into it; else a copy.
    """
    array: npt.NDArray[np.uint16] = x.detach().contiguous().view(torch.uint16).numpy()
    return array


def as_numpy(x: torch.Tensor) -> npt.NDArray[Any]:
    """A CPU tensor of any dtype but bf16, same shape, C-contiguous: view or copy as `as_uint16`."""
    array: npt.NDArray[Any] = x.detach().contiguous().numpy()
    return array


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
) -> torch.Tensor:
    """RMSNorm (arXiv:1910.07467) of each row of x (T, D), computed in fp32, returned in `dtype`."""
    apply: Any = _RmsNorm.apply
    normed: torch.Tensor = apply(x, weight, epsilon, dtype)
    return normed


def rms_norm_rows(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
) -> torch.Tensor:
    """`rms_norm` outside of the graph."""
    return _norm(x, weight, epsilon, dtype)[0]


def add_norm(
    residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, Recomputed]:
    """(residual + x, its RMSNorm in the dtype of x, how to compute that norm again).

    Both tensors are (T, D); residual is fp32, x any float.
    """
    apply: Any = _AddRmsNorm.apply
    total, normed, scale = apply(residual, x, weight, epsilon)
    again = Recomputed.of(partial(_scaled, dtype=x.dtype), total, weight, scale)
    return total, normed, again


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up (arXiv:2002.05202), all of one shape (T, columns) and dtype."""
    apply: Any = _SwiGlu.apply
    product: torch.Tensor = apply(gate, up)
    return product


def swiglu_rows(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`swiglu` outside of the graph."""
    if not is_fused(gate):
        return silu(gate).mul_(up)
    out = empty(gate.shape, gate.dtype)
    kernels().swiglu(as_uint16(gate), as_uint16(up), as_uint16(out))
    return out


def geglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up (arXiv:2002.05202), GELU in its tanh form, else as `swiglu`."""
    apply: Any = _GeGlu.apply
    product: torch.Tensor = apply(gate, up)
    return product


def geglu_rows(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`geglu` outside of the graph."""
    if not is_fused(gate):
        return gelu(gate, approximate="tanh").mul_(up)
    out = empty(gate.shape, gate.dtype)
    kernels().geglu(as_uint16(gate), as_uint16(up), as_uint16(out))
    return out


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        ctx.is_fused = is_fused(x) and dtype == x.dtype
        normed, scale = _norm(x, weight, epsilon, dtype)
        ctx.save_for_backward(x, weight, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        if not ctx.is_fused:
            grad_x, grad_weight = _norm_grads(x, weight, scale, grad)
            return grad_x.to(x.dtype), grad_weight, None, None
        grad_x, grad_weight = empty(x.shape, x.dtype), scale.new_zeros(x.shape[1])
        inputs = as_uint16(x), as_numpy(weight.float()), as_numpy(scale), as_uint16(grad)
        kernels().norm_backward(*inputs, as_uint16(grad_x), as_numpy(grad_weight))
        return grad_x, grad_weight, None, None


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ctx.is_fused = is_fused(x)
        if ctx.is_fused:
            total, normed = empty(x.shape, residual.dtype), empty(x.shape, x.dtype)
            scale = empty((len(residual),), residual.dtype)
            inputs = as_numpy(residual), as_uint16(x), as_numpy(weight.float()), np.float32(epsilon)
            kernels().add_norm(*inputs, as_numpy(total), as_uint16(normed), as_numpy(scale))
        else:
            total = residual + x
            normed, scale = _norm_rows(total, weight, epsilon)
        ctx.save_for_backward(total, weight, scale)
        ctx.dtype = x.dtype
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(scale)
        return total, normed.to(x.dtype), scale

    @staticmethod
    def backward(
        ctx: Any, grad_total: torch.Tensor | None, grad: torch.Tensor | None, _grad_scale: None
    ) -> tuple[Any, ...]:
        total, weight, scale = ctx.saved_tensors
        if grad is None:
            grad_x = None if grad_total is None else grad_total.to(ctx.dtype)
            return grad_total, grad_x, None, None
        if not ctx.is_fused:
            grad_residual, grad_weight = _norm_grads(total, weight, scale, grad)
            if grad_total is not None:
                grad_residual += grad_total
            return grad_residual, grad_residual.to(ctx.dtype), grad_weight, None
        grad_residual = empty(grad.shape, total.dtype)
        grad_x = empty(grad.shape, grad.dtype)
        grad_weight = total.new_zeros(total.shape[1])
        added = total if grad_total is None else grad_total
        inputs = as_numpy(total), as_numpy(weight.float()), as_numpy(scale), as_uint16(grad)
        outputs = as_numpy(grad_residual), as_uint16(grad_x), as_numpy(grad_weight)
        kernels().add_norm_backward(*inputs, as_numpy(added), grad_total is not None, *outputs)
        return grad_residual, grad_x, grad_weight, None


def _norm(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(RMSNorm of x (T, D) in `dtype`, 1 / RMS of each row: (T) if compiled, else (T, 1))."""
    if not (is_fused(x) and dtype == x.dtype):
        normed, scale = _norm_rows(x, weight, epsilon)
        return normed.to(dtype), scale
    normed, scale = empty(x.shape, x.dtype), empty((len(x),), torch.float32)
    inputs = as_uint16(x), as_numpy(weight.float()), np.float32(epsilon)
    kernels().norm(*inputs, as_uint16(normed), as_numpy(scale))
    return normed, scale


def _scaled(
    total: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """The norm of `add_norm` in `dtype`, from the sum and the 1 / RMS of its rows."""
    if scale.ndim > 1:  # of torch's operations
        return (total.float() * scale).mul_(weight).to(dtype)
    normed = empty(total.shape, dtype)
    inputs = as_numpy(total), as_numpy(scale), as_numpy(weight.float())
    kernels().scaled(*inputs, as_uint16(normed))
    return normed


def _norm_rows(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(RMSNorm of x (T, D) in fp32, 1 / RMS of each row (T, 1))."""
    x = x.float()
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (x * scale).mul_(weight), scale


def _norm_grads(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `_norm_rows` for x (T, D), in fp32, and for the weight (D)."""
    normed = x.float() * scale
    product = normed * grad
    grad_weight = product.sum(0)
    mean = product.mul_(weight).mean(-1, keepdim=True)
    grad_x = (grad * weight.float()).addcmul_(normed, mean, value=-1).mul_(scale)
    return grad_x, grad_weight


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.is_fused = is_fused(gate)
        return swiglu_rows(gate, up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        if not ctx.is_fused:
            grad_up = silu(gate).mul_(grad)
            return torch.ops.aten.silu_backward(grad * up, gate), grad_up
        grad_gate, grad_up = empty(gate.shape, gate.dtype), empty(up.shape, up.dtype)
        kernels().swiglu_backward(*(as_uint16(x) for x in (gate, up, grad, grad_gate, grad_up)))
        return grad_gate, grad_up


class _GeGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.is_fused = is_fused(gate)
        return geglu_rows(gate, up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        if not ctx.is_fused:
            grad_up = gelu(gate, approximate="tanh").mul_(grad)
            return torch.ops.aten.gelu_backward(grad * up, gate, approximate="tanh"), grad_up
        grad_gate, grad_up = empty(gate.shape, gate.dtype), empty(up.shape, up.dtype)
        kernels().geglu_backward(*(as_uint16(x) for x in (gate, up, grad, grad_gate, grad_up)))
        return grad_gate, grad_up


def log_probs(
    logits_CV: torch.Tensor, targets_C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log p of the targets, logsumexp of the logits, whether no logit exceeds the target's).

    logits_CV is bf16 and contiguous, targets_C int64; returns fp32 (C), fp32 (C) and bool (C).
    """
    logp_C, total_C = logits_CV.new_empty(2, len(targets_C), dtype=torch.float32)
    first_C = torch.empty(len(targets_C), dtype=torch.bool)
    outputs = (as_numpy(x) for x in (logp_C, total_C, first_C))
    kernels().log_probs(as_uint16(logits_CV), as_numpy(targets_C), *outputs)
    return logp_C, total_C, first_C


def log_probs_backward(
    logits_CV: torch.Tensor, targets_C: torch.Tensor, total_C: torch.Tensor, grad_C: torch.Tensor
) -> None:
    """Overwrite bf16 logits_CV (contiguous) with their gradient.

    total_C is the logsumexp from `log_probs`, grad_C the gradient of the log-probabilities.
    """
    inputs = (as_numpy(x) for x in (targets_C, total_C, grad_C.float()))
    kernels().log_probs_backward(as_uint16(logits_CV), *inputs)
