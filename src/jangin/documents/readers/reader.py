"""Interface of a reader: a source file in, the text of its pages out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jangin.core.errors import DataError
from jangin.core.events import Progress
from jangin.core.reasons import Reason
from jangin.documents.layout.shapes import TextLine
from jangin.documents.ocr.corrections import Corrections, corrected
from jangin.documents.ocr.reader import Memos, OcrReader, other_languages
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading

if TYPE_CHECKING:
    from jangin.documents.ocr.vision import Transcriber


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read. It is not empty."""

    name: str
    """Path inside the source folder, with forward slashes, NFC."""
    path: Path
    digest: str
    """sha256 of its bytes, 64 hex characters."""

    def read_bytes(self) -> bytes:
        """The content; a reader that can work on `path` saves the memory."""
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """Settings and services for all readers; each uses what it needs."""

    ledger: Memos
    """Cache of slow results, such as OCR."""
    progress: Progress
    ocr: Literal["auto", "always", "never"] = "auto"
    ocr_languages: tuple[str, ...] = ()
    """Tesseract codes; empty to choose by the language of the document."""
    dpi: int = 200
    """Resolution at which pages are rendered for OCR."""
    workers: int = 1
    """Pages that are read by OCR at the same time."""
    most_ocr_pages: int | None = None
    """Unknown pages that a reader may read by OCR in one go; more raise `UnreadPagesError`."""
    keep_doubtful: bool = False
    """Leave doubtful lines of OCR in the text."""
    transcriber: "Transcriber | None" = None
    """A vision model for pages with doubtful lines."""
    corrections: Corrections = field(default_factory=dict)
    """What people corrected in readings of OCR."""
    columns: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """What people said about columns: {sha256 of a file: {page: number of columns}}; page 0 stands
    for every page that is not named."""

    slow_pages: frozenset[int] = frozenset()
    """Pages of the file, from 1, that took more than their limit and are left empty."""

    def columns_of(self, digest: str, page: int) -> int | None:
        """Number of columns that a person gave for a page (from 1); None to find them."""
        pages = self.columns.get(digest, {})
        return pages.get(page, pages.get(0))

    def ocr_reader(self, languages: tuple[str, ...]) -> OcrReader:
        """An OCR reader for these languages; others are tried unless the settings name some.

        Raises:
            MachineError: Tesseract or one of the languages is not installed.

        """
        others = () if self.ocr_languages else other_languages(languages)
        return OcrReader(
            self.ledger, languages, self.dpi, self.workers, others, self.most_ocr_pages
        )


@dataclass(frozen=True, slots=True)
class PageReading:
    """Text of one page: NFC, LF line ends, headings as Markdown lines where they are known."""

    text: str
    method: Literal["text", "ocr"] = "text"
    confidence: float | None = None
    """Mean word confidence of OCR, 0 to 100; None for text that needed no OCR."""
    reason: str = ""
    """Why OCR was used or the text was reordered; empty otherwise. It is stored."""
    doubtful: tuple[DoubtfulLine, ...] = ()
    """Lines that OCR is not sure of; they are not in `text` unless the settings keep them."""
    ocr_lines: int = 0
    """Lines that OCR read."""
    checked_lines: int = 0
    """Those that other models read, too."""
    lines: tuple[TextLine, ...] = ()
    """One for each line of `text` that is not empty, in order; none where it is not known."""
    removed: tuple[str, ...] = ()
    """Running heads, footers and side tabs that are not in `text`."""
    crossed: int = 0
    """Lines of a text layer that go across a white strip that may part columns."""


def with_corrections(
    file: SourceFile, settings: ReaderSettings, readings: Mapping[int, OcrReading]
) -> dict[int, OcrReading]:
    """{page: reading} with what people corrected; a message says how much, and what fits no line.

    Corrections of pages that were not read by OCR are among those that fit no line. Before them,
    lines are set aside whose words the document spells otherwise many times.
    """
    from jangin.documents.ocr.vocabulary import doubt_misspelt

    readings = doubt_misspelt(readings)
    own = settings.corrections.get(file.digest, {})
    if not own:
        return readings
    done = dict(readings)
    unfit = [each for page, lines in own.items() if page not in readings for each in lines]
    for page in own.keys() & readings.keys():
        done[page], rest = corrected(readings[page], own[page])
        unfit += rest
    count = sum(map(len, own.values())) - len(unfit)
    settings.progress.message(f"{file.name}: lines of OCR corrected by hand: {count}")
    if unfit:
        pages = ", ".join(map(str, sorted({each.page for each in unfit})))
        settings.progress.message(
            f"{file.name}: {len(unfit)} corrections of lines fit no line that OCR reads now "
            f"(page {pages}): {unfit[0].read!r}. Correct them again: jangin doubtful"
        )
    return done


class UnreadableError(DataError):
    """A file that has no readable text; its message is `reason`, then `remedy`. Both are stored."""

    def __init__(self, reason: Reason, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


def damaged(what: str, remedy: str) -> UnreadableError:
    """The error of a file in which something is wrong: `what`, a sentence or a reason."""
    return UnreadableError(Reason("damaged", what=what), remedy)


Reader = Callable[[SourceFile, ReaderSettings], list[PageReading]]
"""Returns the pages in order; a format without pages has one.

Raises `UnreadableError` for a damaged or protected file, `MachineError` where a program is
missing. Libraries are imported inside the function, so that `import jangin` stays light.
"""
