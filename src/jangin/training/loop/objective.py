"""What a training run minimises: the loop knows its rows by number and its batches not at all.

Shapes: N trained tokens of a batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.device import native_precision
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Done:
    """Where a run stands when it writes a line of metrics."""

    step: int
    epoch: float
    learning_rate: float
    grad_norm: float


class Objective(Protocol):
    """Rows to batches, batches to a loss, sums to a line of metrics."""

    scorer: Scorer
    sums: dict[str, torch.Tensor]
    """What a checkpoint must keep beside weights; `loss` is added to by the loop."""
    metrics: type[StepMetrics]
    """What `line` returns."""
    budget: int
    """Most tokens of a batch: `tokens_per_batch`, less where memory ran out."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, as far as they count for the budget."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each row, for messages."""
        ...

    def digests(self) -> list[str]:
        """Of everything but the settings that decides the run."""
        ...

    def batches(self, rows: Sequence[int]) -> list[Any]:
        """These rows as batches within the token budget; each tells its `tokens`."""
        ...

    def weigh(self, batches: Sequence[Any]) -> int:
        """What the summed loss of a step is divided by."""
        ...

    def loss(self, batch: Any) -> torch.Tensor:
        """Sum of losses of one batch; adds its other figures to `sums`."""
        ...

    def line(self, done: Done, *, validate: bool) -> StepMetrics:
        """One line of metrics; starts new sums."""
        ...

    def stop(self, line: StepMetrics) -> str:
        """Why training must end after this line; empty to go on."""
        ...


def matrix_dtype(config: TrainingConfig) -> torch.dtype:
    """In which matrices multiply."""
    precision = native_precision() if config.precision == "auto" else config.precision
    return torch.bfloat16 if precision == "bf16" else torch.float32


def digest_arrays(*arrays: npt.NDArray[Any]) -> list[str]:
    """sha256 of each array's bytes."""
    return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in arrays]


def fingerprint(model: Any) -> str:
    """sha256 of names, shapes and first values of a model's weights: tells one from another."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        first = weight.detach().flatten()[:8].cpu().contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + first.numpy().tobytes())
    return digest.hexdigest()
