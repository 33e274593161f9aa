"""The training loop: one flat pass over optimizer steps, resumable at any of them.

Loss is the sum over trained tokens divided by the trained tokens of the whole step, so splitting
a step into batches changes nothing. Row order is a function of seed and step, so a killed run that
goes on from its last checkpoint repeats the same metrics and weights bit for bit on a CPU.
"""

import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jangin.core.digest import digest_value
from jangin.core.errors import TrainingError
from jangin.core.jsonl import append_jsonl
from jangin.core.stage import Progress
from jangin.core.store import JOURNAL
from jangin.models.checkpoint import (
    Position,
    find_checkpoint,
    pack_state,
    save_checkpoint,
    unpack_state,
)
from jangin.models.pack import rows_of_step, split_by_budget, steps_per_epoch
from jangin.models.precision import native_precision
from jangin.models.render import RenderedRows
from jangin.models.score import Scorer, choose_scorer
from jangin.models.settings import Epochs, StepMetrics, TrainingConfig

METRICS = "metrics.jsonl"
_NAMED_ROWS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run came to."""

    steps: int
    trained_tokens: int
    first: StepMetrics
    last: StepMetrics
    runtime: dict[str, Any]
    """Speed, memory and machine: no part of the result."""


@dataclass(slots=True)
class _Run:
    """All that changes while training."""

    scorer: Scorer
    data: RenderedRows
    config: TrainingConfig
    device: torch.device
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    sums: dict[str, torch.Tensor]
    """Since the last line of metrics, but `all_tokens`: since the start."""
    unchecked: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    """(step, [loss, gradient norm]) whose finiteness nobody has looked at yet."""
    tokens: int = 0
    """Computed in this process, for the speed."""


def train(
    model: Any,
    data: RenderedRows,
    validation: RenderedRows | None,
    config: TrainingConfig,
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Train `model` in place; metrics and checkpoints go to `folder`.

    Raises `TrainingError` on a loss or gradient that is not finite, `StoreError` on a full disk;
    Ctrl-C saves a checkpoint first. Whatever happened, calling it again goes on from the last one.
    """
    plan = _plan_digest(config, data, validation)
    checkpoints, metrics = folder / JOURNAL / "checkpoints", folder / METRICS
    found = find_checkpoint(checkpoints, plan)
    start, total = found[0].step if found else 0, total_steps(config, len(data))
    per_epoch = steps_per_epoch(len(data), config.examples_per_step)
    with (
        _threads(found[0].threads if found else config.threads) as threads,
        _interrupt() as stop,
        _bar(progress, total - start) as bar,
    ):
        run = _begin(model, data, config, progress)
        if found:
            unpack_state(found[1], run.parameters, run.optimizer, run.sums)
            progress.say(f"going on from step {start} of {total}")
        _cut(metrics, found[0].metrics_bytes if found else 0)

        def save(step: int) -> None:
            _check_finite(run)
            position = Position(step, metrics.stat().st_size, threads, plan)
            tensors = pack_state(run.parameters, run.optimizer, run.sums)
            save_checkpoint(checkpoints, position, tensors)

        began = saved = time.monotonic()
        note = ""
        for step in range(start, total):
            rate = learning_rate(config, step, total)
            norm = _step(run, step, rate)
            done = step + 1
            validate = done % config.validate_every_steps == 0 or done == total
            if validate or done % config.log_every_steps == 0:
                _check_finite(run)
                measured = validation if validate else None
                line = _line(run, done, done / per_epoch, rate, norm, measured)
                append_jsonl(metrics, [line])
                note = f"loss {line.train_loss:.3f}"
            due = time.monotonic() - saved > config.checkpoint_every_seconds
            if done < total and (due or done % config.checkpoint_every_steps == 0):
                save(done)
                saved = time.monotonic()
            progress.advance(bar, 1, note)
            if stop.is_set() and done < total:
                save(done)
                progress.say(f"stopped after step {done} of {total}; run again to go on")
                raise KeyboardInterrupt
        return _outcome(run, metrics, total, threads, time.monotonic() - began)


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


def _begin(model: Any, data: RenderedRows, config: TrainingConfig, progress: Progress) -> _Run:
    device = next(model.parameters()).device
    precision = native_precision() if config.precision == "auto" else config.precision
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model.train()
    scorer = choose_scorer(model, data, dtype, device)
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
        scorer,
        data,
        config,
        device,
        parameters,
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            fused=True,
        ),
        {
            "loss": torch.zeros((), dtype=torch.float64, device=device),
            "correct": torch.zeros((), dtype=torch.int64, device=device),
            "tokens": torch.zeros((), dtype=torch.int64),
            "all_tokens": torch.zeros((), dtype=torch.int64),
        },
    )


def _step(run: _Run, step: int, rate: float) -> torch.Tensor:
    """One optimizer step; returns the gradient norm before clipping, unread."""
    rows = rows_of_step(len(run.data), run.config.examples_per_step, step, run.config.seed)
    batches = [
        run.scorer.batcher(run.data, part, run.device)
        for part in split_by_budget(run.data.lengths, rows.tolist(), run.config.tokens_per_batch)
    ]
    trained = sum(len(batch.targets_N) for batch in batches)
    step_loss = torch.zeros((), device=run.device)
    for batch in batches:
        loss, correct = run.scorer.score(batch)
        torch.autograd.backward(loss / trained)
        step_loss += loss.detach()
        run.sums["correct"] += correct
        run.tokens += batch.tokens
    norm = torch.nn.utils.clip_grad_norm_(
        run.parameters.values(), run.config.max_gradient_norm, foreach=True
    )
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.sums["loss"] += step_loss
    run.sums["tokens"] += trained
    run.sums["all_tokens"] += trained
    run.unchecked.append((step, torch.stack([step_loss, norm])))
    return norm


def _check_finite(run: _Run) -> None:
    """Raise `TrainingError` with the first step whose loss or gradient was not finite."""
    if not run.unchecked:
        return
    values = torch.stack([value for _, value in run.unchecked]).cpu()
    bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        step = run.unchecked[bad[0]][0]
        rows = rows_of_step(len(run.data), run.config.examples_per_step, step, run.config.seed)
        names = ", ".join(run.data.names[row] for row in rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        raise TrainingError(
            f"step {step + 1}: loss {values[bad[0], 0].item()}, gradient norm "
            f"{values[bad[0], 1].item()}, on {names}{more}. Lower `learning_rate`, raise "
            "`warmup_fraction`, or look at those rows; the last good checkpoint is kept."
        )
    run.unchecked.clear()


def _line(
    run: _Run,
    step: int,
    epoch: float,
    rate: float,
    norm: torch.Tensor,
    validation: RenderedRows | None,
) -> StepMetrics:
    """One line of metrics; starts new sums."""
    tokens = int(run.sums["tokens"])
    valid_loss, valid_accuracy = evaluate_loss(run.scorer, validation, run.config, run.device)
    line = StepMetrics(
        step=step,
        epoch=round(epoch, 6),
        train_loss=run.sums["loss"].item() / tokens,
        train_mean_token_accuracy=run.sums["correct"].item() / tokens,
        valid_loss=valid_loss,
        valid_mean_token_accuracy=valid_accuracy,
        learning_rate=rate,
        grad_norm=norm.item(),
        trained_tokens=int(run.sums["all_tokens"]),
    )
    for name in ("loss", "correct", "tokens"):
        run.sums[name].zero_()
    return line


@torch.no_grad()
def evaluate_loss(
    scorer: Scorer, data: RenderedRows | None, config: TrainingConfig, device: torch.device
) -> tuple[float | None, float | None]:
    """(loss, top-1 accuracy) per trained token of a whole set; None without rows."""
    if data is None or not len(data):
        return None, None
    scorer.model.eval()
    losses, corrects, tokens = [], [], 0
    for rows in split_by_budget(data.lengths, range(len(data)), config.tokens_per_batch):
        batch = scorer.batcher(data, rows, device)
        loss, correct = scorer.score(batch)
        losses.append(loss.double())
        corrects.append(correct)
        tokens += len(batch.targets_N)
    scorer.model.train()
    return torch.stack(losses).sum().item() / tokens, int(torch.stack(corrects).sum()) / tokens


def _outcome(run: _Run, metrics: Path, steps: int, threads: int, seconds: float) -> Outcome:
    lines = [StepMetrics.model_validate_json(line) for line in metrics.read_bytes().splitlines()]
    runtime = {
        "seconds": round(seconds, 3),
        "tokens": run.tokens,
        "tokens_per_second": round(run.tokens / seconds, 1) if seconds else 0.0,
        "peak_memory_bytes": _peak_memory(run.device),
        "threads": threads,
        "device": str(run.device),
        "precision": str(run.scorer.dtype).removeprefix("torch."),
        "packed": run.scorer.packed,
        "padded_because": run.scorer.reason,
        "torch": torch.__version__,
    }
    return Outcome(steps, lines[-1].trained_tokens, lines[0], lines[-1], runtime)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _plan_digest(
    config: TrainingConfig, data: RenderedRows, validation: RenderedRows | None
) -> str:
    """Of everything that decides the run: settings and tokens."""
    sets = [data] if validation is None else [data, validation]
    tokens = [
        hashlib.sha256(part.tobytes()).hexdigest()
        for rows in sets
        for part in (rows.ids, rows.trained, rows.starts)
    ]
    return digest_value({"config": config.identity(), "tokens": tokens})


@contextmanager
def _bar(progress: Progress, steps: int) -> Iterator[int]:
    """A progress bar that ends with the block."""
    bar = progress.start("training", steps)
    try:
        yield bar
    finally:
        progress.stop(bar)


def _cut(path: Path, length: int) -> None:
    """Forget what a killed run wrote after its last checkpoint."""
    with path.open("ab") as stream:
        stream.truncate(length)


@contextmanager
def _threads(threads: int) -> Iterator[int]:
    """Compute on this many CPU threads (0: torch's own number), then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is never torn; the second one raises."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(_number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
