"""Save decisions of people about doubtful lines of OCR, sent by the page that shows them."""

from collections.abc import Mapping
from typing import Any, Literal

from jangin.documents.ocr.corrections import (
    LOG,
    Correction,
    append_corrections,
    correct,
    read_corrections,
)
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.visit import PageError

Choice = Literal["right", "text", "drop", "undo"]
"""Right as it was read, another text, no text on the page, or nothing after all."""
MOST_LINE = 2_000
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
