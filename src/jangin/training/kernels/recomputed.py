"""Tensors that the backward pass computes again, bit for bit, where keeping them costs more.

A norm or an activation is one pass over its rows, and what it is computed from is kept anyway: by
the node that made it, for a gradient of its own. So the node that reads the result keeps that too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How to compute a tensor again."""

    compute: Callable[..., torch.Tensor]
    """Called with `inputs`; it does not read the graph."""
    inputs: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, compute: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Self:
        """`compute` of the inputs, whose storage another node keeps."""
        return cls(compute, tuple(each.detach() for each in inputs))

    @classmethod
    def kept(cls, x: torch.Tensor, again: "Recomputed | None") -> "Recomputed":
        """`again`, or where there is none the tensor itself, which is then kept."""
        return again or cls(_itself, (x,))


def _itself(x: torch.Tensor) -> torch.Tensor:
    return x
