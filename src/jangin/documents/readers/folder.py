"""The contents of a folder of documents: the files to read, and why others are left out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jangin.core.records import Record
from jangin.core.store import OUTPUTS, output_names
from jangin.text.normalize import nfc

USUAL_FORMATS = "PDF, DOCX, XLSX, PPTX, HWPX, HTML, Markdown or text"
"""What messages offer; the table of readers has more."""
LISTED = 20
"""Files that one line names, and lines of a list."""
OF_FILE_MANAGERS = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db"})
"""Names, in lower case, of what file managers put beside files."""
LOCKS = ("~$", ".~lock.")
"""How names of the lock files of Word, Excel and PowerPoint, and of LibreOffice, begin."""
PROJECT_FILE = "project.yaml"
"""Not a document where a project is in the folder of its documents."""
LEDGER = "ledger.sqlite"
"""A folder that holds it is a store."""

NOTHING_MISSING = "Nothing is missing."
"""Remedy for a file that no reader expects among the documents."""
HIDDEN = "it is hidden, as its name begins with a dot."
LOCK = "an office program keeps it while a document is open."
OF_A_FILE_MANAGER = "a file manager keeps it for itself."
OUTPUT = "jangin wrote it, or took decisions from it."
STORE_OF_A_PROJECT = "it is the store of a project."
OF_A_PROJECT = "it is a project file."
FORBIDDEN = "you may not read it."
FORBIDDEN_FOLDER = "the folder cannot be opened."
GET_THE_RIGHT = "Give yourself the right to read it."
TOP = "."
"""Name of the folder of the documents itself, where it cannot be opened."""
SAME_BYTES = "it has the same bytes as"
"""How the reason of a copy begins; the name of the file that is read follows."""
REPLACED_BY = "it is replaced (load.replaces) by"
"""How the reason of an old edition begins; the name of the new one follows."""
EXPECTED = frozenset({HIDDEN, LOCK, OF_A_FILE_MANAGER, OUTPUT, STORE_OF_A_PROJECT, OF_A_PROJECT})
"""Reasons of files that are left out without any loss."""


class UnreadableFile(Record):
    """A file without a readable text, or one that is left out: why, and what to do about it."""

    source: str
    reason: str
    remedy: str

    @property
    def is_missed(self) -> bool:
        """True if a reader may miss its text: no copy, no old edition, none of `EXPECTED`."""
        known = self.reason.startswith((SAME_BYTES, REPLACED_BY))
        return self.reason not in EXPECTED and not known


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file, or a folder that is not entered."""

    name: str
    """Path inside the folder of documents, with forward slashes, as the disk has it."""
    path: Path
    reason: str = ""
    """Why it is no document, of any format; empty for a file that may be one."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Files that are not read for one reason."""

    names: tuple[str, ...]
    """The first `LISTED` of them."""
    more: int
    """Number of the others."""
    reason: str
    remedy: str


def entries(folder: Path) -> Iterator[FolderEntry]:
    """Every file of the folder and what it holds, and every folder that is not entered."""
    yield from _entries(folder, "", frozenset(map(nfc, output_names(folder))))


def _entries(folder: Path, inside: str, outputs: frozenset[str]) -> Iterator[FolderEntry]:
    """Entries of a folder; `inside` is its name with a slash, empty for that of the documents.

    `outputs`: names, NFC, of what jangin wrote into the folder of the documents.
    """
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield FolderEntry(inside or TOP, folder, FORBIDDEN_FOLDER, GET_THE_RIGHT)
        return
    for entry in listed:
        name, path = inside + entry.name, Path(entry.path)
        if name == OUTPUTS:
            continue
        reason, remedy = _no_document(entry, name, outputs)
        is_folder = entry.is_dir(follow_symlinks=False)
        if reason:
            yield FolderEntry(f"{name}/" if is_folder else name, path, reason, remedy)
        elif is_folder:
            yield from _entries(path, f"{name}/", outputs)
        else:
            yield FolderEntry(name, path)


def _no_document(entry: os.DirEntry[str], name: str, outputs: frozenset[str]) -> tuple[str, str]:
    """(reason, remedy) of what is no document in any format; empty for others."""
    if entry.name.startswith(LOCKS):
        return LOCK, NOTHING_MISSING
    if entry.name.startswith("."):
        return HIDDEN, "Rename it if it is a document."
    if entry.name.lower() in OF_FILE_MANAGERS:
        return OF_A_FILE_MANAGER, NOTHING_MISSING
    if outputs and nfc(name) in outputs:
        return OUTPUT, f"To have it read, delete its line in {OUTPUTS}."
    if entry.is_file():
        if name == PROJECT_FILE:
            return OF_A_PROJECT, NOTHING_MISSING
        return ("", "") if _may_read(entry) else (FORBIDDEN, GET_THE_RIGHT)
    if not entry.is_dir():
        return "it is a link to nothing, or no file.", "Put the file itself there."
    if entry.is_symlink():
        return (
            "it is a link to a folder, which is not followed.",
            "Put the folder itself, or a copy of it, there.",
        )
    try:
        is_store = (Path(entry.path) / LEDGER).exists()
    except PermissionError:
        return FORBIDDEN_FOLDER, GET_THE_RIGHT
    return (STORE_OF_A_PROJECT, NOTHING_MISSING) if is_store else ("", "")


def _may_read(entry: os.DirEntry[str]) -> bool:
    return os.access(entry, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def copies_of(copies: Iterable[tuple[str, str]]) -> list[UnreadableFile]:
    """Rows of (name of a copy, name of the file of the same bytes that is read)."""
    return [
        UnreadableFile(
            source=name, reason=f"{SAME_BYTES} {original}, which is read.", remedy=NOTHING_MISSING
        )
        for name, original in copies
    ]


def by_reason(rows: Iterable[UnreadableFile]) -> list[ReasonGroup]:
    """A group for each reason with its remedy; those of files that may be missed come first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in sorted(rows, key=lambda row: not row.is_missed):
        groups.setdefault((row.reason, row.remedy), []).append(row.source)
    return [
        ReasonGroup(tuple(names[:LISTED]), max(0, len(names) - LISTED), reason, remedy)
        for (reason, remedy), names in groups.items()
    ]


def lines_of(rows: Iterable[UnreadableFile]) -> list[str]:
    """A line for each of the first `LISTED` reasons: names, the reason, the remedy."""
    groups = by_reason(rows)
    lines = []
    for group in groups[:LISTED]:
        more = f" and {group.more:,} more" if group.more else ""
        lines.append(f"{', '.join(group.names)}{more}: {group.reason} {group.remedy}")
    rest = sum(len(group.names) + group.more for group in groups[LISTED:])
    if rest:
        lines.append(f"and {rest:,} more, each with its reason: jangin show unreadable")
    return lines
