"""Edit the project file: problems with their lines, and no lost updates."""

import difflib
import hashlib
import os
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from jangin.core.digest import digest_file, short_digest
from jangin.core.errors import ConfigError, JanginError
from jangin.core.store import disk_errors
from jangin.documents.formats import format_of, readable_suffixes
from jangin.documents.load import LoadConfig, find_files
from jangin.documents.readers.folder import LOCKS, OF_FILE_MANAGERS
from jangin.project.file import LoadedProject, parse_project
from jangin.project.unread_files import note_output
from jangin.serving.pages.visit import PageError

MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at a line from 1."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the project file and the digest by which a change is noticed."""

    text: str
    digest: str


class ChangedError(JanginError):
    """The file is not what it was when the page showed it."""

    def __init__(self, theirs: Text) -> None:
        """`theirs` is what the file says now."""
        super().__init__("the project file has changed")
        self.theirs = theirs


def read_text(path: Path) -> Text:
    """The file as it is now; empty where there is none.

    Raises:
        ConfigError: it cannot be read or is not UTF-8.

    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Text("", "")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return Text(data.decode("utf-8-sig"), digest_of(data))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8. Save it as UTF-8 with another editor.") from error


def digest_of(data: bytes) -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def normalized(text: str) -> str:
    """A text of a form, whose lines end with CR LF, as a file."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines if lines.endswith("\n") or not lines else f"{lines}\n"


def problems_of(text: str, path: Path) -> list[Problem]:
    """What is wrong with a text, in the order of its lines."""
    try:
        parse_project(text, path)
    except ConfigError as error:
        return sorted(_located(str(error), path), key=lambda problem: problem.line)
    return []


def _located(message: str, path: Path) -> Iterator[Problem]:
    for line in message.splitlines():
        match = re.match(rf"{re.escape(str(path))}:(\d+): ", line)
        if match is None:
            yield Problem(1, line.removeprefix(f"{path}: "))
        else:
            yield Problem(int(match[1]), line[match.end() :])


def save(path: Path, text: str, digest: str, server_folder: Path) -> LoadedProject:
    """Write a right text in place of the one with `digest`.

    Raises:
        ConfigError: it is wrong; nothing is written.
        ChangedError: the file has changed since; nothing is written.
        StoreError: the disk is full, or the file cannot be written.

    """
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise PageError(413, "start_too_large", megabytes=MOST_BYTES // 1_000_000)
    loaded = parse_project(text, path)
    now = read_text(path)
    if now.digest != digest and now.text != text:
        raise ChangedError(now)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        try:
            partial.write_bytes(data)
            if path.exists():
                partial.chmod(path.stat().st_mode & 0o777)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    note_output(loaded, server_folder)
    return loaded


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of two texts side by side."""

    kind: str
    """`same`, `mine` or `theirs`."""
    text: str


def differences(mine: str, theirs: str) -> list[DiffLine]:
    """Both texts in one column, line by line."""
    kinds = {" ": "same", "-": "theirs", "+": "mine"}
    return [
        DiffLine(kinds[line[0]], line[2:])
        for line in difflib.ndiff(theirs.splitlines(), mine.splitlines())
        if line[0] in kinds
    ]


# Files dropped into the browser: names are data, bytes go to disk piece by piece.


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
