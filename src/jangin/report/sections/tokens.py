"""First rows of the training data as the tokens that a model sees, trained ones marked."""

from typing import TYPE_CHECKING

from jangin.core.errors import JanginError
from jangin.project.file import LoadedProject
from jangin.project.tables.tokens import token_rows
from jangin.report.data.artifacts import Artifacts

if TYPE_CHECKING:
    from jangin.models.tokens.preview import PreviewRow

MOST_ROWS = 3


def token_preview(loaded: LoadedProject, artifacts: Artifacts) -> "list[PreviewRow]":
    """Rows of the first variant whose base model and split are there; empty without one.

    A row that cannot be rendered is reported by the training stage.
    """
    for variant, project in loaded.variants.items():
        try:
            return token_rows(project, artifacts.get(variant, {}), MOST_ROWS)
        except JanginError:
            continue
    return []
