"""Save what people say about the columns of a page, sent by the page that shows it."""

from typing import Literal

from jangin.documents.page_columns import LOG, ColumnsDecision, decide_columns, read_decisions
from jangin.serving.pages.data.documents import DocumentEntry, digest_of
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.visit import PageError

ColumnsChoice = Literal["1", "2", "3", "undo"]
"""Number of columns, or that the reader is to find them again."""


def columns_of(project: OpenProject, document: DocumentEntry, page: int) -> ColumnsDecision | None:
    """What was decided about a page or about its whole file, the page first."""
    decisions = read_decisions(project.folder / LOG)
    own = {
        number: each
        for (digest, number), each in decisions.items()
        if digest.startswith(document.id)
    }
    return own.get(page) or own.get(0)


def note_columns(
    project: OpenProject, document: DocumentEntry, page: int, choice: ColumnsChoice, by: str
) -> None:
    """Append a decision to the project's log; `page` 0 stands for the whole file.

    Withdrawn is what holds for the page: where that was said of the whole file, this.

    Raises `PageError` where the file is gone, `DataError` where the log cannot be written.
    """
    digest = digest_of(document)
    if not digest:
        raise PageError(404, "pictures_no_page")
    if choice == "undo":
        decision = columns_of(project, document, page)
        page = decision.page if decision else page
    columns = None if choice == "undo" else int(choice)
    decide_columns(project.folder / LOG, digest, document.source, page, columns, by)
