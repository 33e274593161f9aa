"""The training loop: one flat pass over optimizer steps, resumable at any of them.

What is minimised is an `Objective`. Its loss is a sum that is divided by the weight of the whole
step (its trained tokens), so splitting a step into batches changes nothing. Row order is a
function of seed and step, so a killed run that goes on from its last checkpoint repeats the same
metrics and weights bit for bit on a CPU.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jangin.core.digest import digest_value
from jangin.core.errors import TrainingError
from jangin.core.jsonl import append_jsonl
from jangin.core.signals import interrupted
from jangin.core.stage import Progress
from jangin.core.store import JOURNAL
from jangin.models.device import peak_memory
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import rows_of_step, steps_per_epoch
from jangin.training.kernels import keep_heap
from jangin.training.loop.checkpoint import (
    Position,
    find_checkpoint,
    here,
    load_best,
    pack_state,
    pack_weights,
    save_best,
    save_checkpoint,
    unpack_state,
    unpack_weights,
    whole,
)
from jangin.training.loop.config import EarlyStopping, Epochs, StepMetrics, TrainingConfig
from jangin.training.loop.early_stopping import best_line, patience_over
from jangin.training.loop.gradient_accumulation import Gradient
from jangin.training.loop.objective import Done, Objective
from jangin.training.loop.process_group import Ranks
from jangin.training.loop.result import Outcome
from jangin.training.loop.sft_objective import TokenLoss

METRICS = "metrics.jsonl"
_NAMED_ROWS = 8
_REHEARSED_ROWS = 10_000
"""So many rows ahead the largest batch is looked for."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run writes, and what its checkpoints must tell."""

    checkpoints: Path
    metrics: Path
    plan: str
    threads: int


@dataclass(slots=True)
class _Run:
    """All that changes while training."""

    objective: Objective
    config: TrainingConfig
    device: torch.device
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    gradient: Gradient
    ranks: Ranks
    place: _Place = field(init=False)
    lines: list[StepMetrics] = field(default_factory=list)
    """Of metrics.jsonl."""
    unchecked: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    """(step, [loss, gradient norm]) whose finiteness nobody has looked at yet."""


def train(
    model: Any,
    data: RenderedRows,
    validation: RenderedRows | None,
    config: TrainingConfig,
    folder: Path,
    progress: Progress,
    ranks: Ranks | None = None,
    budget: int | None = None,
) -> Outcome:
    """Train `model` in place on the trained tokens of `data`; see `minimise`.

    `budget` is less than `tokens_per_batch` where that is known to be too much.
    """
    if not (validation and len(validation)) and (
        config.keep == "best" or isinstance(config.early_stopping, EarlyStopping)
    ):
        raise TrainingError(
            "`early_stopping` and `keep: best` look at the validation loss, and there is no "
            "validation row. Give `split` a validation share, or leave both out."
        )
    # What only a stage's own settings say shows in the rows, so these decide the run.
    config = TrainingConfig.model_validate(
        config.model_dump(include={*TrainingConfig.model_fields})
    )
    objective = TokenLoss.of(model, data, validation, config, ranks)
    objective.budget = budget or objective.budget
    return minimise(objective, config, folder, progress, ranks)


def minimise(
    objective: Objective,
    config: TrainingConfig,
    folder: Path,
    progress: Progress,
    ranks: Ranks | None = None,
) -> Outcome:
    """Train the objective's model in place; metrics and checkpoints go to `folder`.

    Raises `TrainingError` on a loss or gradient that is not finite, `StoreError` on a full disk;
    Ctrl-C saves a checkpoint first. Whatever happened, calling it again goes on from the last one.
    """
    ranks = ranks or Ranks()
    if ranks.count == 1 and config.devices > 1:
        raise TrainingError("this stage trains on one device only. Set its `devices` to 1.")
    checkpoints = folder / JOURNAL / "checkpoints"
    about = {"tokens": objective.digests(), "sums": sorted(objective.sums)}
    plan = digest_value({"config": config.identity(), **about})
    found = find_checkpoint(checkpoints, plan)
    start, total = found[0].step if found else 0, total_steps(config, len(objective.names))
    with (
        compute_threads(found[0].threads if found else config.threads) as threads,
        interrupted() as stop,
        _bar(progress, total - start) as bar,
    ):
        run = _begin(objective, config, progress, ranks)
        run.place = _Place(checkpoints, folder / METRICS, plan, threads)
        if found:
            _go_on(run, *found)
        _tell_start(progress, checkpoints, start, total)
        _read_lines(run, found[0].metrics_bytes if found else 0)
        ahead = range(start, min(total, start + -(-_REHEARSED_ROWS // config.examples_per_step)))
        # A CPU pages and swaps; there the extra batch only costs time.
        if run.device.type == "cuda":
            run.gradient.rehearse([_rows(run, step) for step in ahead])
        began = saved = time.monotonic()
        note = stopped = ""
        for step in range(start, total):
            rate = learning_rate(config, step, total)
            norm = _step(run, step, rate)
            done = step + 1
            validate = done % config.validate_every_steps == 0 or done == total
            if validate or done % config.log_every_steps == 0:
                line = _line(run, done, rate, norm, validate=validate)
                note = f"loss {line.train_loss:.3f}"
                stopped = objective.stop(line) or patience_over(run.lines, config.early_stopping)
            if stopped:
                progress.say(f"stopped after step {done} of {total}: {stopped}")
                break
            due = time.monotonic() - saved > config.checkpoint_every_seconds
            due = due or done % config.checkpoint_every_steps == 0
            if done < total and ranks.gather(int(due))[0][0]:
                _save(run, done)
                saved = time.monotonic()
            progress.advance(bar, 1, note)
            if done < total and ranks.any(stop.is_set()):
                _save(run, done)
                progress.say(f"stopped after step {done} of {total}; run again to go on")
                raise KeyboardInterrupt
        return _outcome(run, stopped, time.monotonic() - began)


def total_steps(config: TrainingConfig, rows: int) -> int:
    """Optimizer steps of the whole run."""
    if isinstance(config.length, Epochs):
        return config.length.epochs * steps_per_epoch(rows, config.examples_per_step)
    return config.length.steps


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Learning rate of optimizer step `step`, from 0: warm-up, then the schedule."""
    warmup = math.ceil(config.warmup_fraction * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup + 1) / (total - warmup + 1)
    fall = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * fall


def _begin(objective: Objective, config: TrainingConfig, progress: Progress, ranks: Ranks) -> _Run:
    keep_heap()
    scorer = objective.scorer
    model = scorer.model.train()
    if not scorer.packed:
        progress.say(f"rows are padded instead of packed, because of this model: {scorer.reason}")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return _Run(
        objective,
        config,
        next(model.parameters()).device,
        parameters,
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            fused=True,
        ),
        Gradient(objective, config, progress, ranks),
        ranks,
    )


def _go_on(run: _Run, position: Position, tensors: dict[str, torch.Tensor]) -> None:
    """Put a run back to where a checkpoint was taken."""
    sums = run.objective.sums
    unpack_state(tensors, run.parameters, run.optimizer, sums)
    run.objective.budget = min(run.objective.budget, position.budget or run.objective.budget)
    if not run.ranks.first:
        for value in sums.values():
            if value.ndim == 0:  # the others are no sums, and the same in every process
                value.zero_()


def _read_lines(run: _Run, length: int) -> None:
    """Forget the metrics that a killed run wrote after its last checkpoint; know the others."""
    if run.ranks.first:
        with run.place.metrics.open("ab") as stream:
            stream.truncate(length)
    run.ranks.wait()
    lines = run.place.metrics.read_bytes()[:length].splitlines()
    run.lines = [run.objective.metrics.model_validate_json(line) for line in lines]


def _save(run: _Run, step: int) -> None:
    """Write a checkpoint; every process has a part in it, the first one writes."""
    _check_finite(run)
    with run.ranks.totals(run.objective.sums):
        tensors = pack_state(run.parameters, run.optimizer, run.objective.sums)
        if run.ranks.first:
            best = best_line(run.lines) if run.config.keep == "best" else None
            save_checkpoint(
                run.place.checkpoints, _position(run, step), tensors, best.step if best else None
            )


def _position(run: _Run, step: int) -> Position:
    place, written = run.place, run.place.metrics.stat().st_size
    return Position(step, written, place.threads, place.plan, run.objective.budget)


def _line(run: _Run, done: int, rate: float, norm: torch.Tensor, *, validate: bool) -> StepMetrics:
    """Write one line of metrics; keep the weights where they are the best so far."""
    _check_finite(run)
    per_epoch = steps_per_epoch(len(run.objective.names), run.config.examples_per_step)
    at = Done(done, round(done / per_epoch, 6), rate, norm.item())
    with run.ranks.totals(run.objective.sums):
        line = run.objective.line(at, validate=validate)
    if run.ranks.first:
        append_jsonl(run.place.metrics, [line])
    run.lines.append(line)
    if run.config.keep == "best" and best_line(run.lines) is line:
        weights = pack_weights(run.parameters)
        if run.ranks.first:
            save_best(run.place.checkpoints, _position(run, done), weights)
    return line


def _step(run: _Run, step: int, rate: float) -> torch.Tensor:
    """One optimizer step; returns the gradient norm before clipping, unread."""
    if run.ranks.count > 1:
        # Each drops out its own units, and the same ones again after going on.
        torch.manual_seed(
            int(
                np.random.SeedSequence([run.config.seed, step, run.ranks.rank]).generate_state(1)[0]
            )
        )
    step_loss = run.gradient.add(_rows(run, step))
    norm = torch.nn.utils.clip_grad_norm_(
        run.parameters.values(), run.config.max_gradient_norm, foreach=True
    )
    norm = whole(norm)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.objective.sums["loss"] += step_loss
    run.unchecked.append((step, torch.stack([step_loss, norm])))
    return norm


def _rows(run: _Run, step: int) -> list[int]:
    """Row numbers of a step."""
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
            f"`warmup_fraction`, or look at those rows. {_last_good(run.place.checkpoints)}"
        )
    run.unchecked.clear()


def _tell_start(progress: Progress, checkpoints: Path, start: int, total: int) -> None:
    """Say where the run goes on, or that the checkpoints that are here are of no use."""
    if start:
        progress.say(f"going on from step {start} of {total}")
    elif any(checkpoints.glob("step-*")):
        progress.say(
            "the checkpoints that are here belong to another run (model, rows or settings); "
            "starting anew"
        )


def _last_good(checkpoints: Path) -> str:
    """Which checkpoint is left."""
    last = max(checkpoints.glob("step-*[0-9]"), default=None)
    if last is None:
        return "No checkpoint was due before."
    return f"The last good checkpoint, of step {int(last.name.removeprefix('step-'))}, is kept."


def _outcome(run: _Run, stopped: str, seconds: float) -> Outcome:
    """What the run came to; with `keep: best` the best weights are put back first."""
    scorer, last = run.objective.scorer, run.lines[-1]
    best = best_line(run.lines) if run.config.keep == "best" else None
    if best is not None and best is not last:
        run.ranks.wait()
        weights = load_best(run.place.checkpoints, best.step, run.place.plan)
        unpack_weights(weights, run.parameters)
    runtime = {
        "seconds": round(seconds, 3),
        "tokens": run.gradient.tokens,
        "tokens_per_second": round(run.gradient.tokens / seconds, 1) if seconds else 0.0,
        "tokens_per_batch": run.objective.budget,
        "activation_checkpointing": run.gradient.checkpointing,
        "peak_memory_bytes": _peak_memory(run.device),
        "threads": run.place.threads,
        "devices": run.ranks.count,
        "parameters_here": sum(here(p).numel() for p in scorer.model.parameters()),
        "device": run.device.type,
        "precision": str(scorer.dtype).removeprefix("torch."),
        "packed": scorer.packed,
        "padded_because": scorer.reason,
        "torch": torch.__version__,
    }
    first = run.lines[0]
    return Outcome(last.step, last.trained_tokens, first, last, best or last, runtime, stopped)


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
    """Compute on this many CPU threads (0: torch's own number), then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
