"""Cross-entropy and log-probabilities of tokens, in chunks: without all logits in memory.

`linear_cross_entropy` returns a sum, whose gradient is computed in the forward pass, chunk by
chunk, as in Liger Kernel (arXiv:2410.10989). Preference losses weight every answer by a function of
its log-probability, so each token of `linear_log_probs` has a gradient of its own, and logits are
kept or computed again in the backward pass. Both run on every device.

Shapes: N trained tokens, C of them in a chunk, V vocabulary, D hidden size.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from jangin.models.memory import CUDA_LOSS_ROWS, LOSS_CHUNK_BYTES, LOSS_ROWS, PAIR_LOGITS_BYTES
from jangin.training.kernels import (
    DirectGradients,
    add_grad_weight,
    cast,
    grad_input,
    is_fused,
    log_probs,
    log_probs_backward,
    matmul_wide,
    store,
)


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


class _Chunk(NamedTuple):
    part: slice
    """Its tokens."""
    hidden_CD: torch.Tensor
    logits_CV: torch.Tensor
    """Before `soft_cap`, unless they were kept."""


def _chunks(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    dtype: torch.dtype,
    kept_logits: Sequence[torch.Tensor] = (),
) -> Iterator[_Chunk]:
    """Logits of `chunk_rows` tokens at a time, computed in `dtype` unless they were kept."""
    rows = chunk_rows(weight_VD)
    for index, start in enumerate(range(0, len(hidden_ND), rows)):
        part = slice(start, start + rows)
        hidden_CD = hidden_ND[part].to(dtype)
        if kept_logits:
            yield _Chunk(part, hidden_CD, kept_logits[index])
        else:
            yield _Chunk(part, hidden_CD, matmul_wide(hidden_CD, weight_VD, bias_V))


class _Gradients:
    """Sums over the chunks: of hidden states, weight and bias of the head; None if not wanted."""

    def __init__(
        self,
        hidden_ND: torch.Tensor,
        bias_V: torch.Tensor | None,
        total_VD: torch.Tensor | None,
        wanted: Sequence[bool],
        size: torch.dtype,
    ) -> None:
        """`total_VD`: what the weight's is added to; `size`: dtype of the bias's sum."""
        self.hidden_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        self.weight_VD, self._is_weight_wanted = total_VD, wanted[1]
        self.bias_V: torch.Tensor | None = None
        if bias_V is not None and wanted[2]:
            self.bias_V = torch.zeros_like(bias_V, dtype=size)

    def add(self, chunk: _Chunk, weight_VD: torch.Tensor, grad_CV: torch.Tensor) -> None:
        """Add those that follow from the gradient of a chunk's logits."""
        if self.bias_V is not None:
            self.bias_V += grad_CV.sum(0, dtype=self.bias_V.dtype)
        grad_CV = grad_CV.to(chunk.hidden_CD.dtype)
        if self.hidden_ND is not None:
            self.hidden_ND[chunk.part] = grad_input([grad_CV], [weight_VD])
        if self._is_weight_wanted:
            self.weight_VD = add_grad_weight(self.weight_VD, grad_CV, chunk.hidden_CD)


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
        total_VD = direct.started(weight_VD) if train else None
        wanted = [train and needed for needed in ctx.needs_input_grad[:3]]
        grads = _Gradients(hidden_ND, bias_V, total_VD, wanted, torch.float32)
        # What is added to the sum of other batches has their scale; else `backward` multiplies.
        scale = 1.0 if total_VD is None else direct.scale
        for chunk in _chunks(hidden_ND, weight, bias_V, dtype):
            loss, chunk_correct, grad_CV = _chunk_loss(
                chunk.logits_CV, targets_N[chunk.part], scale if train else None, cap
            )
            losses += loss
            correct += chunk_correct
            if grad_CV is not None:
                grads.add(chunk, weight, grad_CV)
        grad_weight, grad_bias = grads.weight_VD, grads.bias_V
        if total_VD is not None:
            store(weight_VD, total_VD)
            grad_weight = None
        elif grad_weight is not None:
            grad_weight = grad_weight.to(weight_VD.dtype)
        if grad_bias is not None and bias_V is not None:
            grad_bias = grad_bias.to(bias_V.dtype)
        ctx.save_for_backward(grads.hidden_ND, grad_weight, grad_bias)
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
            None if grad_hidden is None else grad_hidden * grad_loss,
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
    if is_fused(logits_CV) and not cap:
        return _fused_chunk_loss(logits_CV, targets_C, scale)
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
        keep = train and len(targets_N) * weight_VD.shape[0] * size.itemsize <= PAIR_LOGITS_BYTES
        kept_logits = []
        for chunk in _chunks(hidden_ND, weight, bias_V, dtype):
            part, _, logits_CV = chunk
            if is_fused(logits_CV) and not cap:
                results = log_probs(logits_CV, targets_N[part])
                logp_N[part], total_N1[part, 0], first_N[part] = results
            else:
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
        total_VD = ctx.direct.started(weight_VD)
        wanted = ctx.needs_input_grad[:3]
        grads = _Gradients(hidden_ND, bias_V, total_VD, wanted, total_N1.dtype)
        for chunk in _chunks(hidden_ND, weight, bias_V, ctx.dtype, kept_logits):
            part, _, logits_CV = chunk
            if is_fused(logits_CV) and not ctx.cap:
                log_probs_backward(logits_CV, targets_N[part], total_N1[part, 0], grad_N[part])
                grads.add(chunk, weight, logits_CV)
                continue
            if not kept_logits:
                logits_CV = soft_cap(logits_CV, ctx.cap)
            grad_C1 = grad_N[part, None]
            # d log p(target) / d logit = (1 for the target) - probability
            grad_CV = (logits_CV.to(grad_N.dtype) - total_N1[part]).exp_().mul_(-grad_C1)
            grad_CV = grad_CV.scatter_add_(1, targets_N[part, None], grad_C1)
            if ctx.cap:
                grad_CV *= soft_cap_slope(logits_CV, ctx.cap)
            grads.add(chunk, weight, grad_CV)
        grad_weight, grad_bias = grads.weight_VD, grads.bias_V
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VD.dtype)
            if ctx.direct.takes(weight_VD):
                store(weight_VD, grad_weight)
                grad_weight = None
        grad_bias = None if grad_bias is None else grad_bias.to(bias_V.dtype)
        return grads.hidden_ND, grad_weight, grad_bias, None, None, None, None, None


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
