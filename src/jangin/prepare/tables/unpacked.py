"""How large a packed table is before it is read: a few kilobytes may stand for gigabytes."""

import re
import zipfile
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError

BLOCK = 1 << 20
BOOKS = (".xlsx", ".xlsm", ".ods")
CELL = 24
"""Bytes of an empty cell: a sheet is read as one rectangle, whose last cell may be far away."""
REFERENCE = re.compile(rb"\br\s*=\s*[\"']([A-Za-z]{0,3})(\d{1,7})[\"']")
"""The name of a row or of a cell."""
LONGEST_REFERENCE = 40
ROWS = 1_024
"""Rows of a Parquet file that are unpacked at a time."""


def refuse_unpacked(path: Path, most: int) -> None:
    """Raises `DataError` where a spreadsheet or Parquet file takes more than `most` bytes.

    They are counted by unpacking them piece by piece, as a file may say less than it has, with the
    empty cells of a sheet. What is no such file, or damaged, is left to the reader of tables.
    """
    kind = path.suffix.lower()
    if kind not in (*BOOKS, ".parquet"):
        return
    if (_parquet if kind == ".parquet" else _book)(path, most) > most:
        raise DataError(
            f"{path} takes more than {most // 1_000_000} MB to be read; a sheet is read with every "
            "empty cell before its last one. Delete what stands far from the table, save a part of "
            "its rows, or all of them as CSV."
        )


def _book(path: Path, most: int) -> int:
    total = 0
    try:
        with zipfile.ZipFile(path) as book:
            for entry in book.infolist():
                columns, rows, tail = 0, 0, b""
                with book.open(entry) as stream:
                    while total <= most and (block := stream.read(BLOCK)):
                        total += len(block)
                        if names := REFERENCE.findall(tail + block):
                            letters, numbers = map(set, zip(*names, strict=True))
                            columns = max(columns, *map(_column, letters))
                            rows = max(rows, *map(int, numbers))
                        tail = block[-LONGEST_REFERENCE:]
                total = max(total, columns * rows * CELL)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError):
        return total
    return total


def _column(name: bytes) -> int:
    """The number of a column such as `AB`; 0 for none."""
    number = 0
    for letter in name.upper():
        number = number * 26 + letter - ord("A") + 1
    return number


def _parquet(path: Path, most: int) -> int:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    total = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                total += sum(map(_bytes_of, batch.columns))
                if total > most:
                    break
    except (ArrowException, OSError):
        return total
    return total


def _bytes_of(column: Any) -> int:
    """Bytes of a column; one value of a dictionary may stand in many rows."""
    plain = column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
    return int(plain.nbytes)
