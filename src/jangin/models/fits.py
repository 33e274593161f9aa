"""Which row lengths fit which cards, for bases of 1B to 70B, by the memory plan; no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from jangin.models.memory import GIB, Method, Optimizer, PlannedTraining, predict
from jangin.models.shape import USUAL_BASES, ModelShape

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
    ("full", "adamw_bf16"),
    ("full", "adamw_8bit"),
    ("full", "adamw"),
)


BASES = (
    "meta-llama/Llama-3.2-1B",
    "Qwen/Qwen3-4B",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B",
)
"""A row of each size, of `USUAL_BASES`."""


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
    for base in BASES:
        shape = ModelShape.of(dict(USUAL_BASES[base]))
        for method, optimizer in WAYS:
            longest = tuple(_longest(shape, method, optimizer, card * GIB) for card in CARDS)
            yield Fit(base, method, optimizer, longest)


def _longest(shape: ModelShape, method: Method, optimizer: Optimizer, card: int) -> int:
    def needed(tokens: int) -> int:
        run = PlannedTraining(
            method=method, tokens=tokens, precision="bf16", device="cuda", checkpointing=True,
            optimizer=optimizer, split=True,
        )  # fmt: skip
        return predict(shape, run).peak

    return max((length for length in LENGTHS if needed(length) <= FILLED * card), default=0)
