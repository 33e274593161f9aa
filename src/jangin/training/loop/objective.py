"""Interface between the training loop and a loss.

The loop handles row indices only; batches are opaque to it, so an objective may compute them in any
way: pack rows, or let the model under training write answers first.

Shapes: R rows of the set. A step has a list of rows, which become batches of at most `budget`
tokens; with several processes each handles its own part of the rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.device import native_precision
from jangin.training.loop.config import StepMetrics, TrainingKeys
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.sharding import first_values

# The result of a training run.


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Steps, losses, and figures of the machine."""

    steps: int
    """Optimizer steps done."""
    trained_tokens: int
    first: StepMetrics
    """The first line of metrics."""
    last: StepMetrics
    kept: StepMetrics
    """The line of the step whose weights are the result."""
    runtime: dict[str, Any]
    """Speed, memory and machine; not part of an artifact's content."""
    stopped: str = ""
    """Why the run ended before its last step; empty if it did not."""

    def figures(self) -> dict[str, Any]:
        """For the summary of an artifact."""
        return {
            "steps": self.steps,
            "epochs": self.last.epoch,
            "kept_step": self.kept.step,
            "trained_tokens": self.trained_tokens,
            "train_loss": self.kept.train_loss,
            "train_mean_token_accuracy": self.kept.train_mean_token_accuracy,
            "valid_loss": self.kept.valid_loss,
            "valid_mean_token_accuracy": self.kept.valid_mean_token_accuracy,
            "stopped": self.stopped,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """How far a run is when it writes a line of metrics."""

    step: int
    """Optimizer steps done."""
    epoch: float
    learning_rate: float
    """Of the last step."""
    grad_norm: float
    """Of the last step, before clipping."""
    epoch_ends: bool = False
    """Whether this is the last step of an epoch or of the run."""


class Objective(Protocol):
    """Rows to batches, batches to a loss, sums to a line of metrics."""

    loss_model: LossModel
    sums: dict[str, torch.Tensor]
    """Figures that a checkpoint keeps beside the weights. A scalar is a sum over the rows of this
    process and is added up over all processes; any other tensor is the same in every process. The
    loop adds to `loss`."""
    budget: int
    """Most tokens of a batch: `tokens_per_batch`, or less after running out of memory."""

    @property
    def name(self) -> str:
        """Name in the table of objectives; a checkpoint of another objective is not resumed."""
        ...

    @property
    def metrics(self) -> type[StepMetrics]:
        """Class of what `line` returns."""
        ...

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(R) tokens of each row as they count for the budget, the same in every process."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each of the R rows, for messages."""
        ...

    def digests(self) -> list[str]:
        """Digests of all that decides the run, beside the settings of `TrainingKeys`."""
        ...

    def batches(self, rows: Sequence[int]) -> list[Any]:
        """These rows as batches within the budget; each has the attribute `tokens`.

        Called once per step and process with the current weights, also again after running out of
        memory, with the random state restored. It may generate.
        """
        ...

    def loss_denominator(self, batches: Sequence[Any]) -> int:
        """What this process adds to the denominator of the step's loss, such as trained tokens.

        Called once per step and by every process, also by those without a batch; may add to `sums`.
        """
        ...

    def loss(self, batch: Any) -> torch.Tensor:
        """(): sum of the losses of one batch, not a mean; adds its other figures to `sums`.

        It is the sum of this process, with a graph for the backward pass.
        """
        ...

    def line(self, done: Done, *, validate: bool) -> StepMetrics:
        """A line of metrics from `sums`, which hold the totals of all processes; resets them.

        Every process must call it.
        """
        ...

    def stop_reason(self, line: StepMetrics) -> str:
        """Why training must end after this line; empty to continue. Every process must call it."""
        ...

    def finish(self, result: TrainingResult, lines: Sequence[StepMetrics]) -> TrainingResult:
        """The final result; may put earlier weights back. Every process must call it.

        `lines` are those of metrics.jsonl.
        """
        ...


def matrix_dtype(config: TrainingKeys) -> torch.dtype:
    """Dtype of matrix products: with `auto`, bf16 where the hardware supports it, else fp32."""
    precision = native_precision() if config.precision == "auto" else config.precision
    return torch.bfloat16 if precision == "bf16" else torch.float32


def digest_arrays(*arrays: npt.NDArray[Any]) -> list[str]:
    """sha256 of each array's bytes."""
    return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in arrays]


def fingerprint(model: Any) -> str:
    """sha256 of the names, shapes and first eight values of all weights: identifies a model.

    The same for a sharded model as for a whole one, and collective then.
    """
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        first = first_values(weight, 8).contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + first.numpy().tobytes())
    return digest.hexdigest()
