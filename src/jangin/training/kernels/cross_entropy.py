"""Chunked linear cross-entropy: the loss of trained tokens without all logits in memory.

The gradient is computed in the forward pass, chunk by chunk, as in Liger Kernel (arXiv:2410.10989).
Runs on every device.

Shapes: N trained tokens, C of them in a chunk, V vocabulary, D hidden size.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jangin.models.memory import CUDA_LOSS_ROWS, LOSS_CHUNK_BYTES, LOSS_ROWS, PAIR_LOGITS_BYTES
from jangin.training.kernels import matmul
from jangin.training.kernels.arena import cast
from jangin.training.kernels.direct_gradients import DirectGradients, store
from jangin.training.kernels.elementwise import is_fused, log_probs, log_probs_backward


def chunk_rows(weight_VD: torch.Tensor) -> int:
    """Tokens of a chunk whose logits fill `LOSS_CHUNK_BYTES`: in bf16 if fused, else in fp32.

    On a GPU at least `CUDA_LOSS_ROWS`, on a CPU `LOSS_ROWS`.
    """
    size = weight_VD.element_size() if is_fused(weight_VD) else 4
    rows = LOSS_CHUNK_BYTES // (size * weight_VD.shape[0])
    return max(CUDA_LOSS_ROWS if weight_VD.is_cuda else LOSS_ROWS, rows)


def soft_cap(logits: torch.Tensor, cap: float) -> torch.Tensor:
    """`cap * tanh(logits / cap)` in fp32 at least, as Gemma caps its logits; as they are for 0."""
    if not cap:
        return logits
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (wide / cap).tanh_().mul_(cap)


def soft_cap_slope(capped: torch.Tensor, cap: float) -> torch.Tensor:
    """Derivative of `soft_cap` where it returned `capped`."""
    return 1 - (capped / cap) ** 2


class _LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` with its gradients computed in `forward` if `train`."""

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
        losses, correct = hidden_ND.new_zeros((), dtype=torch.float64), targets_N.new_zeros(())
        grad_hidden = torch.empty_like(hidden_ND) if train else None
        grad_weight = total_VD = direct.started(weight_VD) if train else None
        # What is added to the sum of other batches has their scale; else `backward` multiplies.
        scale = 1.0 if total_VD is None else direct.scale
        grad_bias = None
        if bias_V is not None and ctx.needs_input_grad[2]:
            grad_bias = torch.zeros_like(bias_V, dtype=torch.float32)
        rows = chunk_rows(weight)
        for start in range(0, len(targets_N), rows):
            hidden_CD = hidden_ND[start : start + rows].to(dtype)
            logits_CV = matmul.matmul_wide(hidden_CD, weight, bias_V)
            targets_C = targets_N[start : start + rows]
            if is_fused(hidden_CD) and not cap:
                loss, chunk_correct, grad_CV = _fused_chunk_loss(
                    logits_CV, targets_C, scale if train else None
                )
            else:
                loss, chunk_correct, grad_CV = _chunk_loss(
                    logits_CV, targets_C, scale if train else None, cap
                )
            losses += loss
            correct += chunk_correct
            if grad_hidden is None or grad_CV is None:
                continue
            if grad_bias is not None:
                grad_bias += grad_CV.sum(0, dtype=torch.float32)
            grad_CV = grad_CV.to(dtype)
            grad_hidden[start : start + rows] = matmul.grad_input([grad_CV], [weight])
            if ctx.needs_input_grad[1]:
                grad_weight = matmul.add_grad_weight(grad_weight, grad_CV, hidden_CD)
        if total_VD is not None:
            store(weight_VD, total_VD)
            grad_weight = None
        elif grad_weight is not None:
            grad_weight = grad_weight.to(weight_VD.dtype)
        if grad_bias is not None and bias_V is not None:
            grad_bias = grad_bias.to(bias_V.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.scale = None if total_VD is None else scale
        ctx.weight_VD = weight_VD if direct.takes(weight_VD) else None
        ctx.mark_non_differentiable(correct)
        return losses, correct

    @staticmethod
    def backward(
        ctx: Any, grad_loss: torch.Tensor, _grad_correct: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        if ctx.scale is not None:
            if grad_loss.item() != ctx.scale:
                raise RuntimeError(
                    f"the loss was multiplied by {grad_loss.item()}, but its gradient was added "
                    f"for {ctx.scale}: an objective that changes it calls `forward` without `added`"
                )
            grad_loss = torch.ones_like(grad_loss)
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad_loss)
            if ctx.weight_VD is not None:
                store(ctx.weight_VD, grad_weight)
                grad_weight = None
        return (
            grad_hidden * grad_loss,
            grad_weight,
            None if grad_bias is None else grad_bias.mul_(grad_loss),
            None,
            None,
            None,
            None,
            None,
        )


def _chunk_loss(
    logits_CV: torch.Tensor, targets_C: torch.Tensor, scale: float | None, cap: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(sum of losses in float64, correct predictions, gradient (C, V) in fp32).

    The gradient is `scale` times that of the logits before `soft_cap`; None without a scale.
    """
    logits_CV = soft_cap(logits_CV, cap)
    targets_C1 = targets_C[:, None]
    target_C1 = logits_CV.gather(1, targets_C1).float()
    peak_C1, first_C1 = logits_CV.max(1, keepdim=True)
    peak_C1 = peak_C1.float()
    correct = (target_C1 >= peak_C1).sum()
    probs_CV = torch.softmax(logits_CV, 1, dtype=torch.float32)
    # logsumexp = peak - log p(peak): no second pass over the logits.
    losses_C1 = peak_C1 - probs_CV.gather(1, first_C1).log() - target_C1
    loss = losses_C1.sum(dtype=torch.float64)
    if scale is None:
        return loss, correct, None
    grad_CV = probs_CV.scatter_add_(1, targets_C1, torch.full_like(target_C1, -1.0))
    if cap:
        grad_CV *= soft_cap_slope(logits_CV, cap)
    return loss, correct, grad_CV if scale == 1 else grad_CV.mul_(scale)


def _fused_chunk_loss(
    logits_CV: torch.Tensor, targets_C: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """`_chunk_loss` for bf16 logits by compiled passes; the gradient overwrites the logits."""
    logp_C, total_C, first_C = log_probs(logits_CV, targets_C)
    if scale is None:
        return -logp_C.sum(dtype=torch.float64), first_C.sum(), None
    log_probs_backward(logits_CV, targets_C, total_C, torch.full_like(logp_C, -scale))
    return -logp_C.sum(dtype=torch.float64), first_C.sum(), logits_CV


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    cap: float = 0.0,
    bias_V: torch.Tensor | None = None,
    direct: DirectGradients | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of `soft_cap(hidden @ weight.T + bias, cap)` against int64 targets.

    Returns:
        The sum (not the mean) of the losses, () float64 and differentiable once: in fp32 it would
        depend on how a step is cut into batches by 1e-7 of its size; the number of targets that are
        the top-1 prediction, () int64. `dtype` is that of the matrix products. `direct` is for a
        loss that the backward pass begins with.

    """
    train = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        apply: Any = _LinearCrossEntropy.apply
        arguments = hidden_ND, weight_VD, bias_V, targets_N, dtype, train, cap
        loss, correct = apply(*arguments, direct or DirectGradients())
    return loss, correct


def logits_cross_entropy(
    logits_NV: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`linear_cross_entropy` of given logits, for families that modify them after the head."""
    losses_N = cross_entropy(logits_NV.float(), targets_N, reduction="none")
    target_N1 = logits_NV.detach().gather(1, targets_N[:, None])
    correct_N1 = target_N1 >= logits_NV.detach().amax(1, keepdim=True)
    return losses_N.sum(dtype=torch.float64), correct_N1.sum()


# Chunked log-probabilities of given tokens, differentiable per token.
#
# `cross_entropy` returns a sum, whose gradient is known in the forward pass. Preference losses
# weight every answer by a function of its log-probability, so here each token has a gradient of
# its own, and logits are kept or computed again in the backward pass. Runs on every device.
#
# Shapes: N tokens, C of them in a chunk, V vocabulary, D hidden size.


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
