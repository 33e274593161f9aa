"""Estimate the memory and time of a training run before loading anything. Imports no torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import ceil, sqrt
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from jangin.core.errors import TrainingError, counted
from jangin.core.events import Progress
from jangin.core.stage import Cost
from jangin.models.device import (
    MOST_THREADS,
    Precision,
    are_kernels_enabled,
    available_bytes,
    has_cuda,
    native_precision,
    uses_bf16_tiles,
)
from jangin.models.memory import (
    GIB,
    OFFLOADED_BYTES,
    Device,
    MemoryPlan,
    PlannedTraining,
    kept_keys,
    predict,
)
from jangin.models.shape import ModelShape
from jangin.training.loop.config import Adapter, C, TrainingKeys
from jangin.training.objectives.table import find_objective
from jangin.training.preflight.duration import Duration

# Packages without which transformers computes recurrent layers on a GPU with plain torch code.


_DISTRIBUTIONS = {"fla": "flash-linear-attention"}
"""{module: its name in the package index} where that is another; `_` is written `-` there."""
_FALLS_BACK = re.compile(r"use_kernel_func_from_hub_with_fallback\(\s*\"\w+\",\s*\"(\w+)\"")


def slow_layers_note(base: Path) -> str:
    """What `jangin plan` says of a hybrid or recurrent base; empty where nothing is missing.

    Raises:
        TrainingError: the base's config.json lacks sizes.

    """
    family = ModelShape.read(base / "model" / "config.json").family
    missing = [name for name in fast_packages(family) if find_spec(name) is None]
    if not missing:
        return ""
    names = [_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in missing]
    return (
        f"recurrent layers run as plain torch code, right but slow on a GPU, without "
        f"{' and '.join(names)}. Install with: pip install {' '.join(names)}"
    )


@lru_cache(maxsize=8)
def fast_packages(family: str) -> tuple[str, ...]:
    """Modules that the layers of a family use where they are installed, in alphabetical order.

    Read from the source of transformers, which names them there and takes seconds to import.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return ()
    folder = family.removesuffix("_text")
    path = Path(spec.origin).parent / "models" / folder / f"modeling_{folder}.py"
    try:
        source = path.read_text(encoding="utf-8")
    except OSError:
        return ()
    return tuple(sorted(set(_FALLS_BACK.findall(source))))


_OPERATIONS_PER_SECOND = 1e11
_SECONDS_PER_WORK = 2e-11
"""Of a small model on two cores, a unit as `ModelShape.training_work` counts; 3e-11 on one."""
_GPU_BUDGETS = (32768, 16384, 8192, 4096)
_FILLED = 0.9
_CPU_DIVISORS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """Rows of a training run: counted, or estimated from a sample."""

    lengths: Sequence[int]
    """Tokens of each row, or of each pair with its prompt counted once."""
    trained_share: float
    """Share of these tokens that the loss counts."""
    objective: str = "sft"
    """Name in the table of objectives, on which the memory of the loss depends."""
    kept_weights: bool = False
    """Whether training keeps a copy of the last good weights."""


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """A predicted peak of memory and the device that it is for."""

    plan: MemoryPlan
    """Of one process."""
    device: Device
    processes: int

    @property
    def needed(self) -> int:
        """Bytes on one device; on a CPU those of all processes, which share its memory."""
        return self.plan.peak * (self.processes if self.device == "cpu" else 1)

    def text(self, available: int) -> str:
        """Such as `1.1 GiB of 23.0 GiB`."""
        return f"{self.needed / GIB:.1f} GiB of {available / GIB:.1f} GiB"


def estimate(base: Path, config: TrainingKeys, work: TrainingLoad) -> MemoryForecast:
    """Predicted peak of memory of training the model of a `base` artifact.

    Raises `TrainingError` where its config.json lacks what the prediction needs.
    """
    adapter = config.method if isinstance(config.method, Adapter) else None
    device: Device = "cuda" if has_cuda() else "cpu"
    precision = native_precision() if config.precision == "auto" else config.precision
    rows = min(ceil(config.examples_per_step / config.processes), len(work.lengths))
    shape = ModelShape.read(base / "model" / "config.json")
    tiled = device == "cpu" and _has_tiles(shape, precision, config)
    tokens, row = _largest_batch_of(work.lengths, config), fmean(work.lengths)
    run = PlannedTraining(
        method=config.method.type,
        checkpointing=config.activation_checkpointing == "always",
        tokens=tokens,
        precision=precision,
        rank=adapter.r if adapter else 0,
        dropout=adapter is not None and adapter.dropout > 0,
        trained_share=work.trained_share,
        kept_keys=0.0 if tiled else kept_keys(work.lengths, precision),
        split=rows * row > config.tokens_per_batch,
        spread=row / tokens,
        pairs=find_objective(work.objective).keeps_logits,
        kept_weights=work.kept_weights,
        device=device,
        kernels=are_kernels_enabled(),
        shards=config.processes if config.sharding == "fsdp" else 1,
        optimizer=config.optimizer.type,
    )
    return MemoryForecast(predict(shape, run), device, config.devices)


def _has_tiles(shape: ModelShape, precision: Precision, config: TrainingKeys) -> bool:
    """Whether the compiled CPU attention runs, which keeps no weights for the backward pass."""
    threads = config.threads or os.cpu_count() or 1  # torch takes no more than that
    fits = precision == "bf16" and shape.head_size % 32 == 0 and threads <= MOST_THREADS
    return fits and uses_bf16_tiles()


def _largest_batch_of(lengths: Sequence[int], config: TrainingKeys) -> int:
    """Tokens of the largest batch of one process."""
    if config.order == "shuffled":
        rows = ceil(config.examples_per_step / config.processes)
        return largest_batch(lengths, rows, config.tokens_per_batch)
    rows = config.examples_per_step
    steps = (sum(lengths[first : first + rows]) for first in range(0, len(lengths), rows))
    most = ceil(max(steps) / config.processes)
    return max(*lengths, min(config.tokens_per_batch, most))


def decide_checkpointing(base: Path, config: C, work: TrainingLoad) -> C:
    """`config`, with activation checkpointing if it is `auto` and the estimate does not fit."""
    if config.activation_checkpointing != "auto":
        return config
    try:
        forecast = estimate(base, _with_budget(base, config, work), work)
    except TrainingError:
        return config
    if forecast.needed <= available_bytes(forecast.device):
        return config
    return config.model_copy(update={"activation_checkpointing": "always"})


def batch_budget(base: Path, config: TrainingKeys, work: TrainingLoad) -> int:
    """Most tokens of a batch: the setting, or where it is not set what fits.

    Another budget only groups the same sums in another way, so it is no part of the result's
    identity. On a GPU it is the largest power of two that is predicted to fill at most nine tenths
    of the memory, on a CPU the default, or where that is predicted not to fit half or a quarter.
    """
    if "tokens_per_batch" in config.model_fields_set:
        return config.tokens_per_batch
    if has_cuda():
        return largest_budget(base, config, work, available_bytes("cuda"))
    return smaller_budget(base, config, work, available_bytes("cpu"))


def smaller_budget(base: Path, config: TrainingKeys, work: TrainingLoad, available: int) -> int:
    """The budget for a CPU with `available` bytes, at most `tokens_per_batch`."""
    tokens = config.tokens_per_batch
    for divisor in _CPU_DIVISORS:
        tokens = config.tokens_per_batch // divisor
        smaller = config.model_copy(update={"tokens_per_batch": tokens})
        try:
            fits = estimate(base, smaller, work).needed <= available
        except TrainingError:
            return config.tokens_per_batch
        if fits:
            break
    return tokens


def _with_budget(base: Path, config: C, work: TrainingLoad) -> C:
    """`config` with the tokens of a batch that `batch_budget` chooses."""
    return config.model_copy(update={"tokens_per_batch": batch_budget(base, config, work)})


def largest_budget(base: Path, config: TrainingKeys, work: TrainingLoad, available: int) -> int:
    """The budget for a device of `available` bytes, at least `tokens_per_batch`."""
    for tokens in _GPU_BUDGETS:
        larger = config.model_copy(update={"tokens_per_batch": tokens})
        try:
            needed = estimate(base, larger, work).needed
        except TrainingError:
            break
        if tokens > config.tokens_per_batch and needed <= _FILLED * available:
            return tokens
    return config.tokens_per_batch


def guard_memory(base: Path, config: TrainingKeys, work: TrainingLoad, progress: Progress) -> None:
    """Check the estimate against free memory.

    Raises `TrainingError` where it does not fit and `memory` is `refuse`, the default; with `warn`
    the message goes to `progress`.
    """
    if not work.lengths:
        return
    decided = _with_budget(base, decide_checkpointing(base, config, work), work)
    try:
        forecast = estimate(base, decided, work)
        check(forecast, available_bytes(forecast.device), decided.tokens_per_batch)
        if config.optimizer.type == "adamw_offload" and forecast.device == "cuda":
            _check_host(ModelShape.read(base / "model" / "config.json"), available_bytes())
    except TrainingError as error:
        if config.memory == "refuse":
            raise
        progress.message(str(error))


def check(forecast: MemoryForecast, available: int, tokens: int) -> None:
    """Raise `TrainingError` where the estimate is larger than `available` bytes."""
    if forecast.needed <= available:
        return
    plan = forecast.plan
    several = (
        (f", in each of {counted(forecast.processes, 'process', 'processes')}")
        if forecast.needed > plan.peak
        else ""
    )
    raise TrainingError(
        f"this training needs about {forecast.needed / GIB:.1f} GiB of memory, but only "
        f"{available / GIB:.1f} GiB are free ({plan.activations / GIB:.1f} GiB for activations, "
        f"{(plan.gradients + plan.optimizer) / GIB:.1f} GiB for gradients and optimizer{several}). "
        f"Lower `tokens_per_batch` from {tokens}, which does not change the result, train an "
        "adapter with `method: {type: lora}`, or choose a smaller base model. `memory: warn` "
        "trains anyway."
    )


def _check_host(shape: ModelShape, available: int) -> None:
    """Raise `TrainingError` where the offloaded state is larger than `available` CPU memory."""
    needed = OFFLOADED_BYTES * shape.parameters
    if needed > available:
        raise TrainingError(
            f"`optimizer: {{type: adamw_offload}}` needs {needed / GIB:.1f} GiB of CPU memory, but "
            f"only {available / GIB:.1f} GiB are free. Use `optimizer: {{type: adamw_8bit}}`, or "
            "train an adapter with `method: {type: lora}`. `memory: warn` trains anyway."
        )


def recorded(base: Path, config: TrainingKeys, work: TrainingLoad) -> dict[str, Any]:
    """The estimate as stored in training.json; empty if the model's sizes are unknown."""
    try:
        plan = estimate(base, config, work).plan
    except TrainingError:
        return {}
    return {"predicted_memory_bytes": plan.peak, "memory_plan": asdict(plan)}


def cost_of(base: Path, config: TrainingKeys, work: TrainingLoad) -> Cost:
    """Steps, tokens, seconds and bytes of a training, for `jangin plan`."""
    if not work.lengths:
        return Cost(text="nothing to train on")
    planned = Duration.of(config, len(work.lengths))
    tokens = round(sum(work.lengths) * planned.epochs)
    text = f"{planned.text}, about {tokens:,} tokens"
    if planned.epochs < 1:
        text += f"; {planned.warning}"
    try:
        decided = _with_budget(base, decide_checkpointing(base, config, work), work)
        forecast = estimate(base, decided, work)
    except TrainingError as error:
        return Cost(text=f"{text}; {error}")
    notes = [
        config.compile_note(forecast.device),
        slow_layers_note(base) if forecast.device == "cuda" else "",
    ]
    shape = ModelShape.read(base / "model" / "config.json")
    work_done = shape.training_work(tokens, planned.steps)
    seconds = 6 * shape.parameters * tokens / _OPERATIONS_PER_SECOND
    return Cost(
        seconds=max(seconds, _SECONDS_PER_WORK * work_done) + 5,
        work=work_done,
        memory_bytes=forecast.needed,
        text="; ".join(
            [f"{text}, {forecast.text(available_bytes(forecast.device))}", *filter(None, notes)]
        ),
    )


def largest_batch(lengths: Sequence[int], per_step: int, limit: int) -> int:
    """Expected number of tokens of the largest batch.

    The mean of a step plus two standard deviations, at most `limit`, at least the longest row.
    """
    rows = min(per_step, len(lengths))
    spread = pstdev(lengths) * sqrt(rows) if rows < len(lengths) else 0
    longest, expected = max(lengths), ceil(rows * fmean(lengths) + 2 * spread)
    return max(longest, min(limit, expected))


# The precision of a training, where the machine decides it.


def machine_facts(config: TrainingKeys) -> Mapping[str, str]:
    """The precision that `auto` selects on this machine."""
    return {"precision": native_precision()} if config.precision == "auto" else {}
