"""The training loop: one flat pass over optimizer steps, resumable at any of them.

It minimises an `Objective`. The loss is a sum, divided by the denominator of the whole step (such
as its trained tokens), so splitting a step into batches changes nothing. Row order is a function of
seed and step, so a killed run that resumes from its last checkpoint repeats the same metrics and
weights, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
import torch

from jangin.core.digest import digest_value
from jangin.core.errors import TrainingError
from jangin.core.events import Progress, TrainingResumes
from jangin.core.execution.signals import interrupted
from jangin.core.jsonl import append_jsonl
from jangin.core.store import JOURNAL, RUNTIME
from jangin.models.device import peak_memory
from jangin.models.tokens.packing import rows_of_step, steps_per_epoch
from jangin.training.kernels import release_freed_memory, tune_malloc
from jangin.training.loop.checkpoint import (
    Position,
    Saved,
    find_checkpoint,
    load_best,
    pack_state,
    pack_weights,
    save_best,
    save_checkpoint,
    unpack_state,
    unpack_weights,
)
from jangin.training.loop.config import (
    EarlyStopping,
    Epochs,
    Never,
    Pace,
    StepMetrics,
    TrainingConfig,
    TrainingKeys,
)
from jangin.training.loop.gradient_accumulation import Gradient
from jangin.training.loop.objective import Done, Objective, TrainingResult
from jangin.training.loop.optimizers import OffloadedAdamW, make_optimizer
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.sharding import full_tensor, is_sharded, local_tensor

# Early stopping on the validation loss, and the best line of metrics.
#
# Both depend on the lines of metrics only, so a resumed run decides the same.


def best_line(lines: Sequence[StepMetrics]) -> StepMetrics | None:
    """The first line with the lowest validation loss; None where it was not measured."""
    measured = [line for line in lines if line.valid_loss is not None]
    return min(measured, key=lambda line: line.valid_loss or 0.0, default=None)


def early_stop_reason(lines: Sequence[StepMetrics], stopping: EarlyStopping | Never) -> str:
    """Why training must end after the last of these lines; empty to continue."""
    if isinstance(stopping, Never):
        return ""
    best, since = float("inf"), 0
    for line in lines:
        if line.valid_loss is None:
            continue
        better = line.valid_loss < best - stopping.min_gain
        best, since = (line.valid_loss, 0) if better else (best, since + 1)
    if since < stopping.patience:
        return ""
    return f"{since} measurements without a lower validation loss than {best:.4f}"


METRICS = "metrics.jsonl"
PACE = f"{RUNTIME}/pace.jsonl"
_NAMED_ROWS = 8
_WARM_UP_ROWS = 10_000
"""The largest batch is searched among this many rows ahead."""


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a run writes, and what identifies its checkpoints."""

    checkpoints: Path
    metrics: Path
    pace: Path
    plan: str
    """Digest of everything that decides the run."""
    threads: int


@dataclass(slots=True)
class _Run:
    """The state of a training run."""

    objective: Objective
    config: TrainingConfig
    device: torch.device
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    gradient: Gradient
    group: ProcessGroup
    files: _Files = field(init=False)
    lines: list[StepMetrics] = field(default_factory=list)
    """All lines of metrics.jsonl so far."""
    unchecked: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    """(step, (2) [loss, gradient norm]) on the device, not yet checked for NaN and infinity: a
    check waits for the device, so it is made where a line or a checkpoint is written."""
    on_epoch: Callable[[int], None] | None = None
    """Called with the step after each epoch but the last one."""
    paced: tuple[float, int] = (0.0, 0)
    """(monotonic seconds, tokens of the gradient) where the last line was finished."""


def train(
    objective: Objective,
    config: TrainingKeys,
    folder: Path,
    progress: Progress,
    group: ProcessGroup | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Train the objective's model in place; metrics and checkpoints go to `folder`.

    `on_epoch` is called with the number of steps done, after each epoch but the last one; a
    resumed run repeats the calls after its checkpoint.

    Collective: with several processes every one must call it. After any error, the next call
    resumes from the last checkpoint.

    Raises `TrainingError` on a loss or gradient that is not finite or on several `devices` without
    `group`, `StoreError` on a full disk, and `KeyboardInterrupt` after Ctrl-C, which saves a
    checkpoint first.
    """
    # What is a stage's own is in the digests of its objective.
    config = TrainingConfig.of(config)
    group = group or ProcessGroup()
    if group.size == 1 and config.processes > 1:
        raise TrainingError(
            f"`devices: {config.devices}`, but this stage trains on one device only. Set it to 1."
        )
    checkpoints = folder / JOURNAL / "checkpoints"
    about = {"tokens": objective.digests(), "sums": sorted(objective.sums)}
    plan = digest_value({"config": config.identity(), **about})
    checkpoint = find_checkpoint(checkpoints, plan, objective.name)
    start = checkpoint[0].step if checkpoint else 0
    total = total_steps(config, len(objective.names))
    with (
        compute_threads(checkpoint[0].threads if checkpoint else config.threads) as threads,
        interrupted() as stop,
        _bar(progress, total - start) as bar,
    ):
        run = _begin(objective, config, progress, group)
        run.on_epoch = on_epoch
        run.files = _Files(checkpoints, folder / METRICS, folder / PACE, plan, threads)
        if checkpoint:
            _resume(run, *checkpoint)
        _report_start(progress, checkpoints, start, total)
        _read_lines(run, checkpoint[0].metrics_bytes if checkpoint else 0)
        _reset_peak(run.device)
        # Not on a CPU, which swaps instead of failing: there the extra batch only costs time.
        if run.device.type == "cuda":
            ahead = range(start, min(total, start + -(-_WARM_UP_ROWS // config.examples_per_step)))
            run.gradient.warm_up_memory([_rows(run, step) for step in ahead])
        run.gradient.begin(total - start, checkpoint[0].layers if checkpoint else "")
        started = time.monotonic()
        run.paced = (started, run.gradient.tokens)
        with closing(run.gradient.layers):
            stopped = _steps(run, range(start, total), stop, progress, bar)
        result = _result(run, stopped, time.monotonic() - started)
        return objective.finish(result, run.lines)


def _steps(run: _Run, steps: range, stop: Event, progress: Progress, bar: int) -> str:
    """The loop over optimizer steps; returns the reason for an early stop, or an empty string.

    Collective. Raises `KeyboardInterrupt` once `stop` is set, after saving a checkpoint.
    """
    objective, config, group, total = run.objective, run.config, run.group, steps.stop
    per_epoch = steps_per_epoch(len(objective.names), config.examples_per_step)
    saved, note = time.monotonic(), ""
    for step in steps:
        rate = learning_rate(config, step, total)
        norm = _step(run, step, rate)
        done = step + 1
        validate = done % config.validate_every_steps == 0 or done == total
        epoch_ends = done % per_epoch == 0 or done == total
        whole = epoch_ends and config.validation == "batches"
        if validate or whole or done % config.log_every_steps == 0:
            at = Done(done, round(done / per_epoch, 6), rate, norm.item(), epoch_ends)
            line = _line(run, at, validate=validate)
            note = f"loss {line.train_loss:.3f}"
            stopped = objective.stop_reason(line)
            stopped = stopped or early_stop_reason(run.lines, config.early_stopping)
            if stopped:
                progress.message(f"stopped after step {done} of {total}: {stopped}")
                return stopped
        if run.on_epoch is not None and epoch_ends and done < total:
            _check_finite(run)
            run.on_epoch(done)
        due = time.monotonic() - saved > config.checkpoint_every_seconds
        due = due or done % config.checkpoint_every_steps == 0
        # By the clock of the first process, so that all save at the same step.
        if done < total and group.all_gather(int(due))[0][0]:
            _save(run, done)
            saved = time.monotonic()
        progress.advance(bar, 1, note)
        if done < total and group.any(stop.is_set()):
            _save(run, done)
            progress.message(f"stopped after step {done} of {total}; run again to resume")
            raise KeyboardInterrupt
    return ""


def total_steps(config: TrainingConfig, rows: int) -> int:
    """Optimizer steps of the whole run."""
    if isinstance(config.length, Epochs):
        return config.length.epochs * steps_per_epoch(rows, config.examples_per_step)
    return config.length.steps


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Learning rate of optimizer step `step` of `total`, counted from 0: warm-up, then schedule."""
    warmup = math.ceil(config.warmup_fraction * total)
    if step < warmup:
        return config.rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.rate
    done = (step - warmup + 1) / (total - warmup + 1)
    fall = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.rate * fall


def _begin(
    objective: Objective, config: TrainingConfig, progress: Progress, group: ProcessGroup
) -> _Run:
    tune_malloc()
    release_freed_memory(0)  # of reading the tokenizer and the weights, and of probing
    loss_model = objective.loss_model
    model = loss_model.model.train()
    if not loss_model.packed:
        progress.message(
            f"rows are padded instead of packed, because of this model: {loss_model.reason}"
        )
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return _Run(
        objective,
        config,
        next(model.parameters()).device,
        parameters,
        make_optimizer(config, list(parameters.values()), loss_model.dtype),
        Gradient(objective, config, progress, group),
        group,
    )


def _resume(run: _Run, position: Position, saved: Saved) -> None:
    """Restore the state of a checkpoint. Collective if the model is sharded."""
    sums = run.objective.sums
    unpack_state(saved, run.parameters, run.optimizer, sums)
    run.objective.budget = min(run.objective.budget, position.budget or run.objective.budget)
    if not run.group.is_first:
        for value in sums.values():
            if value.ndim == 0:  # a checkpoint has the totals, which the first process keeps
                value.zero_()


def _read_lines(run: _Run, length: int) -> None:
    """Truncate metrics.jsonl to what the checkpoint knows and read it. Collective."""
    if run.group.is_first:
        with run.files.metrics.open("ab") as stream:
            stream.truncate(length)
    run.group.barrier()
    lines = run.files.metrics.read_bytes()[:length].splitlines()
    run.lines = [run.objective.metrics.model_validate_json(line) for line in lines]


def _save(run: _Run, step: int) -> None:
    """Write a checkpoint. Collective: of a sharded model every process writes its rows."""
    _check_finite(run)
    with run.group.reduced(run.objective.sums):
        tensors = pack_state(run.parameters, run.optimizer, run.objective.sums)
        if _writes(run):
            best = best_line(run.lines) if run.config.keep == "best" else None
            save_checkpoint(
                run.files.checkpoints, _position(run, step), tensors, best.step if best else None
            )


def _writes(run: _Run) -> bool:
    return run.group.is_first or is_sharded(run.objective.loss_model.model)


def _position(run: _Run, step: int) -> Position:
    files, objective = run.files, run.objective
    size = files.metrics.stat().st_size
    return Position(
        step,
        size,
        files.threads,
        files.plan,
        objective.budget,
        objective.name,
        run.gradient.layers.decided,
    )


def _line(run: _Run, at: Done, *, validate: bool) -> StepMetrics:
    """Write one line of metrics, and the weights if they are the best so far. Collective."""
    _check_finite(run)
    pace = _pace(run, at.step)
    if validate or (at.epoch_ends and run.config.validation == "batches"):
        run.gradient.arena.release()  # A validation takes memory of its own.
    with run.group.reduced(run.objective.sums):
        line = run.objective.line(at, validate=validate)
    if run.group.is_first:
        # Before the metrics: who follows those finds their time.
        run.files.pace.parent.mkdir(exist_ok=True)
        append_jsonl(run.files.pace, [pace])
        append_jsonl(run.files.metrics, [line])
    run.paced = (time.monotonic(), run.gradient.tokens)
    run.lines.append(line)
    if run.config.keep == "best" and best_line(run.lines) is line:
        weights = pack_weights(run.parameters)
        if _writes(run):
            save_best(run.files.checkpoints, _position(run, at.step), weights)
    return line


def _pace(run: _Run, done: int) -> Pace:
    """How fast the steps since the line before were."""
    since, tokens = run.paced
    seconds = time.monotonic() - since
    speed = (run.gradient.tokens - tokens) / seconds if seconds else 0.0
    return Pace(step=done, at=round(time.time(), 3), tokens_per_second=round(speed, 1))


def _step(run: _Run, step: int, rate: float) -> torch.Tensor:
    """One optimizer step; returns () the gradient norm before clipping, still on the device."""
    if run.group.size > 1:
        # Each process has its own dropout, and the same again when it repeats a step.
        torch.manual_seed(
            int(
                np.random.SeedSequence([run.config.seed, step, run.group.rank]).generate_state(1)[0]
            )
        )
    step_loss = run.gradient.add(_rows(run, step))
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    norm = _update(run, step)
    run.optimizer.zero_grad(set_to_none=True)
    run.objective.sums["loss"] += step_loss
    run.unchecked.append((step, torch.stack([step_loss, norm])))
    return norm


def _update(run: _Run, step: int) -> torch.Tensor:
    """Clip the gradients and update the weights; returns () the norm before clipping.

    Raises `TrainingError` where memory runs out: half of the weights may be updated, so only the
    last checkpoint can be trusted. With several processes the launcher resumes from it by itself.
    """
    try:
        norm = torch.nn.utils.clip_grad_norm_(
            run.parameters.values(), run.config.max_gradient_norm, foreach=True
        )
        run.optimizer.step()
    except torch.OutOfMemoryError as error:
        if run.group.size > 1:
            raise
        raise TrainingError(
            f"step {step + 1}: out of memory in the optimizer. Lower `tokens_per_batch`, which "
            "does not change the result, or set `optimizer: {type: adamw_offload}`. "
            f"{_last_checkpoint(run.files.checkpoints)}"
        ) from error
    return full_tensor(norm)


def _rows(run: _Run, step: int) -> list[int]:
    """Row indices of a step, of all processes together."""
    config, rows = run.config, len(run.objective.names)
    chosen = rows_of_step(rows, config.examples_per_step, step, config.seed, config.order)
    return [int(row) for row in chosen]


def _check_finite(run: _Run) -> None:
    """Raise `TrainingError` with the first step whose loss or gradient was not finite."""
    if not run.unchecked:
        return
    values = torch.stack([value for _, value in run.unchecked]).cpu()
    bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        step = run.unchecked[bad[0]][0]
        rows = _rows(run, step)
        names = ", ".join(run.objective.names[row] for row in rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        raise TrainingError(
            f"step {step + 1}: loss {values[bad[0], 0].item()}, gradient norm "
            f"{values[bad[0], 1].item()}, on {names}{more}. Lower `learning_rate`, raise "
            f"`warmup_fraction`, or check those rows. {_last_checkpoint(run.files.checkpoints)}"
        )
    run.unchecked.clear()


def _report_start(progress: Progress, checkpoints: Path, start: int, total: int) -> None:
    """Report where the run resumes, or that existing checkpoints are not used."""
    if start:
        progress.emit(TrainingResumes(start, total))
    elif any(checkpoints.glob("step-*")):
        progress.message(
            f"the checkpoints in {checkpoints} are of another run (model, rows, settings or "
            "objective); starting from step 0"
        )


def _last_checkpoint(checkpoints: Path) -> str:
    """Which checkpoint exists, as a sentence."""
    last = max(checkpoints.glob("step-*[0-9]"), default=None)
    if last is None:
        return "No checkpoint was written before."
    return f"The last good checkpoint, of step {int(last.name.removeprefix('step-'))}, is kept."


def _result(run: _Run, stopped: str, seconds: float) -> TrainingResult:
    """The result of the run; with `keep: best` the best weights are restored. Collective."""
    loss_model, last = run.objective.loss_model, run.lines[-1]
    if isinstance(run.optimizer, OffloadedAdamW):
        run.optimizer.restore()
    best = best_line(run.lines) if run.config.keep == "best" else None
    if best is not None and best is not last:
        run.group.barrier()
        weights = load_best(run.files.checkpoints, best.step, run.files.plan)
        unpack_weights(weights, run.parameters)
    runtime = {
        "seconds": round(seconds, 3),
        "tokens": run.gradient.tokens,
        "tokens_per_second": round(run.gradient.tokens / seconds, 1) if seconds else 0.0,
        "tokens_per_batch": run.objective.budget,
        "activation_checkpointing": run.gradient.checkpointing,
        "layers": run.gradient.layers.facts(),
        "peak_memory_bytes": _peak_memory(run.device),
        "threads": run.files.threads,
        "devices": run.group.size,
        "parameters_here": sum(local_tensor(p).numel() for p in loss_model.model.parameters()),
        "device": run.device.type,
        "precision": str(loss_model.dtype).removeprefix("torch."),
        "packed": loss_model.packed,
        "padded_because": loss_model.reason,
        "torch": torch.__version__,
    }
    first = run.lines[0]
    return TrainingResult(
        last.step, last.trained_tokens, first, last, best or last, runtime, stopped
    )


def _reset_peak(device: torch.device) -> None:
    """Let the peak of a GPU begin here: after loading, the probe and the stages before.

    That of a CPU is reset before loading, whose largest moment a prediction covers as well.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()


@contextmanager
def _bar(progress: Progress, steps: int) -> Iterator[int]:
    """A progress bar that ends with the block."""
    bar = progress.start("training", steps)
    try:
        yield bar
    finally:
        progress.stop(bar)


@contextmanager
def compute_threads(threads: int) -> Iterator[int]:
    """Inside, torch computes on this many CPU threads; 0: its own number. Yields the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
