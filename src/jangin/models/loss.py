"""Cross-entropy of trained tokens without ever holding all logits.

Shapes: N trained tokens, C of them in a chunk, V vocabulary, D hidden size.
The gradient is made in the forward pass, chunk by chunk, as in Liger Kernel (arXiv:2410.10989).
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

CHUNK_BYTES = 32 * 2**20
"""Largest fp32 logits chunk held at once."""


class _LinearCrossEntropy(torch.autograd.Function):
    """(sum of losses, correct predictions) of `hidden @ weight.T` against `targets`."""

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
        losses, correct = hidden_ND.new_zeros((), dtype=torch.float32), targets_N.new_zeros(())
        grad_hidden = torch.empty_like(hidden_ND) if train else None
        grad_weight = None
        rows = max(1, CHUNK_BYTES // (4 * weight_VD.shape[0]))
        for start in range(0, len(targets_N), rows):
            hidden_CD = hidden_ND[start : start + rows].to(dtype)
            targets_C1 = targets_N[start : start + rows, None]
            logits_CV = (hidden_CD @ weight.T).float()
            peak_C1 = logits_CV.amax(1, keepdim=True)
            target_C1 = logits_CV.gather(1, targets_C1)
            correct += (target_C1 >= peak_C1).sum()
            odds_CV = logits_CV.sub_(peak_C1).exp_()
            total_C1 = odds_CV.sum(1, keepdim=True)
            losses += (total_C1.log() + peak_C1 - target_C1).sum()
            if grad_hidden is None:
                continue
            grad_CV = odds_CV.div_(total_C1)
            grad_CV.scatter_add_(1, targets_C1, torch.full_like(target_C1, -1.0))
            grad_CV = grad_CV.to(dtype)
            grad_hidden[start : start + rows] = grad_CV @ weight
            if ctx.needs_input_grad[1]:
                part_VD = (grad_CV.T @ hidden_CD).to(weight_VD.dtype)
                grad_weight = part_VD if grad_weight is None else grad_weight.add_(part_VD)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return losses, correct

    @staticmethod
    def backward(
        ctx: Any, grad_loss: torch.Tensor, _grad_correct: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            grad_hidden * grad_loss,
            None if grad_weight is None else grad_weight.mul_(grad_loss),
            None,
            None,
            None,
        )


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of losses and number of right top-1 predictions; matrices multiply in `dtype`.

    May be differentiated once.
    """
    train = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        apply: Any = _LinearCrossEntropy.apply
        loss, correct = apply(hidden_ND, weight_VD, targets_N, dtype, train)
    return loss, correct


def logits_cross_entropy(
    logits_NV: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from ready logits, for families that change them after the head."""
    loss = cross_entropy(logits_NV.float(), targets_N, reduction="sum")
    target_N1 = logits_NV.detach().gather(1, targets_N[:, None])
    return loss, (target_N1 >= logits_NV.detach().amax(1, keepdim=True)).sum()
