"""The plan of a table: transforms, output format, order and split sizes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Config
from jangin.prepare.tables.readers import TableSettings
from jangin.prepare.transforms.steps import Step

OutputFormat = Literal["chat", "completion", "preference"]


class AsGiven(Config):
    """Keep the order of the file."""

    type: Literal["as_given"] = "as_given"


class Shuffled(Config):
    """Shuffle the rows, which are held in memory for that."""

    type: Literal["shuffled"]
    seed: int = Field(default=0, ge=0)


class Sorted(Config):
    """Sort training rows by answer, numbers by size; the rows are held in memory for that."""

    type: Literal["sorted"]


Order = Annotated[AsGiven | Shuffled | Sorted, Field(discriminator="type")]


class PreparePlan(Config):
    """All settings that affect the output: the same plan on the same file writes the same bytes."""

    table: TableSettings = TableSettings()
    source: Literal["columns", "messages", "pairs", "labels"] = "columns"
    """`messages`: the file holds chats; they become the columns system, history, prompt and
    completion. `pairs`: preference pairs with messages, which get the column rejected, too.
    `labels`: answers labelled good or bad, which are paired by their prompt."""
    prompt: str = "{prompt}"
    """Template of the prompt; `{column}` is replaced by the cell."""
    completion: str = "{completion}"
    """Template of the answer; for preference pairs, of the chosen answer."""
    rejected: str = ""
    """Template of the rejected answer, for preference pairs."""
    system: str = ""
    """Template of a system message; a row for which it is empty gets none."""
    steps: tuple[Step, ...] = ()
    """Row steps first, then table steps."""
    format: OutputFormat = "chat"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that measure the loss during training."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that are excluded from training."""
    group: str = ""
    """Column whose equal values always fall into the same split, such as a document id."""
    near_copies: Annotated[float, Field(ge=0.6, le=1)] | None = None
    """Prompts from this normalised Levenshtein similarity on, such as 0.9, always fall into the
    same split; all prompts are held in memory for that."""
    order: Order = AsGiven()
    """Order of the training rows; `sorted` leaves the other splits in the order of the file."""
    seed: int = Field(default=42, ge=0)
    """Seed of the split."""

    @model_validator(mode="after")
    def _check_shares_and_rejected(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        if (self.format == "preference") != bool(self.rejected):
            raise ValueError("`rejected` is required for format preference, and only for it")
        return self
