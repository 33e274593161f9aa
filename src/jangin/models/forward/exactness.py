"""Probes for exactness: how far a faster forward pass is from the model's own."""

import math
from collections.abc import Callable
from typing import Any

import torch

TOLERANCE = 1e-3
"""Largest accepted difference of two fp32 forward passes, as a share of the largest value."""
_NOISE_FACTOR = 3
_MOST_NOISE = 0.2


def max_difference(
    values: torch.Tensor, reference: torch.Tensor, least_scale: float = 0.0
) -> float:
    """Largest absolute difference of two float tensors of one shape, relative to the reference.

    It is divided by the largest absolute value of `reference`, or by `least_scale` if that is
    larger. NaN where either tensor holds NaN; where both of these are 0, 0 for equal tensors and
    infinity for others.
    """
    difference = (values - reference).abs().max().item()
    # In this order: max(nan, 0.0) is NaN, but max(0.0, nan) is 0.0.
    scale = max(reference.abs().max().item(), least_scale)
    if scale == 0:
        return difference * math.inf if difference else 0.0
    return difference / scale


def computes_in_fp32(base: Any) -> bool:
    """True for a model whose head is fp32 and whose weights are not quantized."""
    head = base.get_output_embeddings()
    weight = next(base.parameters()) if head is None else head.weight
    return weight.dtype == torch.float32 and not getattr(base, "is_quantized", False)


def rounding_noise(
    base: Any, logits: Callable[[], torch.Tensor], fused: torch.Tensor | None = None
) -> float:
    """How far `logits()` of transformers' own two attentions are apart: the model's rounding noise.

    `fused` is what it returned with SDPA, where that is known. 0 where a model has only one of
    them. The model keeps the attention that it has.
    """
    if not getattr(base, "_supports_sdpa", False):
        return 0.0
    before = base.config._attn_implementation
    try:
        if fused is None:
            base.set_attn_implementation("sdpa")
            fused = logits().float()
        base.set_attn_implementation("eager")
        return max_difference(fused, logits().float())
    finally:
        base.set_attn_implementation(before)


def half_precision_tolerance(noise: float, times: float) -> float:
    """Accepted difference of bf16 logits: `times` `TOLERANCE`, more for a noisy model.

    A wrong mask or position changes logits by half of their size and more, noise by a twentieth.
    """
    return max(times * TOLERANCE, min(_NOISE_FACTOR * noise, _MOST_NOISE))
