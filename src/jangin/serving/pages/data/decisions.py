"""Save what people decide about doubtful lines of OCR and about the columns of a page."""

from collections.abc import Mapping
from typing import Any, Literal

from jangin.documents import page_columns
from jangin.documents.ocr.corrections import (
    LOG,
    Correction,
    append_corrections,
    correct,
    read_corrections,
)
from jangin.documents.page_columns import ColumnsDecision
from jangin.serving.pages.data.documents import DocumentEntry, digest_of
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.visit import PageError

Choice = Literal["right", "text", "drop", "undo"]
"""Right as it was read, another text, no text on the page, or nothing after all."""
MOST_LINE = 2_000
ColumnsChoice = Literal["1", "2", "3", "undo"]
"""Number of columns, or that the reader is to find them again."""
Line = tuple[str, int, int, str]
"""Document, page, number of the line, and the text that was read."""


def decisions_of(project: OpenProject) -> Mapping[Line, Correction]:
    """The last decision about each line that was not withdrawn."""
    last = {
        (each.document, each.page, each.line, each.read): each
        for each in read_corrections(project.folder / LOG)
    }
    return {line: each for line, each in last.items() if each.text is not None}


def note_decision(
    project: OpenProject, row: Mapping[str, Any], choice: Choice, text: str, by: str
) -> None:
    """Append a decision to the project's log.

    Raises `PageError` for an empty text, `DataError` where the log cannot be written.
    """
    written = " ".join(text.split())
    if choice == "text" and not written:
        raise PageError(400, "data_line_empty")
    says = {"right": row["text"], "text": written, "drop": "", "undo": None}[choice]
    decision = correct(
        row["document"], row["source"], row["page"], row["line"], row["text"], says, by
    )
    append_corrections(project.folder / LOG, [decision])


def columns_of(project: OpenProject, document: DocumentEntry, page: int) -> ColumnsDecision | None:
    """What was decided about a page or about its whole file, the page first."""
    decisions = page_columns.read_decisions(project.folder / page_columns.LOG)
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
    log = project.folder / page_columns.LOG
    page_columns.decide_columns(log, digest, document.source, page, columns, by)
