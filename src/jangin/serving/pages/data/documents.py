"""The documents that a project has read: by id, with their pages, texts and files."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from jangin.core.digest import digest_file
from jangin.core.parquet import part_paths
from jangin.core.records import OrderDoubt
from jangin.core.store import Artifact
from jangin.documents.formats import has_pictures
from jangin.documents.load import LoadConfig, NeverOcr
from jangin.documents.ocr.tesseract import KOREAN
from jangin.serving.pages.preparing import preparing
from jangin.serving.state.project import Snapshot

TABLE = "documents.parquet"
DPI = 200
"""Resolution for OCR where the project does not say."""


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page of a document: its range in the text, and how it was read."""

    number: int
    start: int
    end: int
    is_ocr: bool
    confidence: float | None
    reason: str
    doubts: tuple[OrderDoubt, ...] = ()
    """Why the order of its lines is doubtful."""


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """One document that `load` has read, without its text."""

    id: str
    source: str
    language: str
    pages: tuple[PageEntry, ...]
    characters: int
    artifact: Path
    """Folder of the artifact of `load`."""
    content: str
    """Digest of that artifact's content."""
    folder: Path | None
    """Folder of the source files; None where the project does not read files any more."""
    dpi: int = DPI
    """Resolution at which its pages are given to OCR."""
    ocr_languages: tuple[str, ...] = (KOREAN,)

    def page(self, number: int) -> PageEntry | None:
        """The page of this number, or None."""
        return next((page for page in self.pages if page.number == number), None)

    def page_at(self, position: int) -> PageEntry:
        """The page on which a character of the text is."""
        return next((p for p in self.pages if p.start <= position < p.end), self.pages[-1])

    @property
    def has_pictures(self) -> bool:
        """True if its pages can be shown as long as its file is there."""
        return has_pictures(self.source)

    @property
    def text(self) -> str:
        """The whole text; kept for the documents that were asked for last."""
        return _text(self.artifact, self.content, self.id)


def project_documents(snapshot: Snapshot, variant: str = "") -> dict[str, DocumentEntry]:
    """{id: document} of one variant or of all; what several have read is that of the first."""
    project = snapshot.project
    return documents_of(
        (state.last["load"], project.folder, project.variants[name].documents.load)
        for name, state in snapshot.variants.items()
        if "load" in state.last and variant in ("", name)
    )


Source = tuple[Artifact, Path, LoadConfig | None]
"""(artifact of `load`, folder of the project, settings of the stage)."""


def documents_of(sources: Iterable[Source]) -> dict[str, DocumentEntry]:
    """{id: document} of several artifacts; the first one that has a document counts."""
    documents: dict[str, DocumentEntry] = {}
    for artifact, project_folder, config in sources:
        folder = project_folder / config.folder if config is not None else None
        dpi, languages = _ocr_settings(config)
        with preparing("pages_preparing_documents"):
            rows = _index(artifact.path, artifact.manifest.content, folder, dpi, languages)
        documents = {**rows, **documents}
    return documents


def _ocr_settings(config: LoadConfig | None) -> tuple[int, tuple[str, ...]]:
    if config is None or isinstance(config.ocr, NeverOcr):
        return DPI, ()
    languages = config.ocr.languages
    return config.ocr.dpi, () if languages == "auto" else languages


@lru_cache(maxsize=16)
def _index(
    path: Path, content: str, folder: Path | None, dpi: int, languages: tuple[str, ...]
) -> Mapping[str, DocumentEntry]:
    import polars as pl

    frame = (
        pl.scan_parquet(part_paths(path / TABLE))
        .select("id", "source", "language", "pages", pl.col("text").str.len_chars().alias("size"))
        .collect()
    )
    return {
        row["id"]: DocumentEntry(
            row["id"],
            row["source"],
            row["language"],
            tuple(_page(page) for page in row["pages"]),
            row["size"],
            path,
            content,
            folder,
            dpi,
            languages or ((KOREAN,) if row["language"] == "ko" else ("eng",)),
        )
        for row in frame.iter_rows(named=True)
    }


def _page(row: Mapping[str, Any]) -> PageEntry:
    confidence = row["confidence"]
    return PageEntry(
        int(row["number"]),
        int(row["start"]),
        int(row["end"]),
        row["method"] == "ocr",
        None if confidence is None else float(confidence),
        str(row["reason"]),
        tuple(OrderDoubt.model_validate(doubt) for doubt in row.get("doubts") or ()),
    )


@lru_cache(maxsize=8)
def _text(path: Path, _content: str, document_id: str) -> str:
    import polars as pl

    frame = (
        pl.scan_parquet(part_paths(path / TABLE))
        .filter(pl.col("id") == document_id)
        .select("text")
        .collect()
    )
    return str(frame.item())


def source_file(document: DocumentEntry) -> Path | None:
    """The file of a document, or None where it is gone or has other bytes by now.

    Like `load`, it follows a link to a file but none to a folder. The digest of the bytes makes
    sure that nothing is shown but what `load` has read.
    """
    path = _path(document)
    if path is None:
        return None
    try:
        state = path.stat()
        digest = _digest(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError:
        return None
    return path if digest[: len(document.id)] == document.id else None


def digest_of(document: DocumentEntry) -> str:
    """sha256 of the file of a document; empty where it is gone or has other bytes by now."""
    path = source_file(document)
    return "" if path is None else digest_file(path)


def is_gone(document: DocumentEntry) -> bool:
    """True if there is no file of the document's name any more."""
    return _path(document) is None


def _path(document: DocumentEntry) -> Path | None:
    if document.folder is None:
        return None
    for form in ("NFC", "NFD"):
        parts = PurePosixPath(unicodedata.normalize(form, document.source)).parts
        if any(part in ("..", "/") for part in parts):
            return None
        path = document.folder.joinpath(*parts)
        above = [document.folder.joinpath(*parts[:end]) for end in range(1, len(parts))]
        if path.is_file() and not any(folder.is_symlink() for folder in above):
            return path
    return None


@lru_cache(maxsize=4096)
def _digest(path: Path, _inode: int, _size: int, _changed: int) -> str:
    return digest_file(path)
