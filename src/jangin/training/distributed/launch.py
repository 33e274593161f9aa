"""Train on several devices of this machine: torchrun starts a worker for each, this one waits.

<workspace>/journal/task/     what the workers read: task.json and the rows
<workspace>/journal/trained.safetensors   what they leave behind beside metrics and checkpoints

The first worker writes one JSON object per line to its standard output. When this process dies,
that pipe breaks, the first worker with it, and torchrun ends the others.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jangin.core import errors
from jangin.core.errors import JanginError, MachineError, TrainingError
from jangin.core.stage import Progress
from jangin.core.store import JOURNAL, disk_errors
from jangin.models.tokens.chat_template import RenderedRows
from jangin.training.loop.config import DpoMetrics, Qlora, StepMetrics, TrainingConfig
from jangin.training.loop.result import Outcome
from jangin.training.loop.weights import Start

TASK, WEIGHTS, LOG = "task", "trained.safetensors", "workers.log"
OUT_OF_MEMORY = "OutOfMemoryError"


class Task(Protocol):
    """What the workers do."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        ...

    def write(self, task: Path) -> dict[str, Any]:
        """Write the rows into a folder; returns what else the workers must know."""
        ...


@dataclass(frozen=True, slots=True)
class RowsTask:
    """Train on the trained tokens of rows."""

    start: Start
    data: RenderedRows
    validation: RenderedRows | None

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.data.lengths.max())

    def write(self, task: Path) -> dict[str, Any]:
        """Write train.npz and validation.npz."""
        for name, rows in (("train", self.data), ("validation", self.validation)):
            if rows is not None:
                np.savez(task / f"{name}.npz", **pack_rows(rows))
        tuned = self.start.tuned
        return {"base": str(self.start.base), "tuned": None if tuned is None else str(tuned)}


def launch(task: Task, config: TrainingConfig, folder: Path, progress: Progress) -> Outcome:
    """Run the workers until they are done; whatever happened, calling it again goes on.

    When a device runs out of memory, all start again from the last checkpoint with batches of
    half the tokens.
    """
    _refuse(config)
    journal, budget = folder / JOURNAL, config.tokens_per_batch
    longest = task.longest
    while True:
        written = _write_task(journal, task, config, budget)
        ended = watch(start_workers(written, config, journal / LOG), journal / LOG, progress)
        if isinstance(ended, Outcome):
            return ended
        if budget <= longest:
            raise TrainingError(
                f"not even a single row of {longest} tokens fits into memory. Set "
                "`activation_checkpointing: always`, `sharding: fsdp`, a smaller "
                "`max_row_tokens`, or take a smaller base."
            )
        budget //= 2
        progress.say(
            f"out of memory; going on with batches of {budget} tokens, the loss stays the same"
        )


def _refuse(config: TrainingConfig) -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < config.devices:
        raise MachineError(
            f"`devices: {config.devices}` needs as many GPUs, and this machine has "
            f"{torch.cuda.device_count()}. Lower it."
        )
    if isinstance(config.method, Qlora) and config.sharding == "fsdp":
        raise TrainingError(
            "weights in 4 bits cannot be sharded. Use `sharding: none`, or `method: {type: lora}`."
        )


def _write_task(journal: Path, task: Task, config: TrainingConfig, budget: int) -> Path:
    folder = journal / TASK
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors(folder):
        folder.mkdir(parents=True)
        about = {
            "folder": str(journal.parent),
            "config": config.model_dump(mode="json", include={*TrainingConfig.model_fields}),
            "budget": budget,
            **task.write(folder),
        }
        (folder / "task.json").write_text(json.dumps(about))
    return folder


def pack_rows(rows: RenderedRows) -> dict[str, Any]:
    """Rows as arrays to save."""
    return {
        "ids": rows.ids,
        "trained": rows.trained,
        "starts": rows.starts,
        "names": np.array(rows.names),
        "stop_ids": np.array(rows.stop_ids, dtype=np.int64),
    }


def read_rows(path: Path) -> RenderedRows | None:
    """Rows that were written for the workers; None where there are none."""
    if not path.exists():
        return None
    with np.load(path) as held:
        return unpack_rows(held)


def unpack_rows(held: Mapping[str, Any]) -> RenderedRows:
    """What `pack_rows` packed."""
    return RenderedRows(
        ids=held["ids"],
        trained=held["trained"],
        starts=held["starts"],
        names=tuple(str(name) for name in held["names"]),
        stop_ids=tuple(int(stop) for stop in held["stop_ids"]),
    )


def start_workers(task: Path, config: TrainingConfig, log: Path) -> subprocess.Popen[str]:
    """Run torchrun in a session of its own."""
    threads = config.threads or max(1, len(os.sched_getaffinity(0)) // config.devices)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    worker = [
        "--nproc-per-node",
        str(config.devices),
        "-m",
        "jangin.training.distributed.worker",
        str(task),
    ]
    with log.open("wb") as errors_of_workers:
        return subprocess.Popen(  # noqa: S603  our own interpreter and module
            [*torchrun, *worker],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=errors_of_workers,
            text=True,
            # Ctrl-C is for this process, which asks the workers to stop between two steps.
            start_new_session=True,
        )


def watch(process: subprocess.Popen[str], log: Path, progress: Progress) -> Outcome | None:
    """Pass on what the workers say; None when they ran out of memory."""
    interrupted, bars = False, dict[int, int]()
    ended: dict[str, Any] = {}
    with process:
        try:
            while True:
                try:
                    line = process.stdout.readline() if process.stdout else ""
                    if not line:
                        break
                    ended |= _hear(line, progress, bars)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    with suppress(ProcessLookupError):
                        os.kill(ended.get("pid", process.pid), signal.SIGINT)
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
            for bar in bars.values():
                progress.stop(bar)
    if "outcome" in ended:
        return _outcome(ended["outcome"])
    if "stopped" in ended:
        raise KeyboardInterrupt
    if ended.get("error", {}).get("type") == OUT_OF_MEMORY:
        return None
    raise _error(ended.get("error"), log)


def _hear(line: str, progress: Progress, bars: dict[int, int]) -> dict[str, Any]:
    """Do what one line says; returns what the end of the run must know."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}  # a library's own words
    if "start" in said:
        bars[0] = progress.start(said["start"], said["total"])
    elif "advance" in said:
        progress.advance(bars[0], said["advance"], said["note"])
    elif "say" in said:
        progress.say(said["say"])
    else:
        return dict(said)
    return {}


def _outcome(said: dict[str, Any]) -> Outcome:
    names = ("first", "last", "kept")
    kind = DpoMetrics if "chosen_drift" in said["last"] else StepMetrics
    lines = {name: kind.model_validate(said[name]) for name in names}
    return Outcome(**said | lines)


def _error(said: dict[str, str] | None, log: Path) -> JanginError:
    """The error of the first worker, or what the log of all of them tells."""
    if said is not None:
        kind = getattr(errors, said["type"], TrainingError)
        return kind(said["text"]) if issubclass(kind, JanginError) else TrainingError(said["text"])
    lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    last = lines[-1].strip() if lines else "no reason given"
    return TrainingError(
        f"a worker ended before its time: {last} Look into {log} and run again to go on."
    )
