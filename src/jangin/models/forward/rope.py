"""Rotary embeddings whose frequencies depend on the longest position of a forward pass.

`longrope` (Phi-3.5, Phi-4-mini) has two sets of frequencies, below and beyond the original context
length; `dynamic` (NTK) has one for every length beyond it. transformers chooses them by the longest
row of a batch, so rows may only share a forward pass where they would get the same frequencies
alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class RopeLimit:
    """Where the frequencies of a model change."""

    tokens: int
    """The original context length: rows up to it have the original frequencies."""
    kind: Literal["longrope", "dynamic"]

    def group(self, first: int, last: int) -> int | None:
        """Equal for rows that may share their passes; None for one that must be computed alone.

        `first`, `last`: tokens of the row in its first pass and in its last.
        """
        if last <= self.tokens:
            return 0
        return 1 if first > self.tokens and self.kind == "longrope" else None

    def changes_at(self, tokens: int) -> bool:
        """Whether a row of this many tokens is the first with other frequencies than its cache.

        Its cache is then recomputed, as Phi-3's own generation does. With `dynamic`,
        transformers keeps what is cached.
        """
        return self.kind == "longrope" and tokens == self.tokens + 1

    def reset(self, model: Any) -> None:
        """Undo what `dynamic` remembers of the longest row so far."""
        if self.kind == "longrope":
            return
        for module in model.modules():
            for layer, kind in _kinds(module).items():
                if "dynamic" in kind:
                    prefix = f"{layer}_" if layer else ""
                    now = getattr(module, f"{prefix}inv_freq")
                    original = getattr(module, f"{prefix}original_inv_freq").to(now.device)
                    setattr(module, f"{prefix}inv_freq", original.clone())
                    setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def rope_limit(model: Any) -> RopeLimit | None:
    """Of a transformers model; None where frequencies never depend on the longest row."""
    limits = []
    for module in model.modules():
        for layer, kind in _kinds(module).items():
            if kind == "longrope":
                parameters = module.config.rope_parameters
                own = parameters[layer] if layer else parameters
                limits.append(RopeLimit(own["original_max_position_embeddings"], "longrope"))
            elif "dynamic" in kind:
                limits.append(RopeLimit(module.original_max_seq_len, "dynamic"))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def _kinds(module: Any) -> Mapping[str, str]:
    """{type of layer: its rope type} of a rotary embedding; the key "" means all layers."""
    kinds = getattr(module, "rope_type", None)
    if isinstance(kinds, str):
        return {"": kinds}
    return kinds if isinstance(kinds, Mapping) else {}
