"""Low-rank adapters of projections that share their rows, side by side.

Products with a few columns cost as much as products with many. So all down projections of the same
rows are one product, and what an adapter adds to its projection is added where that is computed.

Shapes: T tokens, D columns of the rows, C columns of a projection, S ranks of one adapter, R ranks
of all, each with its room.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jangin.training.kernels import matmul as products
from jangin.training.kernels.matmul import Low

_ROOM, _GRAIN = 8, 32
"""Each adapter begins at a multiple of the one, and all together are one of the other."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Both matrices in the type in which they multiply."""

    down_SD: torch.Tensor
    up_CS: torch.Tensor
    """Not multiplied with the scale."""
    scale: float


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Adapters of several projections; None for a projection that has none."""

    adapters: tuple[Adapter | None, ...]
    starts: tuple[int, ...]
    """Where each adapter's ranks begin."""
    downs_RD: torch.Tensor

    @classmethod
    def of(cls, adapters: Sequence[Adapter | None]) -> "SideBySide | None":
        """None where no projection has an adapter."""
        ranks = [len(each.down_SD) if each else 0 for each in adapters]
        rooms = [-(-rank // _ROOM) * _ROOM for rank in ranks]
        starts = [sum(rooms[:place]) for place in range(len(rooms))]
        own = [each for each in adapters if each is not None]
        if not own:
            return None
        first = own[0].down_SD
        downs_RD = first.new_zeros(-(-sum(rooms) // _GRAIN) * _GRAIN, first.shape[1])
        for each, start in zip(adapters, starts, strict=True):
            if each is not None:
                downs_RD[start : start + len(each.down_SD)] = each.down_SD
        return cls(tuple(adapters), tuple(starts), downs_RD)

    def low(self, x_TD: torch.Tensor) -> torch.Tensor:
        """(T, R): the rows, projected down by all."""
        return products.times(x_TD, self.downs_RD)

    def added(self, low_TR: torch.Tensor, place: int) -> Low | None:
        """What one projection's adapter adds to it."""
        adapter = self.adapters[place]
        if adapter is None:
            return None
        room = -(-adapter.up_CS.shape[1] // _ROOM) * _ROOM
        up_CS = adapter.up_CS.new_zeros(len(adapter.up_CS), room)
        up_CS[:, : adapter.up_CS.shape[1]] = adapter.up_CS * adapter.scale
        return Low(low_TR, self.starts[place], up_CS)

    def inner(self, grads_TC: Sequence[torch.Tensor]) -> torch.Tensor:
        """(T, R): the gradient of `low`."""
        ranks, own, wide = len(self.downs_RD), [], []
        tiled = products.is_tiled(grads_TC[0], ranks)
        made_TR = grads_TC[0].new_zeros(len(grads_TC[0]), ranks)
        for grad_TC, adapter, start in zip(grads_TC, self.adapters, self.starts, strict=True):
            if adapter is None:
                continue
            up_CS = adapter.up_CS * adapter.scale
            stop = start + up_CS.shape[1]
            if not tiled:
                made_TR[:, start:stop] = grad_TC @ up_CS
                continue
            # Columns of tiles are there in any case: all adapters' products are one sum.
            up_CR = up_CS.new_zeros(len(up_CS), ranks)
            up_CR[:, start:stop] = up_CS
            wide.append(up_CR)
            own.append(grad_TC)
        return products.back(own, wide) if tiled else made_TR

    def down_grads(self, grad_RD: torch.Tensor) -> list[torch.Tensor | None]:
        """Each adapter's own rows."""
        return [
            None if adapter is None else grad_RD[start : start + len(adapter.down_SD)]
            for adapter, start in zip(self.adapters, self.starts, strict=True)
        ]

    def up_grad(self, grad_TC: torch.Tensor, low_TR: torch.Tensor, place: int) -> torch.Tensor:
        """(C, S): the gradient of one up projection."""
        adapter, start = self.adapters[place], self.starts[place]
        if adapter is None:
            raise ValueError(place)
        stop = start + adapter.up_CS.shape[1]
        first, last = start // _GRAIN * _GRAIN, -(-stop // _GRAIN) * _GRAIN
        (grad_CR,) = products.outer([grad_TC], low_TR[:, first:last].contiguous())
        return grad_CR[:, start - first : stop - first] * adapter.scale
