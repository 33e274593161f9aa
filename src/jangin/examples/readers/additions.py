"""Rows that people add by hand, in files beside the project file.

`jangin chat` writes them: an example to train on, or a question that is only asked. Each line is
`{"kind": ..., "messages": [...], "variant": ..., "added": ...}`, which `read` takes as a chat.
A project reads the files on its own as soon as they exist (see `project/file.py`). A question has
one row: saving it again replaces the row, in whichever of the files that is.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from jangin.core.records import Message
from jangin.core.store import output_errors
from jangin.text.normalize import text_key

Kind = Literal["example", "question"]

FILES: dict[Kind, str] = {"example": "additions.jsonl", "question": "test_questions.jsonl"}
"""{kind of a row: its file}."""


@dataclass(frozen=True, slots=True)
class AddedRow:
    """What was saved, and the row of the same question that it replaces."""

    path: Path
    replaced: Kind | None = None
    """Kind of the row that was there before."""
    old_answer: str = ""


def add_row(folder: Path, kind: Kind, messages: Sequence[Message], variant: str) -> AddedRow:
    """Save a conversation whose last message is the right answer.

    Raises: DataError: a file cannot be written; the rows that were there are kept.
    """
    row = {
        "kind": kind,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "variant": variant,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    question, saved = _question(row), AddedRow(folder / FILES[kind])
    with output_errors(saved.path), _locked(folder):
        for each in get_args(Kind):
            path = folder / FILES[each]
            lines = _lines(path)
            same = [line for line in lines if _question(_parsed(line)) == question]
            if same:
                answer = _parsed(same[-1])["messages"][-1].get("content", "")
                saved = AddedRow(saved.path, each, str(answer))
            new = [json.dumps(row, ensure_ascii=False)] if each == kind else []
            if same or new:
                _write(path, [*(line for line in lines if line not in same), *new])
    return saved


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time saves rows in a folder."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lines(path: Path) -> list[str]:
    """The lines of a file as they are, damaged ones too; none if there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return [line for line in text.split("\n") if line.strip()]


def _write(path: Path, lines: Sequence[str]) -> None:
    """Replace the file at once, so that a kill leaves the old rows or the new ones."""
    if not lines:
        path.unlink()
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
