"""The processes that train one model together: a single one, or several under torchrun.

Each process handles its part of a step's rows; weights, gradients and sums are those of the whole
step. DDP keeps a copy of the model in each process, FSDP2 a part of it (see `sharding`).

Methods marked "collective" communicate: every process must call them, in the same order.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed

from jangin.training.loop.scorer import LossModel
from jangin.training.loop.sharding import is_sharded, run_inside

Forward = Callable[[Any], tuple[torch.Tensor, torch.Tensor]]

_ADAPTER_SHARE = 20
"""Where at most one weight in this many is trained, whole gradients are small."""
_TIMEOUT = timedelta(hours=1)
"""How long a collective waits for a process, such as one that writes a large checkpoint."""


class _ForwardModule(torch.nn.Module):
    """A loss model as a module, so that DDP sees each forward pass begin and end."""

    def __init__(self, model: Any, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self._forward = forward

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self._forward(batch)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True for rank 0, the only process that writes files."""
        return self.rank == 0

    def own_rows(self, rows: Sequence[int], lengths: npt.NDArray[np.int64]) -> list[int]:
        """The rows of this process; see `shares`."""
        return self.shares(rows, lengths)[self.rank]

    def shares(self, rows: Sequence[int], lengths: npt.NDArray[np.int64]) -> list[list[int]]:
        """The rows of each process: longest first, each to the process with the fewest tokens.

        `lengths` is (R) int64, indexed by row. All processes compute the same split.
        """
        if self.size == 1:
            return [list(rows)]
        shares: list[list[int]] = [[] for _ in range(self.size)]
        tokens = [0] * self.size
        for row in sorted(rows, key=lambda r: (-int(lengths[r]), r)):
            least = tokens.index(min(tokens))
            shares[least].append(row)
            tokens[least] += int(lengths[row])
        return shares

    def all_gather(self, *values: int) -> list[list[int]]:
        """These integers of every process, by rank. Collective."""
        if self.size == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.int64)
        all_values = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(all_values, own)
        return [part.tolist() for part in all_values]

    def any(self, value: bool) -> bool:
        """True if it is true in any process. Collective."""
        return any(part for (part,) in self.all_gather(int(value)))

    @contextmanager
    def reduced(self, sums: dict[str, torch.Tensor]) -> Iterator[None]:
        """Inside, scalars in `sums` hold the totals of all processes. Collective.

        Changes `sums` in place. Afterwards the first process keeps the totals and the others have
        zeros, so that reducing again counts nothing twice.
        """
        scalars = [value for value in sums.values() if value.ndim == 0]
        if self.size > 1:
            for value in scalars:
                distributed.all_reduce(value)
        yield
        if not self.is_first:
            for value in scalars:
                value.zero_()

    def wrap(self, loss_model: LossModel, forward: Forward | None = None) -> LossModel:
        """`loss_model` with its model in DDP, unless it is sharded already. Collective.

        `forward` is what a pass computes, by default `loss_model.forward`.
        """
        if self.size == 1:
            return loss_model
        forward = forward or loss_model.forward
        if is_sharded(loss_model.model):
            return replace(loss_model, through=partial(run_inside, loss_model.model, forward))
        from torch.nn.parallel import DistributedDataParallel

        wrapped: Any = DistributedDataParallel(
            _ForwardModule(loss_model.model, forward),
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
        return replace(loss_model, through=wrapped)

    def reshard(self, loss_model: LossModel) -> None:
        """Free the full weights that FSDP2 keeps after a forward pass without a backward pass."""
        if is_sharded(loss_model.model):
            loss_model.model.reshard()

    def gradient_sync(self, loss_model: LossModel, *, last: bool) -> Any:
        """A context for a forward and backward pass; the last one of a step reduces gradients.

        FSDP does so for adapters only: a process would have to keep whole gradients until then.
        """
        from torch.nn.parallel import DistributedDataParallel

        if is_sharded(loss_model.model):
            weights = list(loss_model.model.parameters())
            trained = sum(p.numel() for p in weights if p.requires_grad)
            few = trained * _ADAPTER_SHARE <= sum(p.numel() for p in weights)
            loss_model.model.set_requires_gradient_sync(last or not few)
        if not last and isinstance(loss_model.through, DistributedDataParallel):
            return loss_model.through.no_sync()
        return nullcontext()

    def barrier(self) -> None:
        """Wait until all processes have called it. Collective."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def torchrun_group() -> Iterator[ProcessGroup]:
    """The group of a torchrun launch, from its environment variables. Collective.

    Integers travel through gloo on the CPU, tensors on a GPU through NCCL.
    """
    device = torch.device("cpu")
    backend = "gloo"
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
