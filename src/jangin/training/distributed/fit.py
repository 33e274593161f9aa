"""From a task to a trained model: in this process, or in one process per device."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jangin.core.events import Progress
from jangin.core.store import JOURNAL
from jangin.models.device import reset_peak_memory
from jangin.models.shape import read_context_length
from jangin.training.distributed.launch import SHARDS, WEIGHTS, launch, refuse_unsupported
from jangin.training.kernels import load_kernels
from jangin.training.loop.checkpoint import open_saved, unpack_weights
from jangin.training.loop.config import TrainingConfig, TrainingKeys
from jangin.training.loop.objective import TrainingResult, matrix_dtype
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import load_to_save, make_trainable
from jangin.training.objectives.table import TrainingTask
from jangin.training.preflight.memory import (
    TrainingLoad,
    batch_budget,
    decide_checkpointing,
    recorded,
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model after training."""

    model: Any
    dtype: torch.dtype
    """Of the checkpoint that it started from."""
    result: TrainingResult


def _with_trained_weights(
    task: TrainingTask, config: TrainingConfig, journal: Path
) -> tuple[Any, torch.dtype]:
    """(the model with the weights that the workers wrote, dtype of its checkpoint).

    After sharded training the model is on the CPU, because one GPU may be too small.
    """
    if config.sharding == "fsdp":
        model, dtype = load_to_save(task.origin(config), config)
    else:
        loaded, dtype = task.load(config)
        model = make_trainable(loaded, config)
    # A sharded training that lost all nodes but one ended in a single process, unsharded.
    written = journal / SHARDS / WEIGHTS if (journal / SHARDS).exists() else journal / WEIGHTS
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    unpack_weights(open_saved(written), trained)
    return model, dtype


def row_limit(base: Path, config: TrainingKeys) -> tuple[int, str]:
    """(most tokens of a row, the setting or fact that limits it).

    Raises `MachineError` if the base model's files cannot be read.
    """
    context = read_context_length(base)
    if config.max_row_tokens <= context:
        return config.max_row_tokens, "`max_row_tokens`"
    return context, "the context length of the base model"


def work_of(task: TrainingTask) -> TrainingLoad:
    """What the task computes, for the memory estimate."""
    return TrainingLoad(task.lengths.tolist(), task.trained_share, task.name, task.keeps_weights)


def fit(
    task: TrainingTask,
    keys: TrainingKeys,
    folder: Path,
    progress: Progress,
    loaded: tuple[Any, torch.dtype] | None = None,
    on_epoch: Callable[[Any, torch.dtype, int], None] | None = None,
) -> Trained:
    """Train the model that the task starts from; metrics and checkpoints go to `folder`.

    `on_epoch` gets the model in training, the dtype of its checkpoint and the steps done, after
    each epoch but the last one; one process only.

    `loaded` is what `task.load` returned, if the caller needed it before and has called
    `decide_checkpointing` and reset the peak of memory itself. With several devices leave it out,
    and drop the model: the workers load their own.

    Raises `TrainingError` where training fails, `MachineError` without enough devices, `StoreError`
    on a full disk. After any of them, as after Ctrl-C, the next call resumes.
    """
    config = TrainingConfig.of(keys)
    refuse_unsupported(config)
    base, work = task.start.base, work_of(task)
    budget = batch_budget(base, keys, work)  # knows whether the project file sets it
    if loaded is None:
        config = TrainingConfig.of(decide_checkpointing(base, keys, work))
        reset_peak_memory()
    if config.processes == 1 and config.nodes.launcher != "ray":
        load_kernels(matrix_dtype(config), progress.message)
        model, dtype = loaded or task.load(config)
        model = make_trainable(model, config)
        objective = task.objective(model, config, ProcessGroup())
        objective.budget = budget
        keep = None if on_epoch is None else partial(on_epoch, model, dtype)
        result = train(objective, config, folder, progress, on_epoch=keep)
    else:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        result = launch(task, config, folder, progress, budget)
        model, dtype = _with_trained_weights(task, config, folder / JOURNAL)
    planned = config.model_copy(update={"tokens_per_batch": budget})
    result.runtime.update(recorded(base, planned, work))
    return Trained(model, dtype, result)
