"""Log-probabilities of given tokens without ever holding all logits, differentiable per token.

Unlike the summed cross-entropy of `loss`, each token may get a gradient of its own: preference
losses know only after the forward pass how much every answer counts.

Shapes: N tokens, C of them in a chunk, V vocabulary, D hidden size.
"""

from typing import Any

import torch

from jangin.models.kernel_sizes import PAIR_LOGITS_BYTES
from jangin.training.kernels import matmul as products
from jangin.training.kernels.cross_entropy import rows_at_once
from jangin.training.kernels.elementwise import is_fused, log_probabilities, log_probabilities_back


class _LinearLogProbabilities(torch.autograd.Function):
    """(log-probability of each target, 1 where it was the first choice)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        dtype: torch.dtype,
        train: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = weight_VD.to(dtype)
        size = torch.promote_types(dtype, torch.float32)
        logp_N = hidden_ND.new_empty(len(targets_N), dtype=size)
        total_N1 = hidden_ND.new_empty((len(targets_N), 1), dtype=size)
        first_N = torch.empty_like(targets_N, dtype=torch.bool)
        ctx.rows = rows_at_once(weight)
        keep = train and len(targets_N) * weight_VD.shape[0] * size.itemsize <= PAIR_LOGITS_BYTES
        kept = []
        for part in _parts(len(targets_N), ctx.rows):
            logits_CV = products.times(hidden_ND[part].to(dtype), weight)
            if is_fused(logits_CV):
                made = log_probabilities(logits_CV, targets_N[part])
                logp_N[part], total_N1[part, 0], first_N[part] = made
                if keep:
                    kept.append(logits_CV)
                continue
            logits_CV = logits_CV.to(size)
            target_C1 = logits_CV.gather(1, targets_N[part, None])
            first_N[part] = (target_C1 >= logits_CV.amax(1, keepdim=True))[:, 0]
            total_N1[part] = logits_CV.logsumexp(1, keepdim=True)
            logp_N[part] = (target_C1 - total_N1[part])[:, 0]
            if keep:
                kept.append(logits_CV)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, total_N1, *kept)
        ctx.dtype = dtype
        ctx.mark_non_differentiable(first_N)
        return logp_N, first_N

    @staticmethod
    def backward(
        ctx: Any, grad_N: torch.Tensor, _grad_first: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        hidden_ND, weight_VD, targets_N, total_N1, *kept = ctx.saved_tensors
        weight = weight_VD.to(ctx.dtype)
        grad_hidden = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_weight = None
        for number, part in enumerate(_parts(len(targets_N), ctx.rows)):
            hidden_CD = hidden_ND[part].to(ctx.dtype)
            grad_CV = kept[number] if kept else products.times(hidden_CD, weight)
            if is_fused(grad_CV):
                log_probabilities_back(grad_CV, targets_N[part], total_N1[part, 0], grad_N[part])
            else:
                grad_C1 = grad_N[part, None]
                # d log p(target) / d logit = (1 for the target) - probability
                grad_CV = (grad_CV.to(grad_N.dtype) - total_N1[part]).exp_().mul_(-grad_C1)
                grad_CV = grad_CV.scatter_add_(1, targets_N[part, None], grad_C1).to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = products.back([grad_CV], [weight])
            if ctx.needs_input_grad[1]:
                part_VD = products.outer([grad_CV], hidden_CD)[0].to(weight_VD.dtype)
                grad_weight = part_VD if grad_weight is None else grad_weight.add_(part_VD)
        return grad_hidden, grad_weight, None, None, None


def _parts(count: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, count, rows)]


def linear_log_probs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log p of each target, whether it was the first choice); matrices multiply in `dtype`.

    May be differentiated once.
    """
    train = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        apply: Any = _LinearLogProbabilities.apply
        logp_N, first_N = apply(hidden_ND, weight_VD, targets_N, dtype, train)
    return logp_N, first_N


def logits_log_probs(
    logits_NV: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from ready logits, for families that change them after the head."""
    size = torch.promote_types(logits_NV.dtype, torch.float32)
    target_N = logits_NV.to(size).log_softmax(1).gather(1, targets_N[:, None])[:, 0]
    peak_N = logits_NV.detach().amax(1)
    chosen_N = logits_NV.detach().gather(1, targets_N[:, None])[:, 0]
    return target_N, chosen_N >= peak_N
