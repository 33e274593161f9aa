"""One of the processes that torchrun starts: python -m jangin.training.distributed.worker TASK."""

import fcntl
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jangin.core.errors import JanginError, StoreError
from jangin.core.stage import Progress, Silence
from jangin.core.store import JOURNAL
from jangin.models.device import reset_peak_memory
from jangin.training.distributed.fit import PAIRS, PairTask, train_pairs
from jangin.training.distributed.launch import OUT_OF_MEMORY, WEIGHTS, read_rows
from jangin.training.loop.checkpoint import pack_weights, write_tensors
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.process_group import Ranks, joined
from jangin.training.loop.result import Outcome
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import Start, load_start, make_trainable, open_start


class _Pipe:
    """A `Progress` that writes JSON lines for the process that waits."""

    def start(self, label: str, total: int | None) -> int:
        """Tell that a bar begins."""
        tell(start=label, total=total)
        return 0

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:  # noqa: ARG002
        """Tell that the bar moves; fails when nobody listens any more."""
        tell(advance=steps, note=note)

    def stop(self, bar: int) -> None:
        """The waiting process stops its bars itself."""

    def say(self, text: str) -> None:
        """Tell a line."""
        tell(say=text)


def tell(**said: Any) -> None:
    """Write one line to the process that waits."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main(task: Path) -> int:
    """Train with the others; returns the exit status."""
    about = json.loads((task / "task.json").read_text())
    folder = Path(about["folder"])
    with joined() as ranks, (folder / JOURNAL / "workers.lock").open("w") as lock:
        if ranks.first:
            # Workers of a run whose parent was killed may still be at their last step.
            fcntl.flock(lock, fcntl.LOCK_EX)
            tell(pid=os.getpid())
        ranks.wait()
        try:
            outcome = _train(about, task, folder, ranks)
        except KeyboardInterrupt:
            if ranks.first:
                tell(stopped=True)
            return 0
        except (JanginError, torch.OutOfMemoryError) as error:
            kind = OUT_OF_MEMORY if isinstance(error, torch.OutOfMemoryError) else type(error)
            tell(error={"type": getattr(kind, "__name__", kind), "text": str(error)})
            # Without waiting for the others, which may stand in a collective.
            os._exit(1)
        if ranks.first:
            said = asdict(outcome)
            lines = {k: getattr(outcome, k).model_dump() for k in ("first", "last", "kept")}
            tell(outcome=said | lines)
    return 0


def _train(about: dict[str, Any], task: Path, folder: Path, ranks: Ranks) -> Outcome:
    reset_peak_memory()
    config = TrainingConfig.model_validate_json(json.dumps(about["config"]))
    progress: Progress = _Pipe() if ranks.first else Silence()
    budget = int(about["budget"])
    if (task / PAIRS).exists():
        pairs = PairTask.read(task, about)
        model = make_trainable(load_start(pairs.start, pairs.base, config)[0], config)
        outcome = train_pairs(model, pairs, config, folder, progress, ranks, budget)
    else:
        start = Start(Path(about["base"]), Path(about["tuned"]) if about["tuned"] else None)
        model, _ = open_start(start, config)
        data, validation = read_rows(task / "train.npz"), read_rows(task / "validation.npz")
        if data is None:
            raise StoreError(f"{task} holds no rows. Delete it and run again.")
        outcome = train(model, data, validation, config, folder, progress, ranks, budget)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weights = pack_weights(trained)
    if ranks.first:
        write_tensors(folder / JOURNAL / WEIGHTS, weights)
    return outcome


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
