"""The processes that train one model together: one alone, or several under torchrun.

Each takes its share of a step's rows; weights, gradients and sums are those of the whole step.
DDP keeps a copy of the model in each process, FSDP2 a part of it. torch's own `fully_shard` is
used: accelerate runs DDP without a word where FSDP2 is asked for on a CPU.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed

from jangin.models.loading import base_model
from jangin.training.loop.config import Sharding
from jangin.training.loop.scorer import Scorer

Score = Callable[[Any], tuple[torch.Tensor, torch.Tensor]]

_PATIENCE = timedelta(hours=1)
"""How long the others wait for a process, such as one that writes a large checkpoint."""


class _Forward(torch.nn.Module):
    """A scorer as a module, so that DDP and FSDP2 see each forward pass begin and end."""

    def __init__(self, model: Any, score: Score) -> None:
        super().__init__()
        self.model = model
        self._score = score

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self._score(batch)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the one process that writes."""
        return self.rank == 0

    def share(self, rows: Sequence[int], lengths: npt.NDArray[np.int64]) -> list[int]:
        """The rows of this process: each gets about as many tokens as every other."""
        if self.count == 1:
            return list(rows)
        shares: list[list[int]] = [[] for _ in range(self.count)]
        tokens = [0] * self.count
        for row in sorted(rows, key=lambda r: (-int(lengths[r]), r)):
            least = tokens.index(min(tokens))
            shares[least].append(row)
            tokens[least] += int(lengths[row])
        return shares[self.rank]

    def gather(self, *values: int) -> list[list[int]]:
        """These numbers of every process, by rank."""
        if self.count == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.int64)
        all_values = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(all_values, own)
        return [part.tolist() for part in all_values]

    def any(self, value: bool) -> bool:
        """True if it is in any process."""
        return any(part for (part,) in self.gather(int(value)))

    @contextmanager
    def totals(self, sums: dict[str, torch.Tensor]) -> Iterator[None]:
        """Inside, each process holds the sums over all; afterwards only the first keeps any."""
        scalars = [value for value in sums.values() if value.ndim == 0]
        if self.count > 1:
            for value in scalars:
                distributed.all_reduce(value)
        yield
        if not self.first:
            for value in scalars:
                value.zero_()

    def wrap(self, scorer: Scorer, sharding: Sharding, score: Score | None = None) -> Scorer:
        """The scorer with its model spread over the processes; `score` is what it computes."""
        if self.count == 1:
            return scorer
        module = _Forward(scorer.model, score or scorer.score)
        if sharding == "none":
            from torch.nn.parallel import DistributedDataParallel

            wrapped: Any = DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True
            )
            return replace(scorer, through=wrapped)
        from torch.distributed.fsdp import fully_shard

        base = base_model(scorer.model)
        for layer in base.modules():
            if type(layer).__name__ in (base._no_split_modules or ()):
                fully_shard(layer)
        return replace(scorer, through=fully_shard(module))

    def part(self, scorer: Scorer) -> None:
        """Let go of whole weights, which FSDP2 keeps after a pass that had no backward pass."""
        if hasattr(scorer.through, "reshard"):
            scorer.through.reshard()

    def reduce_gradients(self, scorer: Scorer, *, now: bool) -> Any:
        """A context for a forward and backward pass; DDP reduces only in a step's last one."""
        from torch.nn.parallel import DistributedDataParallel

        if not now and isinstance(scorer.through, DistributedDataParallel):
            return scorer.through.no_sync()
        return nullcontext()

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process of a torchrun launch; its control values go through the CPU."""
    device = torch.device("cpu")
    backend = "gloo"
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
