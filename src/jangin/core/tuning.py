"""A short training of a base model, to see what it learns; passed to stages as a service."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.core.errors import StageError
from jangin.core.records import Example


@dataclass(frozen=True, slots=True)
class ShortTuning:
    """What to train, on what, for how long."""

    base: Path
    """Folder of a `base` artifact."""
    examples: Sequence[Example]
    """Rows to train on; those that are too long for the base are left out."""
    steps: int
    examples_per_step: int
    method: Literal["full", "lora"]
    seed: int
    folder: Path
    """Where the trained model goes, like an artifact of `sft`."""


Tune = Callable[[ShortTuning], None]


def no_tuning(_request: ShortTuning) -> None:
    """Default of `Services.tune`.

    Raises:
        StageError: Always; only `jangin run` can train.

    """
    raise StageError("no training is available here. Run the stage through `jangin run`.")
