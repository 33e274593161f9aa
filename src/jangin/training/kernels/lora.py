"""LoRA (arXiv:2106.09685) for projections with a shared input.

A product with few columns costs as much as one with many. So the down projections of all adapters
on the same input are stacked into one matrix and one product, and each adapter's up projection is
summed into the product of its own projection (`matmul.matmul`).

Shapes: T tokens, D input features, C output features of a projection, S ranks of one adapter,
R ranks of all adapters, each padded with zeros to a multiple of 8 and their sum to one of 32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jangin.training.kernels import matmul
from jangin.training.kernels.matmul import LowRank

_RANK_GRAIN, _GRAIN = 8, 32
"""Each adapter's ranks are padded to a multiple of the first, R to one of the second."""


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One LoRA adapter, both matrices in the dtype of the matrix products."""

    down_SD: torch.Tensor
    up_CS: torch.Tensor
    """Without the scale."""
    scale: float


@dataclass(frozen=True, slots=True)
class StackedLora:
    """Adapters of several projections; None for a projection that has none."""

    adapters: tuple[AdapterWeights | None, ...]
    starts: tuple[int, ...]
    """First row of each adapter in `downs_RD`."""
    downs_RD: torch.Tensor
    """All down projections; padding rows are zero."""

    @classmethod
    def of(cls, adapters: Sequence[AdapterWeights | None]) -> "StackedLora | None":
        """Stack the adapters (None: that projection has none); None if there is no adapter."""
        ranks = [len(each.down_SD) if each else 0 for each in adapters]
        widths = [-(-rank // _RANK_GRAIN) * _RANK_GRAIN for rank in ranks]
        starts = [sum(widths[:index]) for index in range(len(widths))]
        own = [each for each in adapters if each is not None]
        if not own:
            return None
        first = own[0].down_SD
        downs_RD = first.new_zeros(-(-sum(widths) // _GRAIN) * _GRAIN, first.shape[1])
        for each, start in zip(adapters, starts, strict=True):
            if each is not None:
                downs_RD[start : start + len(each.down_SD)] = each.down_SD
        return cls(tuple(adapters), tuple(starts), downs_RD)

    def down(self, x_TD: torch.Tensor) -> torch.Tensor:
        """(T, R): x projected by all down projections."""
        return matmul.matmul(x_TD, self.downs_RD)

    def up(self, down_TR: torch.Tensor, index: int) -> LowRank | None:
        """The term that adapter `index` adds to its projection; down_TR is the result of `down`."""
        adapter = self.adapters[index]
        if adapter is None:
            return None
        width = -(-adapter.up_CS.shape[1] // _RANK_GRAIN) * _RANK_GRAIN
        up_CS = adapter.up_CS.new_zeros(len(adapter.up_CS), width)
        up_CS[:, : adapter.up_CS.shape[1]] = adapter.up_CS * adapter.scale
        return LowRank(down_TR, self.starts[index], up_CS)

    def grad_down(self, grads_TC: Sequence[torch.Tensor]) -> torch.Tensor:
        """(T, R): gradient of the result of `down` from those (T, C) of the projections."""
        ranks, own, wide = len(self.downs_RD), [], []
        tiled = matmul.is_tiled(grads_TC[0], ranks)
        grad_TR = grads_TC[0].new_zeros(len(grads_TC[0]), ranks)
        for grad_TC, adapter, start in zip(grads_TC, self.adapters, self.starts, strict=True):
            if adapter is None:
                continue
            up_CS = adapter.up_CS * adapter.scale
            stop = start + up_CS.shape[1]
            if not tiled:
                grad_TR[:, start:stop] = grad_TC @ up_CS
                continue
            # A tile computes 32 columns in any case, so one sum over padded matrices is cheapest.
            up_CR = up_CS.new_zeros(len(up_CS), ranks)
            up_CR[:, start:stop] = up_CS
            wide.append(up_CR)
            own.append(grad_TC)
        return matmul.grad_input(own, wide) if tiled else grad_TR

    def split_grad_downs(self, grad_RD: torch.Tensor) -> list[torch.Tensor | None]:
        """Views of each adapter's rows (S, D) in the gradient of `downs_RD`; None without one."""
        return [
            None if adapter is None else grad_RD[start : start + len(adapter.down_SD)]
            for adapter, start in zip(self.adapters, self.starts, strict=True)
        ]

    def grad_up(self, grad_TC: torch.Tensor, down_TR: torch.Tensor, index: int) -> torch.Tensor:
        """(C, S): gradient of up projection `index`; down_TR is the result of `down`."""
        adapter, start = self.adapters[index], self.starts[index]
        if adapter is None:
            raise ValueError(f"projection {index} has no adapter")
        stop = start + adapter.up_CS.shape[1]
        first, last = start // _GRAIN * _GRAIN, -(-stop // _GRAIN) * _GRAIN
        (grad_CR,) = matmul.grad_weight([grad_TC], down_TR[:, first:last].contiguous())
        return grad_CR[:, start - first : stop - first] * adapter.scale
