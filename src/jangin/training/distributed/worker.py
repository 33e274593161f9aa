"""A process that torchrun starts: python -m jangin.training.distributed.worker FOLDER.

The folder has task.json, which names the objective, and the rows as that objective wrote them.
"""

import fcntl
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jangin.core.errors import JanginError, StoreError, TrainingError
from jangin.core.events import Progress, packed
from jangin.core.store import JOURNAL
from jangin.models.device import reset_peak_memory
from jangin.training.distributed.launch import OUT_OF_MEMORY, SHARDS, WEIGHTS
from jangin.training.distributed.machines import TASK_FILE
from jangin.training.distributed.sharded_start import load_sharded
from jangin.training.kernels import load_kernels
from jangin.training.loop.checkpoint import pack_weights, write_shards, write_tensors
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.objective import TrainingResult, matrix_dtype
from jangin.training.loop.process_group import ProcessGroup, torchrun_group
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import make_trainable
from jangin.training.objectives.table import ObjectiveRow, find_objective


def send(**message: Any) -> None:
    """Write one JSON line to the launching process.

    Raises `BrokenPipeError` when that is gone, which ends the workers.
    """
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(task_folder: Path) -> int:
    """Train together with the other workers; returns the exit status."""
    settings = json.loads((task_folder / TASK_FILE).read_text())
    folder = Path(settings["folder"])
    with torchrun_group() as group, (folder / JOURNAL / "workers.lock").open("w") as lock:
        if group.is_first:
            # Workers of a run whose parent was killed may still be at their last step.
            fcntl.flock(lock, fcntl.LOCK_EX)
            send(pid=os.getpid())
        group.barrier()
        try:
            result = _train(settings, task_folder, folder, group)
        except KeyboardInterrupt:
            if group.is_first:
                send(stopped=True)
            return 0
        except (JanginError, torch.OutOfMemoryError) as error:
            kind = OUT_OF_MEMORY if isinstance(error, torch.OutOfMemoryError) else type(error)
            send(error={"type": getattr(kind, "__name__", kind), "text": str(error)})
            # Without a barrier: the others may wait in a collective.
            os._exit(1)
        if group.is_first:
            lines = {k: getattr(result, k).model_dump() for k in ("first", "last", "kept")}
            send(result=asdict(result) | lines)
    return 0


def _train(
    settings: dict[str, Any], task_folder: Path, folder: Path, group: ProcessGroup
) -> TrainingResult:
    reset_peak_memory()
    config = TrainingConfig.model_validate_json(json.dumps(settings["config"]))
    progress = Progress(lambda event: send(**packed(event))) if group.is_first else Progress()
    load_kernels(matrix_dtype(config), progress.message)
    task = named_objective(settings, task_folder).task().read(task_folder, settings)
    sharded = config.sharding == "fsdp" and group.size > 1
    model = (
        load_sharded(task.origin(config), config)
        if sharded
        else make_trainable(task.load(config)[0], config)
    )
    objective = task.objective(model, config, group)
    objective.budget = int(settings["budget"])
    result = train(objective, config, folder, progress, group)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if sharded:
        write_shards(folder / JOURNAL / SHARDS, pack_weights(trained))
    elif group.is_first:
        write_tensors(folder / JOURNAL / WEIGHTS, pack_weights(trained))
    return result


def named_objective(settings: dict[str, Any], task_folder: Path) -> ObjectiveRow:
    """The row of the objective that task.json names.

    Raises `StoreError` where it names none, or one that this version does not have.
    """
    try:
        return find_objective(settings.get("objective", ""))
    except TrainingError as error:
        raise StoreError(
            f"{task_folder / TASK_FILE} is of another version of jangin: its `objective` is "
            f"{settings.get('objective')!r}. Delete {task_folder} and run again; training resumes "
            "from its last checkpoint."
        ) from error


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
