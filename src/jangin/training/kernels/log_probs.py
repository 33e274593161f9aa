"""Chunked log-probabilities of given tokens, differentiable per token.

`cross_entropy` returns a sum, whose gradient is known in the forward pass. Preference losses weight
every answer by a function of its log-probability, so here each token has a gradient of its own, and
logits are kept or computed again in the backward pass. Runs on every device.

Shapes: N tokens, C of them in a chunk, V vocabulary, D hidden size.
"""

from typing import Any

import torch

from jangin.models.kernel_sizes import PAIR_LOGITS_BYTES
from jangin.training.kernels import matmul
from jangin.training.kernels.arena import cast
from jangin.training.kernels.cross_entropy import chunk_rows, soft_cap, soft_cap_slope
from jangin.training.kernels.direct_gradients import DirectGradients, store
from jangin.training.kernels.elementwise import is_fused, log_probs, log_probs_backward


class _LinearLogProbs(torch.autograd.Function):
    """`linear_log_probs`; if `train`, keeps logits of up to `PAIR_LOGITS_BYTES` for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        dtype: torch.dtype,
        train: bool,
        cap: float,
        direct: DirectGradients,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = cast(weight_VD, dtype)
        size = torch.promote_types(dtype, torch.float32)
        logp_N = hidden_ND.new_empty(len(targets_N), dtype=size)
        total_N1 = hidden_ND.new_empty((len(targets_N), 1), dtype=size)
        first_N = torch.empty_like(targets_N, dtype=torch.bool)
        ctx.rows = chunk_rows(weight)
        keep = train and len(targets_N) * weight_VD.shape[0] * size.itemsize <= PAIR_LOGITS_BYTES
        kept_logits = []
        for part in _chunks(len(targets_N), ctx.rows):
            logits_CV = matmul.matmul_wide(hidden_ND[part].to(dtype), weight, bias_V)
            if is_fused(logits_CV) and not cap:
                results = log_probs(logits_CV, targets_N[part])
                logp_N[part], total_N1[part, 0], first_N[part] = results
                if keep:
                    kept_logits.append(logits_CV)
                continue
            logits_CV = soft_cap(logits_CV, cap).to(size)
            target_C1 = logits_CV.gather(1, targets_N[part, None])
            first_N[part] = (target_C1 >= logits_CV.amax(1, keepdim=True))[:, 0]
            total_N1[part] = logits_CV.logsumexp(1, keepdim=True)
            logp_N[part] = (target_C1 - total_N1[part])[:, 0]
            if keep:
                kept_logits.append(logits_CV)
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, total_N1, *kept_logits)
        ctx.dtype, ctx.cap, ctx.direct = dtype, cap, direct
        ctx.mark_non_differentiable(first_N)
        return logp_N, first_N

    @staticmethod
    def backward(
        ctx: Any, grad_N: torch.Tensor, _grad_first: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, targets_N, total_N1, *kept_logits = ctx.saved_tensors
        weight = cast(weight_VD, ctx.dtype)
        grad_hidden = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_weight = ctx.direct.started(weight_VD)
        grad_bias = (
            torch.zeros_like(bias_V, dtype=total_N1.dtype) if ctx.needs_input_grad[2] else None
        )
        for index, part in enumerate(_chunks(len(targets_N), ctx.rows)):
            hidden_CD = hidden_ND[part].to(ctx.dtype)
            logits_CV = (
                kept_logits[index] if kept_logits else matmul.matmul_wide(hidden_CD, weight, bias_V)
            )
            if is_fused(logits_CV) and not ctx.cap:
                log_probs_backward(logits_CV, targets_N[part], total_N1[part, 0], grad_N[part])
                grad_CV = logits_CV
                _add_rows(grad_bias, grad_CV)
            else:
                if not kept_logits:
                    logits_CV = soft_cap(logits_CV, ctx.cap)
                grad_C1 = grad_N[part, None]
                # d log p(target) / d logit = (1 for the target) - probability
                grad_CV = (logits_CV.to(grad_N.dtype) - total_N1[part]).exp_().mul_(-grad_C1)
                grad_CV = grad_CV.scatter_add_(1, targets_N[part, None], grad_C1)
                if ctx.cap:
                    grad_CV *= soft_cap_slope(logits_CV, ctx.cap)
                _add_rows(grad_bias, grad_CV)
                grad_CV = grad_CV.to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = matmul.grad_input([grad_CV], [weight])
            if ctx.needs_input_grad[1]:
                grad_weight = matmul.add_grad_weight(grad_weight, grad_CV, hidden_CD)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VD.dtype)
            if ctx.direct.takes(weight_VD):
                store(weight_VD, grad_weight)
                grad_weight = None
        grad_bias = None if grad_bias is None else grad_bias.to(bias_V.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None


def _add_rows(total_V: torch.Tensor | None, grad_CV: torch.Tensor) -> None:
    """Add the gradients of a chunk to that of the head's bias, if it is wanted."""
    if total_V is not None:
        total_V += grad_CV.sum(0, dtype=total_V.dtype)


def _chunks(count: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, count, rows)]


def linear_log_probs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    cap: float = 0.0,
    bias_V: torch.Tensor | None = None,
    direct: DirectGradients | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of int64 targets under `softmax(soft_cap(hidden @ weight.T + bias, cap))`.

    Returns:
        log p (N), fp32 or float64 as `dtype` promotes, differentiable once; whether no logit
        exceeds the target's (N) bool. `dtype` is that of the matrix products.

    """
    train = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        apply: Any = _LinearLogProbs.apply
        arguments = hidden_ND, weight_VD, bias_V, targets_N, dtype, train, cap
        logp_N, first_N = apply(*arguments, direct or DirectGradients())
    return logp_N, first_N


def logits_log_probs(
    logits_NV: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`linear_log_probs` of given logits, for families that modify them after the head."""
    size = torch.promote_types(logits_NV.dtype, torch.float32)
    target_N = logits_NV.to(size).log_softmax(1).gather(1, targets_N[:, None])[:, 0]
    peak_N = logits_NV.detach().amax(1)
    chosen_N = logits_NV.detach().gather(1, targets_N[:, None])[:, 0]
    return target_N, chosen_N >= peak_N
