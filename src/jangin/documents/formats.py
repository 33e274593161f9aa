"""Table of document formats: one row per format, with its reader or with what to convert it to."""

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jangin.documents.office.docx import read_docx
from jangin.documents.office.hwp import read_hwp
from jangin.documents.office.hwpx import read_hwpx
from jangin.documents.office.odf import read_odf
from jangin.documents.office.pptx import read_pptx
from jangin.documents.office.rtf import read_rtf
from jangin.documents.office.xlsx import read_xlsx
from jangin.documents.readers.image import read_image
from jangin.documents.readers.pdf import read_pdf
from jangin.documents.readers.pdf_text import open_pdf
from jangin.documents.readers.plain import read_plain
from jangin.documents.readers.reader import Reader, UnreadableError
from jangin.documents.web.eml import read_eml
from jangin.documents.web.epub import read_epub
from jangin.documents.web.html import read_html


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
    Format("PDF", (".pdf",), read_pdf, packages=("pypdfium2",), version=16),
    Format("Markdown", (".md", ".markdown"), read_plain, is_markdown=True),
    Format("plain text", (".txt",), read_plain),
    Format("HTML", (".html", ".htm", ".xhtml"), read_html, packages=("lxml",), version=2),
    Format("Word", (".docx", ".docm"), read_docx, packages=("lxml",), version=2),
    Format("HWPX", (".hwpx",), read_hwpx, packages=("lxml",)),
    Format("Hangul", (".hwp",), read_hwp, packages=("olefile", "lxml")),
    Format("Hangul XML, Hangul before 2000", (".hwpml", ".hml", ".hwt"), convert_to="HWPX"),
    Format("Word 97", (".doc",), convert_to="DOCX"),
    Format("RTF", (".rtf",), read_rtf, packages=("striprtf",)),
    Format("OpenDocument", (".odt", ".ods", ".odp"), read_odf, packages=("lxml",)),
    Format("PowerPoint", (".pptx", ".pptm", ".ppsx"), read_pptx, packages=("lxml",)),
    Format("Excel", (".xlsx", ".xlsm"), read_xlsx, packages=("lxml",)),
    Format("PowerPoint 97", (".ppt",), convert_to="PPTX or PDF"),
    Format("e-book", (".epub",), read_epub, packages=("lxml",)),
    Format("mail", (".eml",), read_eml, packages=("lxml",)),
    Format("Outlook mail", (".msg", ".pst", ".mbox"), convert_to="EML"),
    Format("Kindle book", (".mobi", ".azw3"), convert_to="EPUB"),
    Format("Excel 97", (".xls", ".xlsb"), convert_to="XLSX"),
    Format("tables", (".csv", ".tsv"), convert_to="XLSX, or read it by examples.read"),
    Format("rows", (".jsonl", ".json"), convert_to="text, or read it by examples.read"),
    Format("archives", (".zip", ".7z", ".rar", ".tar", ".gz"), convert_to="files: unpack it"),
    Format(
        "picture of a page",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
        read_image,
        packages=("PIL",),
        version=12,
    ),
)
"""A row with a reader is all that `load`, `chunk` and `jangin doctor` need for a format."""


def format_of(suffix: str) -> Format | None:
    """The row of a suffix such as `.PDF`; None if no row has it."""
    suffix = suffix.lower()
    return next((row for row in FORMATS if suffix in row.suffixes), None)


MAGIC = (
    (b"{\\rtf", ".rtf"),
    (b"\x89PNG\r\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)
"""First bytes that only one format has."""
PARTS = (
    ("word/", ".docx"),
    ("xl/", ".xlsx"),
    ("ppt/", ".pptx"),
    ("META-INF/container.xml", ".epub"),
)
"""Beginnings of names in a ZIP archive of a format."""
KINDS = (("hwp+zip", ".hwpx"), ("opendocument", ".odt"), ("epub+zip", ".epub"))
"""Parts of the file `mimetype` in such an archive."""
DAMAGED = (
    *(OSError, ValueError, NotImplementedError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What opening a damaged archive raises."""
HEAD = 1024
"""Bytes in which a format shows itself."""


def suffix_by_bytes(path: Path) -> str:
    """The suffix that fits the first bytes of a file, such as `.pdf`; empty where they say nothing.

    Text has no such bytes, and a web page is recognised by its first tag.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if b"%PDF-" in head:
        return ".pdf"
    if head.startswith(b"PK\x03\x04"):
        return _suffix_of_archive(path)
    if re.match(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)[\s>]", head, re.IGNORECASE):
        return ".html"
    return next((suffix for magic, suffix in MAGIC if head.startswith(magic)), "")


def _suffix_of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = b""
            if "mimetype" in names:
                with archive.open("mimetype") as stream:
                    kind = stream.read(HEAD)
    except (
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return ""
    for mark, suffix in KINDS:
        if mark.encode() in kind:
            return suffix
    own = (suffix for start, suffix in PARTS if any(name.startswith(start) for name in names))
    return next(own, "")


def has_pictures(source: str) -> bool:
    """True if a document of this name has pages of a fixed look, which can be shown."""
    row = format_of(PurePosixPath(source).suffix)
    return row is not None and row.read in (read_pdf, read_image)


def page_count(path: Path) -> int:
    """Number of pages of a PDF or a picture, without reading them; 0 for all other files."""
    row = format_of(path.suffix)
    try:
        if row is not None and row.read is read_pdf:
            with open_pdf(path) as document:
                return len(document)
        if row is not None and row.read is read_image:
            from PIL import Image

            with Image.open(path) as picture:
                return int(getattr(picture, "n_frames", 1))
    except (OSError, ValueError, RuntimeError, UnreadableError):
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
