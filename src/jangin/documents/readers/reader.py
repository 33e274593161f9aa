"""Interface of a reader: a source file in, the text of its pages out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jangin.core.errors import DataError
from jangin.core.ledger import Ledger
from jangin.core.stage import Progress
from jangin.documents.layout.text_line import TextLine
from jangin.documents.ocr.reading import DoubtfulLine

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

    ledger: Ledger
    """Cache of slow results, such as OCR."""
    progress: Progress
    ocr: Literal["auto", "always", "never"] = "auto"
    ocr_languages: tuple[str, ...] = ()
    """Tesseract codes; empty to choose by the language of the document."""
    dpi: int = 200
    """Resolution at which pages are rendered for OCR."""
    workers: int = 1
    """Pages that are read by OCR at the same time."""
    keep_doubtful: bool = False
    """Leave doubtful lines of OCR in the text."""
    transcriber: "Transcriber | None" = None
    """A vision model for pages with doubtful lines."""


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
    lines: tuple[TextLine, ...] = ()
    """One for each line of `text` that is not empty, in order; none where it is not known."""
    removed: tuple[str, ...] = ()
    """Running heads, footers and side tabs that are not in `text`."""


class UnreadableError(DataError):
    """A file that has no readable text; its message is `reason`, then `remedy`. Both are stored."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


Reader = Callable[[SourceFile, ReaderSettings], list[PageReading]]
"""Returns the pages in order; a format without pages has one.

Raises `UnreadableError` for a damaged or protected file, `MachineError` where a program is
missing. Libraries are imported inside the function, so that `import jangin` stays light.
"""
