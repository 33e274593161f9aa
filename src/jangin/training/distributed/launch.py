"""Train on several devices: torchrun starts a worker for each, this process waits.

<workspace>/journal/task/     what the workers read: task.json and the rows
<workspace>/journal/trained.safetensors   the trained weights that the first one writes, or
<workspace>/journal/trained/   those of a sharded model, of which each writes its rows

task.json names the objective (see `objectives.table`), and has the settings and what the objective
adds. The first worker writes one JSON object per line to its standard output. When this process
dies, that pipe breaks, the first worker ends with it, and torchrun ends the others.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jangin.core import errors
from jangin.core.errors import JanginError, MachineError, TrainingError, counted
from jangin.core.events import Progress, WorkBegins, WorkEnds, unpacked
from jangin.core.store import JOURNAL, disk_errors
from jangin.models.device import growing_segments
from jangin.training.distributed.machines import (
    TASK_FILE,
    LostWorkersError,
    Node,
    gathered,
    slurm_workers,
)
from jangin.training.distributed.ray_nodes import RayNodes, placed, require_cluster, started
from jangin.training.loop.config import (
    AdamW8bit,
    AdamWBf16,
    AdamWOffload,
    Adapter,
    Qlora,
    StepMetrics,
    TrainingConfig,
)
from jangin.training.loop.objective import TrainingResult
from jangin.training.objectives.table import TrainingTask

TASK, WEIGHTS, SHARDS, LOG = "task", "trained.safetensors", "trained", "workers.log"
SLURM_LOG = "srun.log"
OUT_OF_MEMORY = "OutOfMemoryError"
_MOST_LOSSES = 3
"""Losses of workers without a checkpoint between them, after which training fails."""


def launch(
    task: TrainingTask, config: TrainingConfig, folder: Path, progress: Progress, budget: int = 0
) -> TrainingResult:
    """Run the workers until they are done. After any error, the next call resumes.

    `budget` is the most tokens of a batch, 0: that of `config`.

    When a device runs out of memory, all workers restart from the last checkpoint with batches of
    half the tokens.

    Raises `MachineError` with fewer GPUs than `devices`, `TrainingError` where not even a single
    row fits or a worker ends without a result, the worker's own error where it had one, and
    `KeyboardInterrupt` after Ctrl-C, when the workers have saved a checkpoint.
    """
    if config.nodes.launcher != "ray":
        refuse_missing(config)
    journal, budget = folder / JOURNAL, budget or config.tokens_per_batch
    longest = int(task.lengths.max())
    shutil.rmtree(journal / SHARDS, ignore_errors=True)
    while True:
        if config.nodes.launcher == "ray":
            result = _attempt_on_ray(journal, task, config, progress, budget)
        else:
            task_folder = _write_task(journal, task, config, budget)
            result = _attempt(task_folder, config, progress, task.metrics)
        if result is not None:
            return result
        if budget <= longest:
            spread = "more `devices`" if config.sharding == "fsdp" else "`sharding: fsdp`"
            raise TrainingError(
                f"out of memory with a single row of {longest} tokens. Set "
                f"`activation_checkpointing: always`, {spread} or a smaller "
                "`max_row_tokens`, or choose a smaller base model."
            )
        budget //= 2
        progress.message(
            f"out of memory; continuing with batches of {budget} tokens, which does not change "
            "the loss"
        )


def _attempt(
    task: Path, config: TrainingConfig, progress: Progress, metrics: type[StepMetrics]
) -> TrainingResult | None:
    """The result of the workers of all machines; None when memory ran out on one of them."""
    log = task.parent / LOG
    if config.nodes.count == 1:
        return watch(start_workers(task, config, log), log, progress, metrics)
    if config.nodes.launcher == "slurm":
        with slurm_workers(config.nodes.count, task.parent / SLURM_LOG) as others:
            nodes = config.nodes.model_copy(update={"rendezvous": others.rendezvous})
            config = config.model_copy(update={"nodes": nodes})
            return _attempt_gathered(task, config, progress, metrics, others.check)
    return _attempt_gathered(task, config, progress, metrics)


def _attempt_gathered(
    task: Path,
    config: TrainingConfig,
    progress: Progress,
    metrics: type[StepMetrics],
    check: Callable[[], None] | None = None,
) -> TrainingResult | None:
    log = task.parent / LOG
    with gathered(task, config, progress, check) as machines:
        process = start_workers(task, config, log, machines.node)
        machines.watch(process)
        try:
            result = watch(process, log, progress, metrics)
        except TrainingError:
            if machines.failure is None:
                raise
            result = None
        if result is None:
            machines.stop()
        if machines.failure is None or machines.failure["type"] == OUT_OF_MEMORY:
            return result
        raise _error(machines.failure, log)


def _attempt_on_ray(
    journal: Path, task: TrainingTask, config: TrainingConfig, progress: Progress, budget: int
) -> TrainingResult | None:
    """The result of workers on the nodes of a Ray cluster; None when memory ran out on one.

    Workers that were lost begin again from the last checkpoint, with fewer nodes where one is gone.
    """
    require_cluster()
    losses, last_checkpoint = 0, ""
    while True:
        with placed(config, progress) as actors:
            nodes = config.nodes.model_copy(update={"count": len(actors)})
            smaller = config.model_copy(update={"nodes": nodes})
            folder = _write_task(journal, task, smaller, budget)
            log = journal / LOG
            try:
                workers = started(actors, start_workers, folder, smaller, log)
                return watch(workers, log, progress, task.metrics)
            except LostWorkersError:
                checkpoint = max((path.name for path in journal.rglob("step-*")), default="")
                losses = 1 if checkpoint > last_checkpoint else losses + 1
                if losses == _MOST_LOSSES:
                    raise
        last_checkpoint = max(checkpoint, last_checkpoint)
        progress.message("a node or a process of the training was lost; resuming")
        shutil.rmtree(journal / SHARDS, ignore_errors=True)


def refuse_unsupported(config: TrainingConfig) -> None:
    """Raise `TrainingError` where settings exclude each other."""
    if config.sharding == "fsdp" and config.processes > 1:
        if config.compile == "layers":
            raise TrainingError(
                "`compile: layers` cannot be used with `sharding: fsdp`. Remove one of them."
            )
        if isinstance(config.method, Qlora):
            raise TrainingError(
                "`sharding: fsdp` cannot shard the 4-bit weights of `method: {type: qlora}`. Use "
                "`sharding: none`, or `method: {type: lora}`."
            )
        if isinstance(config.optimizer, AdamW8bit | AdamWBf16):
            raise TrainingError(
                f"`optimizer: {{type: {config.optimizer.type}}}` cannot be sharded. Use "
                "`sharding: none`, or remove `optimizer`: sharding divides its state by the number "
                "of devices."
            )
    if isinstance(config.optimizer, AdamWOffload) and config.processes > 1:
        raise TrainingError(
            "`optimizer: {type: adamw_offload}` trains on one device. With several, use "
            "`sharding: fsdp` and remove `optimizer`."
        )
    if isinstance(config.optimizer, AdamWBf16 | AdamWOffload) and isinstance(
        config.method, Adapter
    ):
        raise TrainingError(
            f"`optimizer: {{type: {config.optimizer.type}}}` is for `method: {{type: full}}`; the "
            "state of an adapter is small. Remove `optimizer`."
        )


def refuse_missing(config: TrainingConfig) -> None:
    """Raise `MachineError` where this machine has fewer GPUs than `devices`."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < config.devices:
        raise MachineError(
            f"`devices: {config.devices}`, but this machine has "
            f"{counted(torch.cuda.device_count(), 'GPU')}. "
            "Lower `devices`."
        )


def _write_task(journal: Path, task: TrainingTask, config: TrainingConfig, budget: int) -> Path:
    """The folder of the task, rewritten, so that no file of an earlier launch is read."""
    folder = journal / TASK
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors(folder):
        folder.mkdir(parents=True)
        settings = {
            "objective": task.name,
            "launch": uuid.uuid4().hex,
            "folder": str(journal.parent),
            "config": config.model_dump(mode="json", include={*TrainingConfig.model_fields})
            | {"learning_rate": config.rate},
            "budget": budget,
            **task.write(folder),
        }
        (folder / TASK_FILE).write_text(json.dumps(settings))
    return folder


def start_workers(
    task: Path, config: TrainingConfig, log: Path, node: Node | None = None
) -> subprocess.Popen[str]:
    """Torchrun with a worker per device, in a session of its own; standard error goes to `log`.

    `node` is this machine's among several.
    """
    threads = config.threads or max(1, len(os.sched_getaffinity(0)) // config.devices)
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    torchrun += node.options if node else ["--standalone"]
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
            env=growing_segments() | os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=errors_of_workers,
            text=True,
            # Ctrl-C reaches this process only, which then interrupts the first worker.
            start_new_session=True,
        )


def watch(
    process: subprocess.Popen[str] | RayNodes,
    log: Path,
    progress: Progress,
    metrics: type[StepMetrics],
) -> TrainingResult | None:
    """The result of the workers, whose progress is passed on; None when memory ran out.

    `metrics` is the class of the objective's lines. The first Ctrl-C interrupts the workers between
    two steps, a second one stops waiting for them.

    Raises what the first worker reported, `LostWorkersError` where it reported nothing, and
    `KeyboardInterrupt` once the workers ended after Ctrl-C.
    """
    interrupted, open_work = False, set[int]()
    last: dict[str, Any] = {}
    with process:
        try:
            while True:
                try:
                    line = process.stdout.readline() if process.stdout else ""
                    if not line:
                        break
                    last |= _pass_on(line, progress, open_work)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    _interrupt(process, last.get("pid"))
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
            for work in open_work:
                progress.stop(work)
    if "result" in last:
        return _parse_result(last["result"], metrics)
    if "stopped" in last or (interrupted and "error" not in last):
        raise KeyboardInterrupt  # workers that were still starting have no checkpoint to save
    if last.get("error", {}).get("type") == OUT_OF_MEMORY:
        return None
    raise _error(last.get("error"), log)


def _interrupt(process: "subprocess.Popen[str] | RayNodes", worker: int | None) -> None:
    """Ctrl-C for the first worker, or for the process that starts it."""
    if isinstance(process, RayNodes):
        process.interrupt(worker)
        return
    with suppress(ProcessLookupError):
        os.kill(worker or process.pid, signal.SIGINT)


def _pass_on(line: str, progress: Progress, open_work: set[int]) -> dict[str, Any]:
    """Emit the event that one line reports; returns what matters at the end of the run."""
    try:
        message: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}  # output of a library
    if "event" not in message:
        return message
    event = unpacked(message)
    if isinstance(event, WorkBegins):
        open_work.add(event.work)
    elif isinstance(event, WorkEnds):
        open_work.discard(event.work)
    progress.emit(event)
    return {}


def _parse_result(fields: dict[str, Any], metrics: type[StepMetrics]) -> TrainingResult:
    lines = {name: metrics.model_validate(fields[name]) for name in ("first", "last", "kept")}
    return TrainingResult(**fields | lines)


def _error(reported: dict[str, str] | None, log: Path) -> JanginError:
    """The error of the first worker, or the last one in the log of all of them."""
    if reported is not None:
        kind, text = getattr(errors, reported["type"], TrainingError), reported["text"]
        return kind(text) if issubclass(kind, JanginError) else TrainingError(text)
    logs = sorted(log.parent.glob(f"{log.stem}*{log.suffix}"))
    texts = [path.read_text(errors="replace") for path in logs]
    lines = [line for text in texts for line in text.splitlines() if "Error" in line]
    last = lines[-1].strip() if lines else "it logged no error"
    return LostWorkersError(
        f"a worker ended without a result: {last}. See {log}, and run again to resume."
    )
