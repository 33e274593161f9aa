"""Nodes of the graph of `lean`: what autograd sees as one step each, from torch's own kernels.

`fused` has compiled versions of some of them for bf16.

Shapes: T tokens, U kinds of tokens, D hidden size, C columns of a projection.
"""

from typing import Any

import torch
from torch.nn.functional import silu

from jangin.models import fused, products
from jangin.models.low_rank import Adapter, SideBySide

PER_LINEAR = 8
"""Arguments of `linears` for each matrix: weight, its cast, bias, and a low-rank adapter's down
projection, its cast, up projection, its cast and scale, None without one."""


def linears(x: torch.Tensor, *parts: Any) -> tuple[torch.Tensor, ...]:
    """Products of the same rows with several matrices, each with a low-rank adapter or none."""
    apply: Any = _Linears.apply
    made: tuple[torch.Tensor, ...] = apply(x, *parts)
    return made


def spread(x_UC: torch.Tensor, kind_T: torch.Tensor) -> torch.Tensor:
    """Rows (U, C) to where tokens of their kind stand (T, C); gradients add up in fp32."""
    apply: Any = _Spread.apply
    made: torch.Tensor = apply(x_UC, kind_T)
    return made


def norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
    """RMSNorm of rows."""
    apply: Any = _RmsNorm.apply
    made: torch.Tensor = apply(x, weight, epsilon, dtype)
    return made


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up."""
    if fused.is_fused(gate):
        return fused.swiglu(gate, up)
    apply: Any = _SwiGlu.apply
    made: torch.Tensor = apply(gate, up)
    return made


def add_norm(
    residual: torch.Tensor, x: torch.Tensor, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, its norm in the type of `x`)."""
    add: Any = fused.add_norm if fused.is_fused(x) else _AddRmsNorm.apply
    both: tuple[torch.Tensor, torch.Tensor] = add(residual, x, norm.weight, norm.variance_epsilon)
    return both


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parts: Any) -> tuple[torch.Tensor, ...]:
        each = [parts[start : start + PER_LINEAR] for start in range(0, len(parts), PER_LINEAR)]
        casts = [cast for _, cast, *_ in each]
        ctx.adapters = SideBySide.of(
            [
                None if scale is None else Adapter(down, up, scale)
                for _, _, _, _, down, _, up, scale in each
            ]
        )
        low = None if ctx.adapters is None else ctx.adapters.low(x)
        ctx.save_for_backward(x, *casts, *([] if low is None else [low]))
        return tuple(
            products.times(x, cast, bias, None if low is None else ctx.adapters.added(low, place))
            for place, (_, cast, bias, *_) in enumerate(each)
        )

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        casts, rest = rest[: len(grads)], rest[len(grads) :]
        needs = ctx.needs_input_grad
        trained = [place for place in range(len(grads)) if needs[1 + place * PER_LINEAR]]
        outer = [grads[place] for place in trained]
        summed = [list(grads), casts]
        if rest:
            inner = ctx.adapters.inner(grads)
            outer.append(inner)
            summed = [[*grads, inner], [*casts, ctx.adapters.downs_RD]]
        grad_x = products.back(*summed) if needs[0] else None
        made = products.outer(outer, x) if outer else []
        downs = ctx.adapters.down_grads(made.pop()) if rest else [None] * len(grads)
        weights, found = dict(zip(trained, made, strict=True)), []
        for place, (grad, down) in enumerate(zip(grads, downs, strict=True)):
            bias = grad.sum(0) if needs[3 + place * PER_LINEAR] else None
            up = None if down is None else ctx.adapters.up_grad(grad, rest[0], place)
            found += [weights.get(place), None, bias, down, None, up, None, None]
        return grad_x, *found


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_UC: torch.Tensor, kind_T: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(kind_T)
        ctx.kinds = len(x_UC)
        return x_UC.index_select(0, kind_T)

    @staticmethod
    def backward(ctx: Any, grad_TC: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kind_T,) = ctx.saved_tensors
        total_UC = grad_TC.new_zeros(ctx.kinds, grad_TC.shape[1], dtype=torch.float32)
        return total_UC.index_add_(0, kind_T, grad_TC.float()).to(grad_TC.dtype), None


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        made, scale = _normed(x, weight, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return made.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = _norm_grads(x, weight, scale, grad)
        return grad_x.to(x.dtype), grad_weight, None, None


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = residual + x
        made, scale = _normed(total, weight, epsilon)
        ctx.save_for_backward(total, weight, scale)
        ctx.dtype = x.dtype
        ctx.set_materialize_grads(False)
        return total, made.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor | None, grad: torch.Tensor) -> tuple[Any, ...]:
        total, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = _norm_grads(total, weight, scale, grad)
        if grad_total is not None:
            grad_x += grad_total
        return grad_x, grad_x.to(ctx.dtype), grad_weight, None


def _normed(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x normed in fp32, what its rows were multiplied with)."""
    x = x.float()
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (x * scale).mul_(weight), scale


def _norm_grads(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `_normed` for x, in fp32, and for the weight."""
    normed = x.float() * scale
    product = normed * grad
    grad_weight = product.sum(0)
    inner = product.mul_(weight).mean(-1, keepdim=True)
    grad_x = (grad * weight.float()).addcmul_(normed, inner, value=-1).mul_(scale)
    return grad_x, grad_weight


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        grad_up = silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), grad_up
