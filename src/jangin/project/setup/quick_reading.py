"""A quick look into the documents, without OCR and within a time limit, to estimate costs."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jangin.core.digest import digest_value
from jangin.core.errors import JanginError, counted
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import Document
from jangin.documents.formats import format_of, page_count
from jangin.documents.load import LoadConfig, find_files
from jangin.documents.readers.reader import PageReading, ReaderSettings, SourceFile
from jangin.documents.reading import join_pages
from jangin.text.language import language_of

Level = Literal["likely", "most"]
"""What an estimate is: what a run usually makes, or the most that it can make."""
SECONDS = 15.0
"""Time after which no further file is opened."""
PAGE_CHARACTERS = 900
"""Length that a page without a text layer is taken to have where no page has one."""
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"))


@dataclass(slots=True)
class QuickReading:
    """Documents of some of the files, with borrowed text on pages that only OCR can read."""

    files: int
    """Number of files that `load` would read."""
    opened: int = 0
    documents: list[Document] = field(default_factory=list)
    pages: int = 0
    """Pages of the opened files."""
    ocr_pages: int = 0
    """Those without a text layer."""
    borrowed: set[str] = field(default_factory=set)
    """Ids of the documents with such pages."""
    scale: float = 1.0
    """Size of all files divided by that of the opened ones."""
    chunks: int = 0
    """Estimated number of chunks of all files, once they were cut."""
    factor: float = 1.0
    """Chunks divided by those that represent them."""

    @property
    def text(self) -> str:
        """What the estimates rest on, in a sentence."""
        of = "" if self.opened == self.files else f" of {self.files:,}"
        noun = "file" if self.files == 1 else "files" if not of else "files (a sample)"
        scans = (
            f", {self.ocr_pages:,} of which to be read by OCR and counted like the others"
            if self.ocr_pages
            else ""
        )
        return (
            f"Estimated from {self.opened:,}{of} {noun} with {counted(self.pages, 'page')}{scans}: "
            f"about {counted(self.chunks, 'chunk')}. The run counts exactly"
        )


def read_quickly(
    config: LoadConfig, project_folder: Path, ledger: Ledger, seconds: float | None = None
) -> QuickReading:
    """Read files in a seeded random order until the time limit.

    Raises `DataError` where there is no folder or no file.
    """
    files = find_files(config, project_folder)
    settings = ReaderSettings(ledger, Progress(), ocr="never")
    names = sorted(files)
    random.Random(0).shuffle(names)  # the same sample each time
    result = QuickReading(len(files))
    texts: list[tuple[str, list[str]]] = []
    size = 0
    end = time.monotonic() + (SECONDS if seconds is None else seconds)
    for name in names:
        if result.opened and time.monotonic() > end:
            break
        texts.append((name, list(_pages(SourceFile(name, files[name], ""), settings))))
        result.opened += 1
        size += files[name].stat().st_size
    total = sum(path.stat().st_size for path in files.values())
    result.scale = total / size if size else 1.0
    paged = [page for _, pages in texts if len(pages) > 1 for page in pages if page.strip()]
    borrowed = _borrowed(paged)
    for name, pages in sorted(texts):
        result.pages += len(pages)
        result.ocr_pages += sum(not page.strip() for page in pages)
        whole = [page if page.strip() else next(borrowed) for page in pages]
        if whole:
            result.documents.append(_document(name, whole))
            if whole != pages:
                result.borrowed.add(result.documents[-1].id)
    return result


def _pages(file: SourceFile, settings: ReaderSettings) -> Iterator[str]:
    """Text of each page; empty for one that only OCR can read."""
    suffix = file.path.suffix.lower()
    row = format_of(suffix)
    if suffix in PICTURES:
        yield from [""] * page_count(file.path)
        return
    if row is None or row.read is None:
        return
    try:
        yield from (reading.text for reading in row.read(file, settings))
    except JanginError:  # such as a PDF of scans
        yield from [""] * page_count(file.path)
    except Exception:  # noqa: BLE001  # a damaged file is the business of `load`
        return


def _borrowed(written: list[str]) -> Iterator[str]:
    """Texts for pages that only OCR can read: those of other pages in turn, else made-up ones."""
    words = "가나다라마바사아자차카타파하"
    source = written or [
        " ".join(f"{words[n % 14]}{words[(n + k) % 14]}다." for k in range(PAGE_CHARACTERS // 4))
        for n in range(14)
    ]
    number = 0
    while True:
        yield source[number % len(source)]
        number += 1


def _document(name: str, pages: list[str]) -> Document:
    text, places = join_pages([PageReading(page) for page in pages])
    return Document(
        id=digest_value([name])[:16],
        source=name,
        text=text,
        pages=places,
        language=language_of(text),
    )
