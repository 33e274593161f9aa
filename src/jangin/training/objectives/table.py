"""The objectives of training, one row each; stages, workers and the memory estimate look here.

A new objective is a file in this folder with two classes, a `TrainingTask` and an `Objective`, and
a row in `OBJECTIVES`. Cheap to import: the memory estimate reads the table without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from jangin.core.errors import TrainingError
from jangin.training.loop.config import StepMetrics, TrainingConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from jangin.training.loop.objective import Objective
    from jangin.training.loop.process_group import ProcessGroup
    from jangin.training.loop.weights import Origin, Start


class TrainingTask(Protocol):
    """The rows of one training, the model it starts from, and how both become an `Objective`."""

    name: ClassVar[str]
    """That of the row in `OBJECTIVES`."""
    metrics: ClassVar[type[StepMetrics]]
    """One line of metrics.jsonl."""

    @property
    def start(self) -> "Start":
        """The model that training starts from."""
        ...

    @property
    def lengths(self) -> "npt.NDArray[np.int64]":
        """(R) tokens of each row, for the memory estimate and for messages."""
        ...

    @property
    def trained_share(self) -> float:
        """Share of these tokens that the loss counts."""
        ...

    @property
    def keeps_weights(self) -> bool:
        """Whether a copy of the last good weights is kept while training."""
        ...

    def load(self, config: TrainingConfig) -> "tuple[Any, torch.dtype]":
        """(the model, dtype of its checkpoint), before `make_trainable`."""
        ...

    def origin(self, config: TrainingConfig) -> "Origin":
        """What `load` reads, for those that read it another way."""
        ...

    def objective(self, model: Any, config: TrainingConfig, group: "ProcessGroup") -> "Objective":
        """The loss of `model`, whose trainable weights require gradients, on these rows."""
        ...

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the rows for the workers; returns what else they need, as JSON values."""
        ...

    @classmethod
    def read(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """The task that `write` wrote; `settings` holds what it returned."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectiveRow:
    """One objective, as far as it is known without torch."""

    name: str
    """`objective` in a worker's task.json."""
    task: Callable[[], type[TrainingTask]]
    """Imports the file of the objective and returns its task class."""
    keeps_logits: bool = False
    """Whether the backward pass keeps the float32 logits of all trained tokens of a batch, as
    `linear_log_probs` does up to `PAIR_LOGITS_BYTES` (beyond that, one chunk). The fused
    cross-entropy keeps one chunk. Only the memory estimate reads this."""


def _sft() -> type[TrainingTask]:
    from jangin.training.objectives.sft import SftTask

    return SftTask


def _dpo() -> type[TrainingTask]:
    from jangin.training.objectives.dpo import DpoTask

    return DpoTask


OBJECTIVES: tuple[ObjectiveRow, ...] = (
    ObjectiveRow("sft", _sft),  # masked cross-entropy: sft, continue_sft and pretrain
    ObjectiveRow("dpo", _dpo, keeps_logits=True),
)


def find_objective(name: str) -> ObjectiveRow:
    """The row of this name.

    Raises `TrainingError` for a name that is not in the table.
    """
    for row in OBJECTIVES:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in OBJECTIVES)
    raise TrainingError(
        f"there is no training objective {name!r}. Use one of {known}, or add a row to "
        "jangin/training/objectives/table.py."
    )
