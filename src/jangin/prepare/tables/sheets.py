"""Tables for people: CSV that spreadsheets open with its Hangul whole, and XLSX."""

import csv
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError, MachineError
from jangin.core.store import output_errors

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet would run as a formula."""
WIDTHS = {"question": 48, "answer": 32, "evidence": 48, "section": 28, "source": 24, "page": 6}
WIDTHS |= {"passage": 70, "why": 30}
"""Widths of columns in a sheet, in characters."""
LENIENT = {"ignore_blank": True, "error_type": "warning"}
LONGEST_CELL = 32_767
"""Characters that XLSX allows in a cell."""


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with one heading; UTF-8 with a byte order mark, which Excel needs for Hangul.

    A text that a spreadsheet would run as a formula is preceded by an apostrophe. Raises
    `DataError` where the file cannot be written.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with output_errors(path), path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def write_xlsx(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write rows as a sheet with a fixed heading and a filter; texts are never run as formulas.

    `choices` are the values that the cells of a column offer in a list; others stay possible.
    Raises `DataError` where the file cannot be written, `MachineError` where the package xlsxwriter
    is not installed.
    """
    try:
        from xlsxwriter import Workbook  # an extra
        from xlsxwriter.exceptions import FileCreateError
    except ImportError as error:
        raise MachineError(
            "writing XLSX needs the package xlsxwriter. Install it: pip install 'jangin[tables]'; "
            "or export to CSV."
        ) from error
    columns = list(dict.fromkeys(name for row in rows for name in row))
    book = Workbook(path, {"strings_to_formulas": False, "strings_to_urls": False})
    sheet = book.add_worksheet()
    top, wrapped = book.add_format({"bold": True}), book.add_format({"text_wrap": True})
    wrapped.set_align("top")
    for column, name in enumerate(columns):
        sheet.set_column(column, column, WIDTHS.get(name, 14), wrapped)
        sheet.write_string(0, column, name, top)
        for line, row in enumerate(rows, start=1):
            value = row.get(name)
            if isinstance(value, int | float):
                sheet.write_number(line, column, value)
            elif value:
                sheet.write_string(line, column, str(value)[:LONGEST_CELL])
        if name in (choices or {}):
            offer = {"validate": "list", "source": list((choices or {})[name])}
            sheet.data_validation(1, column, max(len(rows), 1), column, {**offer, **LENIENT})
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, len(rows), max(len(columns) - 1, 0))
    try:
        book.close()
    except FileCreateError as error:
        raise DataError(
            f"{path} cannot be written: {error}. Name another file, in a folder that exists."
        ) from error


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip("'").startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


def without_apostrophe(cell: str) -> str:
    """The text of a CSV cell that `write_csv` wrote."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(FORMULA) else cell


# How large a packed table is before it is read: a few kilobytes may stand for gigabytes.


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
