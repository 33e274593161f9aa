"""Rows that people add by hand, in files beside the project file.

`jangin chat` writes them: an example to train on, or a question that is only asked. Each line is
`{"kind": ..., "messages": [...], "variant": ..., "added": ...}`, which `read` takes as a chat.
A project reads the files on its own as soon as they exist (see `project/file.py`).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jangin.core.records import Message
from jangin.core.store import output_errors

Kind = Literal["example", "question"]

FILES: dict[Kind, str] = {"example": "additions.jsonl", "question": "test_questions.jsonl"}
"""{kind of a row: its file}."""


def add_row(folder: Path, kind: Kind, messages: Sequence[Message], variant: str) -> Path:
    """Append a conversation whose last message is the right answer; returns the file."""
    path = folder / FILES[kind]
    row = {
        "kind": kind,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "variant": variant,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with output_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path
