"""Masked cross-entropy over packed rows: the objective of SFT and of continued pre-training.

Shapes: R rows of the set, N trained tokens of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from jangin.core.errors import StoreError, TrainingError
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import Batch
from jangin.training.loop.config import EarlyStopping, StepMetrics, TrainingConfig
from jangin.training.loop.objective import (
    Done,
    TrainingResult,
    digest_arrays,
    fingerprint,
    matrix_dtype,
)
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import LossModel, choose_loss_model
from jangin.training.loop.weights import Origin, Start, load_start, start_origin
from jangin.training.objectives.row_files import add_up, measured_rows, read_rows, rows_to_arrays


@dataclass(slots=True)
class SftObjective:
    """Cross-entropy of trained tokens: an `Objective`."""

    loss_model: LossModel
    data: RenderedRows
    validation: RenderedRows | None
    config: TrainingConfig
    device: torch.device
    group: ProcessGroup = field(default_factory=ProcessGroup)
    start: str = ""
    """Fingerprint of the model that training starts from."""
    sums: dict[str, torch.Tensor] = field(init=False)
    budget: int = field(init=False)
    name: ClassVar[str] = "sft"
    metrics: ClassVar[type[StepMetrics]] = StepMetrics

    def __post_init__(self) -> None:
        """Start all sums at zero.

        Raises `TrainingError` where the settings need a validation set that does not exist.
        """
        needs_validation = self.config.keep == "best" or isinstance(
            self.config.early_stopping, EarlyStopping
        )
        if needs_validation and not (self.validation and len(self.validation)):
            raise TrainingError(
                "`early_stopping` and `keep: best` need a validation loss, and there are no "
                "validation rows. Give `split` a validation share, or remove both settings."
            )
        self.budget = self.config.tokens_per_batch
        self.sums = {
            "loss": torch.zeros((), dtype=torch.float64, device=self.device),
            "correct": torch.zeros((), dtype=torch.int64, device=self.device),
            "tokens": torch.zeros((), dtype=torch.int64),
            "all_tokens": torch.zeros((), dtype=torch.int64),
        }

    @classmethod
    def of(
        cls,
        model: Any,
        data: RenderedRows,
        validation: RenderedRows | None,
        config: TrainingConfig,
        group: ProcessGroup | None = None,
    ) -> Self:
        """The loss of `model` on `data`, packed where that is exact, and spread over `group`."""
        device, group = next(model.parameters()).device, group or ProcessGroup()
        start = fingerprint(model)
        loss_model = choose_loss_model(model, data, matrix_dtype(config), device)
        loss_model = group.wrap(loss_model)
        return cls(loss_model, data, validation, config, device, group, start)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(R) tokens of each row."""
        return self.data.lengths

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each row."""
        return self.data.names

    def digests(self) -> list[str]:
        """Of the starting model and of the tokens of both sets."""
        sets = [self.data] if self.validation is None else [self.data, self.validation]
        arrays = (digest_arrays(rows.ids, rows.trained, rows.starts) for rows in sets)
        return [self.start, *(digest for digests in arrays for digest in digests)]

    def batches(self, rows: Sequence[int]) -> list[Batch]:
        """Packed or padded batches."""
        return [
            self.loss_model.batcher(self.data, part, self.device)
            for part in self.loss_model.split(self.data.lengths, rows, self.budget)
        ]

    def loss_denominator(self, batches: Sequence[Batch]) -> int:
        """Trained tokens of these batches; adds them to `sums`."""
        trained = sum(len(batch.targets_N) for batch in batches)
        self.sums["tokens"] += trained
        self.sums["all_tokens"] += trained
        return trained

    def loss(self, batch: Batch) -> torch.Tensor:
        """() float64: cross-entropy in nats, summed over the trained tokens of the batch."""
        loss, correct = self.loss_model.forward(batch, added=True)
        self.sums["correct"] += correct
        return loss

    def line(self, done: Done, *, validate: bool) -> StepMetrics:
        """Means per trained token since the last line.

        With `validate`, every process must call it: sharded weights are gathered.
        """
        tokens = int(self.sums["tokens"])
        count = 0 if self.validation is None else len(self.validation)
        rows, whole = measured_rows(self.config, done, count, validate=validate)
        valid_loss, valid_accuracy = self._validate(rows)
        full_loss, full_accuracy = self._validate(whole)
        line = StepMetrics(
            step=done.step,
            epoch=done.epoch,
            train_loss=self.sums["loss"].item() / tokens,
            train_mean_token_accuracy=self.sums["correct"].item() / tokens,
            valid_loss=valid_loss,
            valid_mean_token_accuracy=valid_accuracy,
            full_valid_loss=full_loss,
            full_valid_mean_token_accuracy=full_accuracy,
            learning_rate=done.learning_rate,
            grad_norm=done.grad_norm,
            trained_tokens=int(self.sums["all_tokens"]),
        )
        for name in ("loss", "correct", "tokens"):
            self.sums[name].zero_()
        return line

    def stop_reason(self, line: StepMetrics) -> str:  # noqa: ARG002  the interface's name
        """Empty: nothing but `early_stopping` ends this training early."""
        return ""

    def finish(
        self,
        result: TrainingResult,
        lines: Sequence[StepMetrics],  # noqa: ARG002  the interface's name
    ) -> TrainingResult:
        """The result as it is."""
        return result

    def _validate(self, rows: Sequence[int]) -> tuple[float | None, float | None]:
        """(loss, top-1 accuracy) per trained token of validation rows; None without rows.

        Every process must call it.
        """
        data = self.validation
        if data is None or not rows:
            return None, None

        def measure(part: Sequence[int]) -> dict[str, torch.Tensor | int]:
            batch = self.loss_model.batcher(data, part, self.device)
            loss, correct = self.loss_model.forward(batch)
            return {"loss": loss, "correct": correct, "tokens": len(batch.targets_N)}

        parts = self.loss_model.split(data.lengths, rows, self.budget)
        zeros = {name: torch.zeros_like(self.sums[name]) for name in ("loss", "correct", "tokens")}
        sums = add_up(self.loss_model, self.group, parts, measure, zeros)
        return sums["loss"] / sums["tokens"], sums["correct"] / sums["tokens"]


@dataclass(frozen=True, slots=True)
class SftTask:
    """Train on the trained tokens of rows: a `Task`."""

    start: Start
    data: RenderedRows
    validation: RenderedRows | None
    name: ClassVar[str] = SftObjective.name
    metrics: ClassVar[type[StepMetrics]] = SftObjective.metrics
    keeps_weights: ClassVar[bool] = False

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(R) tokens of each row."""
        return self.data.lengths

    @property
    def trained_share(self) -> float:
        """Share of the tokens that the loss counts."""
        return float(self.data.trained.mean())

    def load(self, config: TrainingConfig) -> tuple[Any, torch.dtype]:
        """(the base or tuned model, dtype of its checkpoint)."""
        return load_start(self.start, config)

    def origin(self, config: TrainingConfig) -> Origin:
        """The files of that model."""
        return start_origin(self.start, config)

    def objective(self, model: Any, config: TrainingConfig, group: ProcessGroup) -> SftObjective:
        """Cross-entropy of the trained tokens."""
        return SftObjective.of(model, self.data, self.validation, config, group)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write train.npz and validation.npz; returns the folders of the starting model."""
        for name, rows in (("train", self.data), ("validation", self.validation)):
            if rows is not None:
                np.savez(folder / f"{name}.npz", **rows_to_arrays(rows))
        tuned = self.start.tuned
        return {"base": str(self.start.base), "tuned": None if tuned is None else str(tuned)}

    @classmethod
    def read(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """The task that `write` wrote.

        Raises `StoreError` where the training rows are missing.
        """
        data, validation = (read_rows(folder / f"{name}.npz") for name in ("train", "validation"))
        if data is None:
            raise StoreError(f"{folder} has no train.npz. Delete that folder and run again.")
        tuned = Path(settings["tuned"]) if settings["tuned"] else None
        return cls(Start(Path(settings["base"]), tuned), data, validation)
