"""Warnings about settings that are valid but probably do not do what you want."""

from pathlib import Path

from jangin.core.errors import TrainingError
from jangin.core.stage import Progress
from jangin.models.shape import ModelShape
from jangin.training.loop.config import SERVABLE_RANKS, Adapter, TrainingConfig


def warn_sharding(config: TrainingConfig, progress: Progress) -> None:
    """Say that a single device shards nothing."""
    if config.sharding != "none" and config.devices == 1:
        progress.message(
            f"`sharding: {config.sharding}` with `devices: 1` shards nothing: the one device holds "
            "the whole model. Raise `devices`, or leave `sharding` out"
        )


def warn_rank(config: TrainingConfig, base: Path, progress: Progress) -> None:
    """Say it where a new adapter has a rank that teaches it no more, or that vLLM cannot serve."""
    if not isinstance(config.method, Adapter):
        return
    rank = config.method.r
    narrowest = _narrowest(config.method, base)
    if narrowest is not None and rank > narrowest[1]:
        layer, width = narrowest
        progress.message(
            f"rank {rank} is larger than the width {width} of {layer}, the narrowest layer with an "
            f"adapter: past rank {width} it learns no more there, it only takes memory and time"
        )
    elif rank not in SERVABLE_RANKS:
        group = ", ".join(str(rank) for rank in SERVABLE_RANKS)
        progress.message(f"rank {rank} cannot be served by vLLM; it takes {group}")


def _narrowest(method: Adapter, base: Path) -> tuple[str, int] | None:
    """(layer, the smaller side of its matrix); None for a family whose layers are not known."""
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
    """{layer: the smaller side of its matrix} of all linear layers but the head."""
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
