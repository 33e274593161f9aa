"""Bases of request bodies and replies."""

import secrets
import string
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class RequestBody(BaseModel):
    """Body of a request; an unknown field is an error (`unknown_parameter`)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Reply(BaseModel):
    """Body of a reply; fields that OpenAI's schema does not have begin with `x_`."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ItemList(Reply, Generic[Item]):
    """A page of a list."""

    # `ItemList[...]` has no source, and looking for it takes up to 0.2 s for each item type.
    model_config = ConfigDict(use_attribute_docstrings=False)

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool


class BoundedList(ItemList[Item], Generic[Item]):
    """A page of a list that names its first and its last item."""

    first_id: str | None
    last_id: str | None


class Deleted(Reply):
    """That an object was deleted."""

    id: str
    object: str
    deleted: Literal[True] = True


class DeletedFile(Deleted):
    """That a file was deleted."""

    x_rows_in: list[str]
    """Ids of the jobs that have its rows, until all of their files and models are deleted."""


class DeletedModel(Deleted):
    """That a model was deleted."""

    x_kept: list[str]
    """Models that learned from the same rows: its checkpoints, and what continued it."""


# Unguessable ids.


ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """The prefix and random letters and digits, such as `file-cXoUIAvR950JwnmpR7Deuyni`."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))
