"""Edit the project file: problems with their lines, and no lost updates."""

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jangin.core.errors import ConfigError, JanginError
from jangin.core.store import disk_errors
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
