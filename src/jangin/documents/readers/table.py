"""Table of document formats: one row per format, with its reader or with what to convert it to."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jangin.documents.readers.docx import read_docx
from jangin.documents.readers.html import read_html
from jangin.documents.readers.image import read_image
from jangin.documents.readers.pdf import read_pdf
from jangin.documents.readers.plain import read_plain
from jangin.documents.readers.reader import Reader


@dataclass(frozen=True, slots=True)
class Format:
    """One document format. Either `read` or `convert_to` is set."""

    name: str
    suffixes: tuple[str, ...]
    """Lower case, with the dot."""
    read: Reader | None = None
    packages: tuple[str, ...] = ()
    """Import names of the libraries that the reader needs; `jangin doctor` looks for them."""
    extra: str = "documents"
    """Optional dependency group of jangin that installs `packages`."""
    version: int = 1
    """Raised when the same file gives another text. It enters the key of projects that have such
    files, and only theirs, so the others keep their documents."""
    is_markdown: bool = False
    """True if underlined lines of the text are headings. `#` headings count in all formats."""
    convert_to: str = ""
    """For a format without a reader: the formats to save such files in."""


FORMATS = (
    Format("PDF", (".pdf",), read_pdf, packages=("pypdfium2",), version=3),
    Format("Markdown", (".md", ".markdown"), read_plain, is_markdown=True),
    Format("plain text", (".txt",), read_plain),
    Format("HTML", (".html", ".htm"), read_html, packages=("lxml",)),
    Format("Word", (".docx",), read_docx, packages=("docx", "lxml")),
    Format(
        "picture of a page",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
        read_image,
        packages=("PIL",),
    ),
    Format("Hangul", (".hwp", ".hwpx"), convert_to="PDF or DOCX"),
    Format("Word 97, RTF, OpenDocument", (".doc", ".rtf", ".odt"), convert_to="DOCX"),
    Format("presentation", (".ppt", ".pptx"), convert_to="PDF"),
    Format("e-book", (".epub",), convert_to="HTML or PDF"),
    Format("spreadsheet", (".xls", ".xlsx"), convert_to="PDF"),
)
"""A row with a reader is all that `load`, `chunk` and `jangin doctor` need for a format."""


def format_of(suffix: str) -> Format | None:
    """The row of a suffix such as `.PDF`; None if no row has it."""
    suffix = suffix.lower()
    return next((row for row in FORMATS if suffix in row.suffixes), None)


def page_count(path: Path) -> int:
    """Number of pages of a PDF or a picture, without reading them; 0 for all other files."""
    row = format_of(path.suffix)
    try:
        if row is not None and row.read is read_pdf:
            import pypdfium2

            with pypdfium2.PdfDocument(path) as document:
                return len(document)
        if row is not None and row.read is read_image:
            from PIL import Image

            with Image.open(path) as picture:
                return int(getattr(picture, "n_frames", 1))
    except (OSError, ValueError, RuntimeError):
        return 0  # `load` says what is wrong with it
    return 0


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of all formats that have a reader, in the order of the table."""
    return tuple(suffix for row in FORMATS if row.read for suffix in row.suffixes)


def versions(names: Collection[str]) -> dict[str, str]:
    """{format: version} of the readers of these files, without those that never changed."""
    rows = {format_of(PurePosixPath(name).suffix) for name in names}
    return {row.name: str(row.version) for row in FORMATS if row in rows and row.version > 1}


def packages() -> Iterator[tuple[str, str]]:
    """(import name, extra) of every library that some reader needs, each once."""
    yield from dict.fromkeys((package, row.extra) for row in FORMATS for package in row.packages)
