"""Tables for people: CSV that spreadsheets open with its Hangul whole."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jangin.core.store import output_errors

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet would run as a formula."""


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


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value
