"""Files dropped into the browser: names are data, bytes go to disk piece by piece."""

import os
import re
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from jangin.core.digest import digest_file, short_digest
from jangin.core.store import disk_errors
from jangin.documents.formats import format_of, readable_suffixes
from jangin.documents.load import LoadConfig, find_files
from jangin.documents.readers.folder import LOCKS, OF_FILE_MANAGERS
from jangin.project.file import LoadedProject
from jangin.serving.pages.visit import PageError

REMOVED = "removed"
"""Folder of the server with what was removed or replaced: nothing is lost."""
MOST_NAME_BYTES = 180
REPLIES = (".jsonl",)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in the folder of the documents."""

    id: str
    """By which a page names it."""
    name: str
    bytes: int
    readable: bool


def safe_name(name: str, suffixes: tuple[str, ...]) -> str:
    """A client's name as that of a file in one folder.

    Raises:
        PageError: nothing is left of it, or its suffix is not one of `suffixes`.

    """
    last = last_part(name)
    printable = "".join(
        c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
    clean = _UNSAFE.sub("_", " ".join(printable.split())).strip(" .")
    stem, suffix = Path(clean).stem, Path(clean).suffix
    if not stem or suffix.lower() not in suffixes:
        row = format_of(suffix.lower())
        if row is not None and row.convert_to:
            raise PageError(400, "start_convert", suffix=suffix.lower(), formats=row.convert_to)
        usual = ", ".join(suffixes) if len(suffixes) < 4 else ""
        key = "start_wrong_suffix_of" if usual else "start_wrong_suffix"
        raise PageError(400, key, suffix=_short(suffix or last), formats=usual)
    while len((stem + suffix).encode()) > MOST_NAME_BYTES:
        stem = stem[:-1]
    return stem + suffix


def last_part(name: str) -> str:
    """A client's name without its folders, NFC."""
    return re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]


def is_of_the_system(name: str) -> bool:
    """True for what office programs and file managers put beside files: nothing is missed."""
    last = last_part(name)
    return last.startswith((*LOCKS, ".")) or last.lower() in OF_FILE_MANAGERS


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:79]}…"


def documents_folder(folder: Path, loaded: LoadedProject | None) -> Path:
    """Where documents belong: that of the project file, or `documents` beside where it will be.

    Raises:
        PageError: the project reads no documents, or from a folder that is not its own.

    """
    if loaded is None:
        return folder / "documents"
    for project in loaded.variants.values():
        config = project.stage_config("load")
        if isinstance(config, LoadConfig):
            target = folder / config.folder
            if not target.resolve().is_relative_to(folder.resolve()):
                raise PageError(400, "start_folder_elsewhere", folder=str(config.folder))
            return target
    raise PageError(400, "start_no_documents")


def list_documents(folder: Path, documents: Path) -> list[Listed]:
    """The files in the folder of the documents, with whether jangin reads them."""
    if not documents.is_dir():
        return []
    config = LoadConfig(folder=Path(os.path.relpath(documents, folder)))
    try:
        readable = find_files(config, folder)
    except Exception:  # noqa: BLE001  an empty folder, or two names that differ in Hangul only
        readable = {}
    return [
        Listed(short_digest(name), name, path.stat().st_size, readable=True)
        for name, path in readable.items()
        if path.is_file()
    ]


async def receive(pieces: AsyncIterator[bytes], target: Path, limit: int, removed: Path) -> Path:
    """Write pieces of a body to `target`, which is replaced only once they are complete.

    Raises:
        PageError: there are more than `limit` bytes, or none.
        StoreError: the disk is full, or the folder cannot be written.

    """
    partial = target.with_name(f".{target.name[:60]}.{os.getpid()}-{time.time_ns()}.partial")
    size = 0
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as stream:
                async for piece in pieces:
                    size += len(piece)
                    if size > limit:
                        raise PageError(413, "start_too_large", megabytes=limit // 1_000_000)
                    await run_in_threadpool(stream.write, piece)
            if not size:
                raise PageError(400, "start_empty_file", name=target.name)
            await run_in_threadpool(replace, partial, target, removed)
        finally:
            partial.unlink(missing_ok=True)
    return target


def replace(partial: Path, target: Path, removed: Path) -> None:
    """Move a complete file to its name; a different one of that name is kept among the removed."""
    if target.is_file() and digest_file(target) != digest_file(partial):
        set_aside(target, removed)
    partial.replace(target)


def set_aside(path: Path, removed: Path) -> Path:
    """Move a file to the removed ones; returns its new path."""
    removed.mkdir(parents=True, exist_ok=True)
    kept = removed / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000}-{path.name}"
    path.replace(kept)
    return kept


def move_beside(path: Path, target: Path, removed: Path) -> None:
    """Move a file out of the documents; a different one of its new name is kept as removed."""
    with disk_errors(target):
        if target.is_file():
            set_aside(target, removed)
        path.replace(target)


def remove(folder: Path, documents: Path, file_id: str, removed: Path) -> str:
    """Move a document out of the folder; returns its name. Raises `PageError` if it is missing."""
    known = next((f for f in list_documents(folder, documents) if f.id == file_id), None)
    if known is None:
        raise PageError(404, "start_no_such_file")
    with disk_errors(removed):
        set_aside(documents / known.name, removed)
    return known.name


def document_suffixes() -> tuple[str, ...]:
    """Suffixes of what can be dropped as a document."""
    return readable_suffixes()
