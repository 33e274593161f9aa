"""From a start and rows to a trained model: in this process, or in one for each device."""

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from jangin.core.errors import TrainingError
from jangin.core.stage import Progress
from jangin.core.store import JOURNAL
from jangin.models.device import reset_peak_memory
from jangin.models.shape import read_context_length
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.pair_packing import PairRows
from jangin.training.distributed.launch import WEIGHTS, RowsTask, launch, pack_rows, unpack_rows
from jangin.training.loop.checkpoint import unpack_weights
from jangin.training.loop.config import DpoMetrics, TrainingConfig
from jangin.training.loop.dpo_objective import (
    DpoLoss,
    DpoTerms,
    PairScorer,
    choose_pair_scorer,
    reference_log_probabilities,
)
from jangin.training.loop.objective import fingerprint
from jangin.training.loop.process_group import Ranks
from jangin.training.loop.result import Outcome
from jangin.training.loop.trainer import METRICS, minimise, train
from jangin.training.loop.weights import Start, load_start, make_trainable, open_start
from jangin.training.preflight.memory import Work, recorded, settle_checkpointing


@dataclass(frozen=True, slots=True)
class Trained:
    """A model after training."""

    model: Any
    dtype: torch.dtype
    """Of the checkpoint that it started from."""
    outcome: Outcome


def row_limit(base: Path, config: TrainingConfig) -> tuple[int, str]:
    """(most tokens of a row, what sets this limit)."""
    context = read_context_length(base)
    if config.max_row_tokens <= context:
        return config.max_row_tokens, "`max_row_tokens`"
    return context, "the context length of the base model"


def fit(
    start: Start,
    data: RenderedRows,
    validation: RenderedRows | None,
    config: TrainingConfig,
    folder: Path,
    progress: Progress,
) -> Trained:
    """Train what `start` names on `data`; metrics and checkpoints go to `folder`."""
    work = Work(data.lengths.tolist(), float(data.trained.mean()))
    config = settle_checkpointing(start.base, config, work)
    reset_peak_memory()
    if config.devices == 1:
        model, dtype = open_start(start, config)
        outcome = train(model, data, validation, config, folder, progress)
    else:
        outcome = launch(RowsTask(start, data, validation), config, folder, progress)
        model, dtype = open_start(start, config)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        unpack_weights(load_file(folder / JOURNAL / WEIGHTS), trained)
    outcome.runtime.update(recorded(start.base, config, work))
    return Trained(model, dtype, outcome)


PAIRS = "pairs.npz"


@dataclass(frozen=True, slots=True)
class PairTask:
    """All that training on pairs needs beside a model and settings."""

    start: Path
    """Artifact of the tuned model."""
    base: Path
    data: PairRows
    reference_2R: torch.Tensor
    """NaN where the first step of training tells it, and writes it."""
    terms: DpoTerms
    remedy: str
    """What to change when there is nothing good to keep."""

    @property
    def longest(self) -> int:
        """Tokens of the longest pair."""
        return int(self.data.lengths.max())

    def write(self, task: Path) -> dict[str, Any]:
        """Write what workers read; returns what else they must know."""
        np.savez(
            task / PAIRS,
            **pack_rows(self.data.both),
            stems=self.data.stems,
            pairs=np.array(self.data.names),
            reference=self.reference_2R.numpy(),
        )
        return {
            "base": str(self.base),
            "start": str(self.start),
            "terms": asdict(self.terms),
            "remedy": self.remedy,
        }

    @classmethod
    def read(cls, task: Path, about: dict[str, Any]) -> "PairTask":
        """What `write` wrote."""
        with np.load(task / PAIRS) as held:
            names = tuple(str(name) for name in held["pairs"])
            data = PairRows(unpack_rows(held), held["stems"], names)
            reference_2R = torch.from_numpy(held["reference"])
        terms, places = DpoTerms(**about["terms"]), (Path(about["start"]), Path(about["base"]))
        return cls(*places, data, reference_2R, terms, about["remedy"])


def reference_sums(
    scorer: PairScorer, data: PairRows, rows: Sequence[int], budget: int, progress: Progress
) -> torch.Tensor:
    """(2, R): log-probability of each answer under the model as it is; NaN but for these rows.

    Batches that are too large for the device's memory are halved.
    """
    device = next(scorer.scorer.model.parameters()).device
    longest = int(scorer.lengths(data).max())
    while True:
        try:
            return reference_log_probabilities(scorer, data, rows, budget, device)
        except torch.OutOfMemoryError as error:
            if budget <= longest:
                raise TrainingError(
                    f"not even a single pair of {longest} tokens fits into memory. Set a smaller "
                    "`max_row_tokens`, `method: {type: qlora}`, or take a smaller base."
                ) from error
        budget //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
        progress.say(
            f"out of memory; the reference goes on with batches of {budget} tokens, "
            "its figures stay the same"
        )


def tune_pairs(
    model: Any, task: PairTask, config: TrainingConfig, folder: Path, progress: Progress
) -> tuple[Any, Outcome]:
    """(the trained model, how it went) in this process; `model` is the policy as it came."""
    model = make_trainable(model, config)
    return model, train_pairs(model, task, config, folder, progress)


def tune_on_devices(
    task: PairTask, config: TrainingConfig, folder: Path, progress: Progress
) -> tuple[Any, Outcome]:
    """The same in one process for each device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    outcome = launch(task, config, folder, progress)
    model, _ = load_start(task.start, task.base, config)
    model = make_trainable(model, config)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    unpack_weights(load_file(folder / JOURNAL / WEIGHTS), trained)
    return model, outcome


def train_pairs(
    model: Any,
    task: PairTask,
    config: TrainingConfig,
    folder: Path,
    progress: Progress,
    ranks: Ranks | None = None,
    budget: int | None = None,
) -> Outcome:
    """Train `model` in place; the outcome's `kept` is the line at whose step its weights stood.

    Raises `TrainingError` when chosen answers were too unlikely from the first metrics on.
    """
    device, ranks = next(model.parameters()).device, ranks or Ranks()
    # The terms stand in the digests of the loss, so these settings decide the run.
    config = TrainingConfig.model_validate(
        config.model_dump(include={*TrainingConfig.model_fields})
    )
    scorer, start = choose_pair_scorer(model, task.data, config, device), fingerprint(model)
    wrapped = ranks.wrap(scorer.scorer, config.sharding, scorer.score)
    scorer = replace(scorer, scorer=wrapped)
    parts = (scorer, task.data, task.reference_2R, config, task.terms, device, ranks)
    objective = DpoLoss(*parts, start)
    objective.budget = budget or objective.budget
    outcome = minimise(objective, config, folder, progress, ranks)
    if not outcome.stopped:
        return outcome
    if not objective.kept_step:
        raise TrainingError(
            f"dpo: chosen answers had become too unlikely at the first line of metrics (step "
            f"{outcome.steps}). {task.remedy}"
        )
    objective.restore_kept()
    lines = map(DpoMetrics.model_validate_json, (folder / METRICS).read_bytes().splitlines())
    kept = next(line for line in lines if line.step == objective.kept_step)
    return replace(outcome, kept=kept)
