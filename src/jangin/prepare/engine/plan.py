"""The plan of a table: transforms, output format, order and split sizes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Config
from jangin.prepare.tables.readers import TableSettings
from jangin.prepare.transforms.steps import Step

OutputFormat = Literal["chat", "completion", "preference"]


class AsGiven(Config):
    """Rows stand as in the file."""

    type: Literal["as_given"] = "as_given"


class Shuffled(Config):
    """Rows stand in a drawn order; they are held in memory for that."""

    type: Literal["shuffled"]
    seed: int = Field(default=0, ge=0)


class Sorted(Config):
    """Training rows stand by answer, numbers by size; they are held in memory for that."""

    type: Literal["sorted"]


Order = Annotated[AsGiven | Shuffled | Sorted, Field(discriminator="type")]


class Plan(Config):
    """All that decides what comes out: the same plan on the same file gives the same files."""

    table: TableSettings = TableSettings()
    source: Literal["columns", "messages"] = "columns"
    """`messages`: the file holds chats, which become the columns system, prompt and completion."""
    prompt: str = "{prompt}"
    """Pattern of the prompt; `{column}` is filled in."""
    completion: str = "{completion}"
    """Pattern of the answer; of the better one, for preference."""
    rejected: str = ""
    """Pattern of the worse answer, for preference."""
    system: str = ""
    """Pattern of a system message; none where it comes out empty."""
    steps: tuple[Step, ...] = ()
    """Steps by row, then those over all rows."""
    format: OutputFormat = "chat"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that measure the loss during training."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that nothing is trained on."""
    group: str = ""
    """Column whose equal values never fall into different splits, such as a document's id."""
    order: Order = AsGiven()
    """Of the training rows; `sorted` leaves the other splits as given."""
    seed: int = Field(default=42, ge=0)
    """Draws the splits."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        if (self.format == "preference") != bool(self.rejected):
            raise ValueError("`rejected` belongs to the format preference, which needs it")
        return self
