"""Typed JSON Lines: read, append, repair; a bad line names its file and line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jangin.core.errors import DataError

R = TypeVar("R", bound=BaseModel)


def read_jsonl(path: Path, record_type: type[R]) -> Iterator[R]:
    """Yield records; a missing file is an empty one; a bad line raises `DataError`."""
    return (record for _, record in number_jsonl(path, record_type))


def number_jsonl(path: Path, record_type: type[R]) -> Iterator[tuple[int, R]]:
    """Like `read_jsonl`, each record with the number of its line, from 1."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield number, record_type.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "line"
                raise DataError(
                    f"{path}:{number}: {where}: {first['msg']}. Correct or delete that line."
                ) from error


def append_jsonl(path: Path, records: Iterable[BaseModel]) -> int:
    """Append records, one line each, flushed at the end; returns how many."""
    count = 0
    with path.open("ab") as stream:
        for record in records:
            stream.write(record.model_dump_json().encode() + b"\n")
            count += 1
    return count


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> int:
    """Write records to a new file; returns how many."""
    path.write_bytes(b"")
    return append_jsonl(path, records)


def repair_jsonl(path: Path) -> None:
    """Cut off the half line that a killed writer left, so that appending is safe again."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        data = stream.read()
        stream.truncate(data.rfind(b"\n") + 1)
