"""Masked cross-entropy over packed rows: the objective of SFT and continued pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import Batch, split_by_budget
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.objective import Done, digest_arrays, fingerprint, matrix_dtype
from jangin.training.loop.process_group import Ranks
from jangin.training.loop.scorer import Scorer, choose_scorer


@dataclass(slots=True)
class TokenLoss:
    """Cross-entropy of trained tokens: an `Objective`."""

    scorer: Scorer
    data: RenderedRows
    validation: RenderedRows | None
    config: TrainingConfig
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    start: str = ""
    """Fingerprint of the model that training starts from."""
    sums: dict[str, torch.Tensor] = field(init=False)
    budget: int = field(init=False)
    metrics: type[StepMetrics] = StepMetrics

    def __post_init__(self) -> None:
        """Start all sums at zero."""
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
        ranks: Ranks | None = None,
    ) -> "TokenLoss":
        """Score `model` on `data` in the fastest exact way."""
        device, ranks = next(model.parameters()).device, ranks or Ranks()
        start = fingerprint(model)
        scorer = choose_scorer(model, data, matrix_dtype(config), device)
        scorer = ranks.wrap(scorer, config.sharding)
        return cls(scorer, data, validation, config, device, ranks, start)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row."""
        return self.data.lengths

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each row."""
        return self.data.names

    def digests(self) -> list[str]:
        """Of the model's start and of the tokens of both sets."""
        sets = [self.data] if self.validation is None else [self.data, self.validation]
        arrays = (digest_arrays(rows.ids, rows.trained, rows.starts) for rows in sets)
        return [self.start, *(digest for digests in arrays for digest in digests)]

    def batches(self, rows: Sequence[int]) -> list[Batch]:
        """Packed or padded batches."""
        return [
            self.scorer.batcher(self.data, part, self.device)
            for part in split_by_budget(self.data.lengths, rows, self.budget)
        ]

    def weigh(self, batches: Sequence[Batch]) -> int:
        """Trained tokens."""
        trained = sum(len(batch.targets_N) for batch in batches)
        self.sums["tokens"] += trained
        self.sums["all_tokens"] += trained
        return trained

    def loss(self, batch: Batch) -> torch.Tensor:
        """Sum over trained tokens."""
        loss, correct = self.scorer.score(batch)
        self.sums["correct"] += correct
        return loss

    def line(self, done: Done, *, validate: bool) -> StepMetrics:
        """Means per trained token."""
        tokens = int(self.sums["tokens"])
        valid_loss, valid_accuracy = self._validate() if validate else (None, None)
        line = StepMetrics(
            step=done.step,
            epoch=done.epoch,
            train_loss=self.sums["loss"].item() / tokens,
            train_mean_token_accuracy=self.sums["correct"].item() / tokens,
            valid_loss=valid_loss,
            valid_mean_token_accuracy=valid_accuracy,
            learning_rate=done.learning_rate,
            grad_norm=done.grad_norm,
            trained_tokens=int(self.sums["all_tokens"]),
        )
        for name in ("loss", "correct", "tokens"):
            self.sums[name].zero_()
        return line

    def stop(self, line: StepMetrics) -> str:  # noqa: ARG002  the interface's name
        """Never before the last step."""
        return ""

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, float | None]:
        """(loss, top-1 accuracy) per trained token of the validation set; None without rows."""
        data = self.validation
        if data is None or not len(data):
            return None, None
        self.scorer.model.eval()
        parts = split_by_budget(data.lengths, range(len(data)), self.budget)
        sums = {name: torch.zeros_like(self.sums[name]) for name in ("loss", "correct", "tokens")}
        for first in range(0, len(parts), self.ranks.count):
            place = first + self.ranks.rank
            # Sharded weights come together only if every process computes as often as the others.
            batch = self.scorer.batcher(data, parts[min(place, len(parts) - 1)], self.device)
            loss, correct = self.scorer.score(batch)
            if place < len(parts):
                sums["loss"] += loss
                sums["correct"] += correct
                sums["tokens"] += len(batch.targets_N)
        self.scorer.model.train()
        self.ranks.part(self.scorer)
        with self.ranks.totals(sums):
            tokens = int(sums["tokens"])
            return sums["loss"].item() / tokens, int(sums["correct"]) / tokens
