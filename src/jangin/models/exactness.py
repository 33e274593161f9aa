"""Probes for exactness: how far a faster forward pass is from the model's own."""

import math
from typing import Any

import torch

TOLERANCE = 1e-3
"""Largest accepted difference of two fp32 forward passes, as a share of the largest value."""


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
    weight = base.get_output_embeddings().weight
    return weight.dtype == torch.float32 and not getattr(base, "is_quantized", False)
