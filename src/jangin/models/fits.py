"""Which row lengths fit which cards, for bases of 1B to 70B, by the memory plan; no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jangin.models.memory import GIB, Method, Optimizer, PlannedTraining, predict
from jangin.models.shape import ModelShape

CARDS = (8, 12, 16, 24, 48, 80)
"""GiB of device memory."""
FILLED = 0.9
"""Share of a card that a plan may fill; the rest is for fragments and the desktop."""
LENGTHS = tuple(1024 * 2**power for power in range(8))
"""Tokens of a row."""
WAYS: tuple[tuple[Method, Optimizer], ...] = (
    ("qlora", "adamw"),
    ("lora", "adamw"),
    ("full", "adamw_offload"),
    ("full", "adamw_8bit"),
    ("full", "adamw"),
)


def _llama(hidden: int, layers: int, forward: int, heads: int, *, tied: bool) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": forward}
    family = {"model_type": "llama", "vocab_size": 128256, "tie_word_embeddings": tied}
    heads_of = {"num_attention_heads": heads, "num_key_value_heads": 8}
    return {**family, **sizes, **heads_of, "dtype": "bfloat16"}


def _qwen3(hidden: int, layers: int, forward: int, heads: int, *, tied: bool) -> dict[str, Any]:
    other = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128}
    return _llama(hidden, layers, forward, heads, tied=tied) | other


BASES: Mapping[str, dict[str, Any]] = {
    "Llama 3.2 1B": _llama(2048, 16, 8192, 32, tied=True) | {"head_dim": 64},
    "Qwen3 4B": _qwen3(2560, 36, 9728, 32, tied=True),
    "Llama 3.1 8B": _llama(4096, 32, 14336, 32, tied=False),
    "Qwen3 14B": _qwen3(5120, 40, 17408, 40, tied=False),
    "Qwen3 32B": _qwen3(5120, 64, 25600, 64, tied=False),
    "Llama 3.1 70B": _llama(8192, 80, 28672, 64, tied=False),
}
"""{name: what its config.json says of its sizes}."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One way to train one base."""

    base: str
    method: Method
    optimizer: Optimizer
    longest: tuple[int, ...]
    """Tokens of the longest row that fits each of `CARDS`, of `LENGTHS`; 0: none does."""


def fits() -> Iterator[Fit]:
    """Every way and base, one row a batch in bf16, activations computed again.

    The context length of a base may be less than what fits.
    """
    for base, config in BASES.items():
        shape = ModelShape.of(config)
        for method, optimizer in WAYS:
            longest = tuple(_longest(shape, method, optimizer, card * GIB) for card in CARDS)
            yield Fit(base, method, optimizer, longest)


def _longest(shape: ModelShape, method: Method, optimizer: Optimizer, card: int) -> int:
    def needed(tokens: int) -> int:
        run = PlannedTraining(
            method=method, tokens=tokens, precision="bf16", device="cuda", checkpointing=True,
            optimizer=optimizer,
        )  # fmt: skip
        return predict(shape, run).peak

    return max((length for length in LENGTHS if needed(length) <= FILLED * card), default=0)
