"""From a start and rows to a trained model: in this process, or in one for each device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from jangin.core.stage import Progress
from jangin.core.store import JOURNAL
from jangin.models.checkpoint import unpack_weights
from jangin.models.forecast import Work, forget_peak, recorded, settle_checkpointing
from jangin.models.launch import WEIGHTS, RowsTask, launch
from jangin.models.local import locate, unreachable
from jangin.models.outcome import Outcome
from jangin.models.render import RenderedRows
from jangin.models.settings import TrainingConfig
from jangin.models.train import train
from jangin.models.tune import Start, open_start


@dataclass(frozen=True, slots=True)
class Trained:
    """A model after training."""

    model: Any
    dtype: torch.dtype
    """Of the checkpoint that it started from."""
    outcome: Outcome


def row_limit(base: Path, config: TrainingConfig) -> tuple[int, str]:
    """(most tokens of a row, what sets this limit)."""
    context = context_length(base)
    if config.max_row_tokens <= context:
        return config.max_row_tokens, "`max_row_tokens`"
    return context, "the context length of the base model"


def context_length(base: Path) -> int:
    """Most tokens the model was made for; no weights are read."""
    path, revision = locate(base)
    try:
        config: Any = AutoConfig.from_pretrained(path, revision=revision)
    except OSError as error:
        raise unreachable(str(path), error) from error
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or 2**31)


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
    forget_peak()
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
