"""Warnings about valid training settings that are probably a mistake."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jangin.core.errors import SettingsError, TrainingError, counted
from jangin.core.events import Progress
from jangin.core.stage import StageContext
from jangin.models.device import has_cuda
from jangin.models.shape import ModelShape
from jangin.training.loop.config import SERVABLE_RANKS, Adapter, TrainingKeys

FEW_ROWS = 4
"""Rows of a step for each device, below which it is told that they are few."""


def warn_sharding(config: TrainingKeys, progress: Progress) -> None:
    """Warn where `sharding` is set with a single device."""
    if config.sharding != "none" and config.processes == 1:
        progress.message(
            f"`sharding: {config.sharding}` has no effect with `devices: 1`. Raise `devices`, or "
            "remove `sharding`."
        )


def warn_devices(config: TrainingKeys, progress: Progress) -> None:
    """Warn where a CPU trains in more processes than it has cores, or each has few rows."""
    cores = len(os.sched_getaffinity(0))
    if config.devices > cores and not has_cuda():
        progress.message(
            f"`devices: {config.devices}` on {counted(cores, 'core')} of a CPU is slower than "
            "fewer processes "
            f"are. Set `devices` to at most {cores}; results stay the same up to rounding."
        )
    rows, processes = config.examples_per_step, config.processes
    if processes > 1 and rows < FEW_ROWS * processes:
        progress.message(
            f"`examples_per_step: {rows}` on {processes} devices is {rows / processes:g} rows for "
            "each, after which all exchange their gradients. More rows per step train more tokens "
            "in the same time, in fewer and larger steps."
        )


def warn_rank(config: TrainingKeys, base: Path, progress: Progress) -> None:
    """Warn where a new adapter's rank exceeds a layer's width, or is one vLLM does not support."""
    if not isinstance(config.method, Adapter):
        return
    rank = config.method.r
    narrowest = _narrowest(config.method, base)
    if narrowest is not None and rank > narrowest[1]:
        layer, width = narrowest
        progress.message(
            f"rank {rank} is larger than the width {width} of {layer}, the narrowest layer with an "
            f"adapter. Set `r` to at most {width}: a rank above {width} adds no "
            "capacity there, only memory and time."
        )
    elif rank not in SERVABLE_RANKS:
        group = ", ".join(str(rank) for rank in SERVABLE_RANKS)
        progress.message(
            f"rank {rank} is not supported by vLLM. Set `r` to one of {group} to serve the adapter "
            "there."
        )


def _narrowest(method: Adapter, base: Path) -> tuple[str, int] | None:
    """(layer, smaller dimension of its matrix); None for a family with unknown layers."""
    try:
        shape = ModelShape.read(base / "model" / "config.json")
    except (TrainingError, OSError):
        return None
    if not shape.known:
        return None
    widths = _widths(shape)
    named = method.targets if isinstance(method.targets, tuple) else tuple(widths)
    adapted = [(name, width) for name, width in widths.items() if name in named]
    return min(adapted, key=lambda layer: layer[1], default=None)


def _widths(shape: ModelShape) -> dict[str, int]:
    """{layer: smaller dimension of its matrix} of all linear layers but the head."""
    hidden, inner = shape.hidden, shape.feed_forward
    if shape.family == "phi3":
        return {
            "qkv_proj": min(hidden, shape.queries + 2 * shape.keys),
            "o_proj": min(hidden, shape.queries),
            "gate_up_proj": min(hidden, 2 * inner),
            "down_proj": min(hidden, inner),
        }
    attention = {"q_proj": shape.queries, "k_proj": shape.keys, "v_proj": shape.keys}
    outer = {"o_proj": shape.queries, "gate_proj": inner, "up_proj": inner, "down_proj": inner}
    return {name: min(hidden, side) for name, side in (attention | outer).items()}


# The layers that an adapter names, checked against the base before any other work.


def target_check(stage: str) -> Callable[[StageContext[Any]], None]:
    """`Stage.check` of a stage that trains adapters on `base`.

    It raises `SettingsError` where a name in `targets` is that of no layer. The base is built
    without weights for it, so that takes seconds, and only where names are given.
    """

    def check(context: StageContext[Any]) -> None:
        method = context.config.method
        if not isinstance(method, Adapter) or isinstance(method.targets, str):
            return
        from jangin.models.loading import model_without_weights, outside_of_text
        from jangin.training.loop.weights import refuse_unknown_targets

        model = model_without_weights(context.folder("base"))
        try:
            refuse_unknown_targets(model, method.targets, outside_of_text(model))
        except TrainingError as error:
            text = str(error).removeprefix("`targets`: ")
            raise SettingsError(f"{stage}.method.targets: {text}") from error

    return check
