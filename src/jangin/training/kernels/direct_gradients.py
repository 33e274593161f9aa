"""Gradients of head and embedding, added to `.grad` in the pass that computes them.

Each has as many numbers as the vocabulary times the hidden size, in fp32: 640 MiB for Gemma 3 270M.
Autograd would hold that of a batch beside the sum of the batches before, and where head and
embedding share their weight, add the two into a third tensor.

Shapes: U distinct token ids, V vocabulary, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import increment_version


@dataclass(slots=True)
class DirectGradients:
    """Whether gradients of head and embedding bypass autograd; only inside `of_step`."""

    _scale: float | None = None

    @contextmanager
    def of_step(self, scale: float) -> Iterator[None]:
        """Add them to `.grad` inside. Each batch's loss is multiplied by `scale` and nothing else.

        In one process only: hooks of DDP and FSDP2 would not see them.
        """
        self._scale = scale
        try:
            yield
        finally:
            self._scale = None

    def takes(self, weight: torch.Tensor) -> bool:
        """Whether the gradient of this weight is added here: fp32 that is trained, on a CPU.

        On a GPU reading the factor of the loss would wait for the device.
        """
        trained = weight.is_leaf and weight.requires_grad
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        return self._scale is not None and trained and plain

    def started(self, weight: torch.Tensor) -> torch.Tensor | None:
        """The sum of the batches before, if it exists and this one is to be added to it."""
        return weight.grad if self.takes(weight) else None

    @property
    def scale(self) -> float:
        """Factor of the loss of a batch; 1 outside of a step."""
        return 1.0 if self._scale is None else self._scale


def store(weight: torch.Tensor, total: torch.Tensor) -> None:
    """Make `total` the gradient, to which a kernel that autograd does not know may have added."""
    if weight.grad is not total:
        weight.grad = total
    increment_version(total)


def embedding_rows(
    embedding: torch.nn.Embedding, ids_U: torch.Tensor, direct: DirectGradients, *, tied: bool
) -> torch.Tensor:
    """(U, D) rows of the weight, whose gradient `direct` adds where it takes the weight.

    Otherwise a tied weight's is sparse: it has few rows, and the head has a dense one. As in
    transformers, the padding token has none.
    """
    weight, padding = embedding.weight, embedding.padding_idx
    if direct.takes(weight):
        apply: Any = _EmbeddingRows.apply
        rows: torch.Tensor = apply(weight, ids_U, padding)
        return rows
    return torch.nn.functional.embedding(ids_U, weight, padding, sparse=tied)


class _EmbeddingRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight_VD: torch.Tensor, ids_U: torch.Tensor, padding: int | None
    ) -> torch.Tensor:
        ctx.save_for_backward(weight_VD, ids_U)
        ctx.padding = padding
        return weight_VD.index_select(0, ids_U)

    @staticmethod
    def backward(ctx: Any, grad_UD: torch.Tensor) -> tuple[None, None, None]:
        weight_VD, ids_U = ctx.saved_tensors
        if ctx.padding is not None:
            grad_UD = grad_UD.masked_fill((ids_U == ctx.padding)[:, None], 0)
        if weight_VD.grad is None:
            weight_VD.grad = torch.zeros_like(weight_VD)
        weight_VD.grad.index_add_(0, ids_U, grad_UD)
        return None, None, None
