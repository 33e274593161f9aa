"""Read, append and repair typed JSON Lines; errors name file and line."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from jangin.core.errors import DataError

R = TypeVar("R", bound=BaseModel)

LONGEST_LINE = 1 << 20
"""Bytes at the end of a log in which an incomplete line is looked for."""


def read_jsonl(path: Path, record_type: type[R]) -> Iterator[R]:
    """Yield the records of a file that jangin wrote; a missing file has none.

    Raises:
        DataError: A line is not a valid record; names file, line and field.

    """
    return (record for _, record in numbered_jsonl(path, record_type))


def numbered_jsonl(path: Path, record_type: type[R]) -> Iterator[tuple[int, R]]:
    """Yield (line number from 1, record); otherwise like `read_jsonl`."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line, data in enumerate(stream, start=1):
            if not data.strip():
                continue
            yield line, parse_record(data, record_type, f"{path}:{line}")


def parse_record(line: bytes, record_type: type[R], location: str) -> R:
    """The record of one line, whose file and number are the `location`.

    Raises:
        DataError: It is not a valid record; names location and field.

    """
    try:
        return record_type.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{location}: {field}: {reason}. Correct or delete that line.") from error


def read_json_lines(path: Path, remedy: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, JSON value) of a UTF-8 file that a user wrote; a BOM is allowed.

    `remedy` is the sentence of the error message that says what to write instead.

    Raises:
        DataError: The file is not UTF-8, or a line is not JSON; names file and line.

    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8. Save the file as UTF-8.") from error
    return parse_json_lines(text, path, remedy)


def parse_json_lines(text: str, path: Path, remedy: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, JSON value) for each line of `text` that is not blank.

    Only a line feed ends a line: a JSON string may contain U+2028 and its like.

    Raises:
        DataError: A line is not JSON; names `path`, line and character.

    """
    for line, value in enumerate(text.split("\n"), start=1):
        if value.strip():
            yield line, parse_json(value, f"{path}:{line}", remedy)


def parse_json(text: str, location: str, remedy: str) -> Any:
    """The JSON value of `text`.

    Raises:
        DataError: The text is not JSON; begins with `location` and ends with `remedy`.

    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{location}: invalid JSON: {error.msg} at character {error.pos + 1}. {remedy}"
        ) from error


def append_jsonl(path: Path, records: Iterable[BaseModel]) -> int:
    """Append records, one line each, and flush at the end; returns their number."""
    count = 0
    with path.open("ab") as stream:
        for record in records:
            stream.write(record.model_dump_json().encode() + b"\n")
            count += 1
    return count


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> int:
    """Write records to a new file; returns their number."""
    path.write_bytes(b"")
    return append_jsonl(path, records)


def repair_jsonl(path: Path) -> None:
    """Truncate the incomplete last line that a killed writer left, so that appending is safe."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - LONGEST_LINE)
            stream.seek(start)
            last = stream.read(end - start).rfind(b"\n")
            if last >= 0:
                stream.truncate(start + last + 1)
                return
            end = start
        stream.truncate(0)


class KeyedJsonl(Generic[R]):
    """Records of a JSON Lines file by a key, of which only the positions are in memory."""

    def __init__(self, path: Path, record_type: type[R], key: Callable[[R], str]) -> None:
        """Open a file that jangin wrote, without its incomplete last line; it may be missing.

        Raises:
            DataError: A line is not a valid record; names file, line and field.

        """
        self._path, self._type, self._key = path, record_type, key
        self._offsets: dict[str, int] = {}
        repair_jsonl(path)
        path.touch()
        with path.open("rb") as stream:
            for record in read_jsonl(path, record_type):
                self._offsets[key(record)] = stream.tell()
                stream.readline()

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._offsets)

    def __contains__(self, key: str) -> bool:
        """True if a record with this key was added."""
        return key in self._offsets

    def __iter__(self) -> Iterator[str]:
        """The keys, as they were added."""
        return iter(self._offsets)

    def add(self, record: R) -> None:
        """Append a record."""
        with self._path.open("ab") as stream:
            self._offsets[self._key(record)] = stream.tell()
            stream.write(record.model_dump_json().encode() + b"\n")

    def read(self, keys: Iterable[str]) -> Iterator[R]:
        """The records with these keys, in that order; raises KeyError for an unknown one."""
        with self._path.open("rb") as stream:
            for key in keys:
                stream.seek(self._offsets[key])
                yield self._type.model_validate_json(stream.readline())


def complete_records(path: Path, record_type: type[R]) -> list[R]:
    """Every record of a log that several processes append to, in order; none without a file.

    An incomplete last line, which a killed writer left, is left out.

    Raises:
        DataError: Another line is not a valid record; names file, line and field.

    """
    return [
        parse_record(line, record_type, f"{path}:{number}") for number, line in complete_lines(path)
    ]


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line) of a log, without blank lines; a missing file has none.

    An incomplete last line, which a killed writer left, is left out.
    """
    if not path.exists():
        return
    data = path.read_bytes()
    lines = data[: len(data) - len(_torn_line(data))].split(b"\n")
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _torn_line(data: bytes) -> bytes:
    """The last line, if it has no line end and is not JSON; else nothing."""
    last = data[data.rfind(b"\n") + 1 :]
    try:
        json.loads(last or b"0")
    except ValueError:
        return last
    return b""


def append_durably(
    path: Path, lines: Sequence[str], check: Callable[[], None] | None = None
) -> None:
    """Append lines, which are on the disk when this returns; all of them or none.

    Several processes may append to the same file; an incomplete last line is removed. `check` is
    called while no other process can append, and nothing is appended where it raises.

    Raises:
        OSError: The file cannot be written, as on a full disk; it is as it was.

    """
    # Unbuffered: a buffer would write what an error left in it when the file is closed.
    with path.open("ab+", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if check is not None:
            check()
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - LONGEST_LINE, 0))
        data = stream.read(min(size, LONGEST_LINE))
        torn = len(_torn_line(data))
        end = size - torn
        start = b"\n" if end and not data[: len(data) - torn].endswith(b"\n") else b""
        if torn:
            stream.truncate(end)
        left = memoryview(start + b"".join(line.encode() + b"\n" for line in lines))
        try:
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
        except OSError:
            with suppress(OSError):
                stream.truncate(end)
            raise
