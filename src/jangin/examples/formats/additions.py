"""Rows that people add by hand, in files beside the project file.

`jangin chat` writes them: an example to train on, or a question that is only asked. Each line is
`{"kind": ..., "messages": [...], "variant": ..., "added": ..., "by": ...}`, which `read` takes as
a chat.
A project reads the files on its own as soon as they exist (see `project/file.py`). A question has
one row: saving it again replaces the row, in whichever of the files that is.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from jangin.core.records import Message
from jangin.core.store import output_errors
from jangin.text.normalize import text_key

Kind = Literal["example", "question"]

FILES: dict[Kind, str] = {"example": "additions.jsonl", "question": "test_questions.jsonl"}
"""{kind of a row: its file}."""
WANTED_QUESTIONS = 10
"""Questions of real users that a project asks for: enough to see whether its tests mislead."""


@dataclass(frozen=True, slots=True)
class AddedRow:
    """What was saved, and the row of the same question that it replaces."""

    path: Path
    replaced: Kind | None = None
    """Kind of the row that was there before."""
    old_answer: str = ""
    line: str = ""
    """The row, as it is in the file."""
    old_line: str = ""
    """The row that it replaced."""


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A row of one of the files."""

    id: str
    """Digest of its line."""
    kind: Kind
    messages: tuple[Message, ...]
    """The conversation; the last message is the right answer."""
    variant: str
    """Whose model was asked; empty where that is not known."""
    added: str
    """Date and time."""
    by: str = ""
    """Who saved it; empty in rows from before names were kept."""

    @property
    def question(self) -> str:
        """The last question."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def answer(self) -> str:
        """The right answer."""
        return self.messages[-1].content


def saved_rows(folder: Path) -> list[SavedRow]:
    """The rows of both files, newest first; damaged lines are left out."""
    rows = [
        row
        for kind in get_args(Kind)
        for line in _lines(folder / FILES[kind])
        if (row := _saved_row(line, kind)) is not None
    ]
    return sorted(rows, key=lambda row: row.added, reverse=True)


def user_questions(folder: Path) -> list[SavedRow]:
    """The questions that are only asked, newest first; damaged lines are left out."""
    return [row for row in saved_rows(folder) if row.kind == "question"]


def _saved_row(line: str, kind: Kind) -> SavedRow | None:
    row = _parsed(line)
    if _question(row) is None:
        return None
    try:
        messages = tuple(Message(role=m["role"], content=m["content"]) for m in row["messages"])
    except (ValidationError, KeyError):
        return None
    names = (str(row.get(name, "")) for name in ("variant", "added", "by"))
    return SavedRow(_id(line), kind, messages, *names)


def _id(line: str) -> str:
    return hashlib.sha256(line.encode(errors="surrogateescape")).hexdigest()[:16]


def remove_row(folder: Path, row_id: str) -> bool:
    """Delete a row; returns whether it was there.

    Raises: DataError: a file cannot be written.
    """
    with output_errors(folder), _locked(folder):
        for path in (folder / name for name in FILES.values()):
            lines = _lines(path)
            kept = [line for line in lines if _id(line) != row_id]
            if len(kept) < len(lines):
                _write(path, kept)
                return True
    return False


def undo_row(folder: Path, saved: AddedRow) -> bool:
    """Take back what `add_row` did; returns False where the row has been changed since.

    Raises: DataError: a file cannot be written.
    """
    with output_errors(saved.path), _locked(folder):
        lines = _lines(saved.path)
        if saved.line not in lines:
            return False
        lines.remove(saved.line)
        if saved.replaced is not None:
            before = folder / FILES[saved.replaced]
            if before == saved.path:
                lines.append(saved.old_line)
            else:
                _write(before, [*_lines(before), saved.old_line])
        _write(saved.path, lines)
    return True


def add_row(
    folder: Path, kind: Kind, messages: Sequence[Message], variant: str, by: str = ""
) -> AddedRow:
    """Save a conversation whose last message is the right answer.

    Raises: DataError: a file cannot be written; the rows that were there are kept.
    """
    row = {
        "kind": kind,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "variant": variant,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"by": by} if by else {}),
    }
    line = json.dumps(row, ensure_ascii=False)
    question, saved = _question(row), AddedRow(folder / FILES[kind], line=line)
    with output_errors(saved.path), _locked(folder):
        for each in get_args(Kind):
            path = folder / FILES[each]
            lines = _lines(path)
            same = [old for old in lines if _question(_parsed(old)) == question]
            if same:
                answer = _parsed(same[-1])["messages"][-1].get("content", "")
                saved = AddedRow(saved.path, each, str(answer), line, same[-1])
            new = [line] if each == kind else []
            if same or new:
                _write(path, [*(old for old in lines if old not in same), *new])
    return saved


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the files of a folder, so that one process at a time writes rows."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lines(path: Path) -> list[str]:
    """The raw lines of a file, also damaged ones; empty if the file does not exist."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return [line for line in text.split("\n") if line.strip()]


def _write(path: Path, lines: Sequence[str]) -> None:
    """Replace the file at once, so that a kill leaves the old rows or the new ones."""
    if not lines:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _question(row: Any) -> tuple[str, ...] | None:
    """What a row asks, to compare; None for a line that is no such row."""
    try:
        *turns, _ = row["messages"]
        return tuple(f"{turn['role']}: {text_key(turn['content'])}" for turn in turns) or None
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
