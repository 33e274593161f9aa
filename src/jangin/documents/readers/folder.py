"""The contents of a folder of documents: the files to read, and why others are left out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jangin.core.reasons import NO_REASON, Reason
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
FORBIDDEN = Reason("forbidden")
FORBIDDEN_FOLDER = Reason("forbidden_folder")
GET_THE_RIGHT = "Give yourself the right to read it."
TOP = "."
"""Name of the folder of the documents itself, where it cannot be opened."""
EXPECTED = frozenset({
    "hidden", "lock", "of_a_file_manager", "output", "store_of_a_project", "of_a_project",
    "same_bytes", "replaced_by",
})  # fmt: skip
"""Keys of the reasons of files that are left out without any loss."""


class UnreadableFile(Record):
    """A file without a readable text, or one that is left out: why, and what to do about it."""

    source: str
    reason: Reason
    remedy: str

    @property
    def is_missed(self) -> bool:
        """True if a reader may miss its text: no copy, no old edition, none of `EXPECTED`."""
        return self.reason.key not in EXPECTED


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file, or a folder that is not entered."""

    name: str
    """Path inside the folder of documents, with forward slashes, as the disk has it."""
    path: Path
    reason: Reason = NO_REASON
    """Why it is no document, of any format; empty for a file that may be one."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Files that are not read for one reason."""

    names: tuple[str, ...]
    """The first `LISTED` of them."""
    more: int
    """Number of the others."""
    reason: Reason
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


def _no_document(entry: os.DirEntry[str], name: str, outputs: frozenset[str]) -> tuple[Reason, str]:
    """(reason, remedy) of what is no document in any format; empty for others."""
    if entry.name.startswith(LOCKS):
        return Reason("lock"), NOTHING_MISSING
    if entry.name.startswith("."):
        return Reason("hidden"), "Rename it if it is a document."
    if entry.name.lower() in OF_FILE_MANAGERS:
        return Reason("of_a_file_manager"), NOTHING_MISSING
    if outputs and nfc(name) in outputs:
        return Reason("output"), f"To have it read, delete its line in {OUTPUTS}."
    if entry.is_file():
        if name == PROJECT_FILE:
            return Reason("of_a_project"), NOTHING_MISSING
        return (NO_REASON, "") if _may_read(entry) else (FORBIDDEN, GET_THE_RIGHT)
    if not entry.is_dir():
        return Reason("link_to_nothing"), "Put the file itself there."
    if entry.is_symlink():
        return (
            Reason("link_to_folder"),
            "Put the folder itself, or a copy of it, there.",
        )
    try:
        is_store = (Path(entry.path) / LEDGER).exists()
    except PermissionError:
        return FORBIDDEN_FOLDER, GET_THE_RIGHT
    return (Reason("store_of_a_project"), NOTHING_MISSING) if is_store else (NO_REASON, "")


def _may_read(entry: os.DirEntry[str]) -> bool:
    return os.access(entry, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def copies_of(copies: Iterable[tuple[str, str]]) -> list[UnreadableFile]:
    """Rows of (name of a copy, name of the file of the same bytes that is read)."""
    return [
        UnreadableFile(
            source=name, reason=Reason("same_bytes", name=original), remedy=NOTHING_MISSING
        )
        for name, original in copies
    ]


def by_reason(rows: Iterable[UnreadableFile]) -> list[ReasonGroup]:
    """A group for each reason with its remedy; those of files that may be missed come first."""
    groups: dict[tuple[Reason, str], list[str]] = {}
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
