"""Corrections of lines that OCR read: a log beside the project file, `ocr_corrections.jsonl`.

One line for each decision of a person about one line of a page: what was read, and what the page
says. The log is only appended to; of several decisions about the same line the last one holds.
`load` puts the corrected lines into the text, where a doubtful line would be missing. A decision
names its document by the digest of the file, so it applies wherever the file is, and to no other
version of it. Where a later version of the OCR reads another text, the line is found by the text
that was read, else the decision is reported as one that no longer applies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record
from jangin.core.store import output_errors
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading

LOG = "ocr_corrections.jsonl"
"""Name of the log in the folder of the project file."""


class Correction(Record):
    """One line of the log: what a person says about one line of a page."""

    document: str = Field(min_length=64, max_length=64)
    """sha256 of the file's bytes."""
    source: str
    """Name of the file when it was corrected; for a person only."""
    page: int = Field(ge=1)
    line: int = Field(ge=0)
    """Number of the line on the page as OCR read it, doubtful and empty lines included, from 0."""
    read: str
    """The line as OCR read it."""
    text: str | None
    """The line as it is on the page: equal to `read` where that is right, empty where the page has
    no text there, None to withdraw earlier decisions."""
    by: str = ""
    """Name of the person."""
    at: datetime


Corrections = Mapping[str, Mapping[int, Sequence[Correction]]]
"""{digest of a document: {page: corrections}}."""


def correct(
    document: str, source: str, page: int, line: int, read: str, text: str | None, by: str
) -> Correction:
    """A decision about one line, made now."""
    at = datetime.now(UTC).replace(microsecond=0)
    return Correction(
        document=document, source=source, page=page, line=line, read=read, text=text, by=by, at=at
    )


def read_corrections(path: Path) -> list[Correction]:
    """Every line of the log, in order; none where there is no file.

    An incomplete last line, which a killed process left, is none.

    Raises: DataError: a line is no correction; names file, line and field.
    """
    return complete_records(path, Correction)


def append_corrections(path: Path, corrections: Sequence[Correction]) -> None:
    """Append to the log; on the disk when this returns. Several processes may append.

    Raises: DataError: the file cannot be written.
    """
    with output_errors(path):
        append_durably(path, [each.model_dump_json() for each in corrections])


def collect_corrections(corrections: Iterable[Correction]) -> Corrections:
    """The last decision about each line, without those that were withdrawn."""
    last: dict[tuple[str, int, int, str], Correction] = {}
    for each in corrections:
        last[each.document, each.page, each.line, each.read] = each
    pages: dict[str, dict[int, list[Correction]]] = {}
    for each in last.values():
        if each.text is not None:
            pages.setdefault(each.document, {}).setdefault(each.page, []).append(each)
    return pages


def corrected(
    reading: OcrReading, corrections: Sequence[Correction]
) -> tuple[OcrReading, list[Correction]]:
    """(the reading with these corrections of its page, those that fit none of its lines).

    A corrected line is in the text and no longer doubtful.
    """
    lines = (reading.complete or reading.text).split("\n")
    texts: dict[int, str] = {}
    unfit = []
    for each in corrections:
        number = _find(lines, each)
        if number is None:
            unfit.append(each)
        else:
            texts[number] = each.text or ""
    if not texts:
        return reading, unfit
    doubtful = tuple(line for line in reading.doubtful if line.number not in texts)
    lines = [texts.get(number, line) for number, line in enumerate(lines)]
    complete = "\n".join(lines) if doubtful else ""
    text = text_without(lines, doubtful)
    return replace(reading, text=text, doubtful=doubtful, complete=complete), unfit


def text_without(lines: Sequence[str], doubtful: Iterable[DoubtfulLine]) -> str:
    """All lines of a page, of the doubtful ones what is kept."""
    parts = {line.number: line.kept for line in doubtful}
    kept: list[str] = []
    for number, line in enumerate(lines):
        text = parts.get(number, line)
        if text or (kept and kept[-1]):
            kept.append(text)
    return "\n".join(kept).strip()


def _find(lines: Sequence[str], correction: Correction) -> int | None:
    """Index of the nearest line with this reading; None if there is none."""
    same = [number for number, line in enumerate(lines) if line == correction.read]
    return min(same, key=lambda number: abs(number - correction.line), default=None)
