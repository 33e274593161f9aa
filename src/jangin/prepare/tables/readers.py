"""Lazy readers for tables of any origin: CSV, TSV, XLSX, JSON, JSONL, Parquet, the hub.

Every cell is read as text. Besides the columns of the file a row has `INTERNAL_COLUMNS`: its line
in the file, its drop reason (null if it is kept) and, if it could not be parsed, its text.
"""

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from jangin.core.config import Advanced, Config
from jangin.core.errors import DataError, MachineError
from jangin.core.execution.local import available_bytes
from jangin.prepare.tables.csv import CHUNK_BYTES, Encoding, as_utf8, sample_lines
from jangin.prepare.tables.schema import INTERNAL_COLUMNS, RAW, REASON, ROW, clean_names
from jangin.prepare.tables.sheets import refuse_unpacked

if TYPE_CHECKING:
    import polars as pl

SAMPLE_LINES = 1000
"""Lines of a JSONL file whose keys become the columns."""
_DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}

Delimiter = Literal["auto", "comma", "tab", "semicolon", "pipe"]


class TableSettings(Config):
    """How a table is read; `auto` detects the setting from the file."""

    encoding: Encoding = "auto"
    """`auto` detects byte order marks, UTF-8, UTF-16 and CP949 (Korean Windows)."""
    delimiter: Delimiter = "auto"
    """Delimiter between the cells of a CSV or TSV file."""
    quotes: Advanced[Literal["auto", "csv", "none"]] = "auto"
    """`csv`: a cell in quotation marks may hold delimiters and line ends; `none`: quotation marks
    are ordinary characters, as in many TSV files."""
    columns: tuple[str, ...] = ()
    """Column names of a CSV, TSV or XLSX file without a heading."""
    sheet: str = ""
    """Sheet of an XLSX file; default: the first."""
    json_rows: str = ""
    """Key of a JSON file that holds the list of rows, such as `data`; default: the only list."""

    first_rows: int = Field(default=0, ge=0)
    """Read only this number of rows from the beginning; 0: all."""


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A file, opened but not yet read."""

    frame: "pl.LazyFrame"
    """The columns of the file, as text, and `INTERNAL_COLUMNS`."""
    columns: tuple[str, ...]
    """Columns of the file, in order."""
    read_as: str
    """Format in words, such as `cp949, comma, quoted`."""


def open_table(
    path: Path, settings: TableSettings, work: Path, most: int | None = None
) -> OpenTable:
    """Open a file by its extension.

    Converted copies are written to the folder `work`, which must exist as long as the table. `most`
    bytes may a packed file take; without it a Parquet file any number, as it is read lazily, and a
    spreadsheet half of the memory that is free.

    Raises `DataError` if the file does not exist, is empty, too large or not a table.
    Raises `MachineError` if the package for spreadsheets is not installed.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is not a file. Name a CSV, TSV, XLSX, JSON, JSONL or Parquet file."
        )
    kind = path.suffix.lower().lstrip(".")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty. Name a file that has rows.")
    if most is not None or kind != "parquet":
        refuse_unpacked(path, available_bytes() // 2 if most is None else most)
    if kind in ("csv", "tsv", "txt"):
        table = _delimited(path, settings, work)
    elif kind in ("jsonl", "jsonlines", "ndjson") and not _is_json_array(path):
        table = _json_lines(path, settings, work)
    elif kind in ("json", "jsonl", "jsonlines", "ndjson"):
        table = _json(path, settings, work)
    elif kind == "parquet":
        table = _parquet(path)
    elif kind in ("xlsx", "xlsm", "xls", "ods"):
        table = _sheet(path, settings)
    else:
        raise DataError(
            f"{path}: files of type .{kind} are not supported. Save it as .csv, .tsv, .xlsx, "
            ".json, .jsonl or .parquet."
        )
    if not settings.first_rows:
        return table
    return OpenTable(table.frame.head(settings.first_rows), table.columns, table.read_as)


def table_as_parquet(source: Path, target: Path, most: int) -> None:
    """Write the cells of a table as text.

    Raises:
        DataError: it takes more than `most` bytes, or is no table.

    """
    table = open_table(source, TableSettings(), target.parent, most)
    table.frame.select(table.columns).collect().write_parquet(target)


def _is_json_array(path: Path) -> bool:
    """True for one JSON array over many lines, under any file name."""
    with path.open("rb") as stream:
        first = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()[:2].decode("latin-1")
    return first[:1] == "[" and first[1:2] in ("", "{", "\n", "\r", " ", "\t")


def table_from_frame(rows: "pl.LazyFrame", read_as: str) -> OpenTable:
    """A table from a frame, such as a data set of the hub; its cells are converted to text."""
    import polars as pl

    schema = rows.collect_schema()
    texts = []
    for name, kind in schema.items():
        column = pl.col(name)
        if _holds_bytes(kind):
            column = column.map_batches(_without_bytes, pl.String, is_elementwise=True)
        elif isinstance(kind, pl.List | pl.Array | pl.Struct):
            wrapped = pl.struct(pl.col(name).alias("x")).struct.json_encode()
            column = pl.when(column.is_null()).then(None).otherwise(wrapped.str.slice(5))
            column = column.str.head(-1)
        elif kind != pl.String:
            column = column.cast(pl.String)
        texts.append(column.alias(name))
    frame = rows.select(texts).with_row_index(ROW, offset=1)
    frame = frame.with_columns(pl.col(ROW).cast(pl.Int64), *_no_reasons())
    return OpenTable(frame, tuple(schema), read_as)


def _holds_bytes(kind: "pl.DataType | pl.datatypes.DataTypeClass") -> bool:
    import polars as pl

    if isinstance(kind, pl.List | pl.Array):
        return _holds_bytes(kind.inner)
    if isinstance(kind, pl.Struct):
        return any(_holds_bytes(field.dtype) for field in kind.fields)
    return kind == pl.Binary


def _without_bytes(cells: "pl.Series") -> "pl.Series":
    """Cells as text; binary cells that are not UTF-8, such as images, become null."""
    import polars as pl

    return pl.Series(cells.name, [_text(_readable(cell)) for cell in cells.to_list()], pl.String)


def _readable(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(value, dict):
        return {key: _readable(cell) for key, cell in value.items()}
    if isinstance(value, list):
        return [_readable(cell) for cell in value]
    return str(value) if isinstance(value, date | time | timedelta) else value


def _no_reasons() -> "list[pl.Expr]":
    """`REASON` and `RAW` of kept rows."""
    import polars as pl

    return [pl.lit(None, pl.String).alias(REASON), pl.lit(None, pl.String).alias(RAW)]


def _delimited(path: Path, settings: TableSettings, work: Path) -> OpenTable:
    from jangin.prepare.tables.csv import (
        Dialect,
        is_one_text_a_line,
        scan_plain,
        scan_quoted,
        sniff,
    )

    source, encoding = as_utf8(path, settings.encoding, work)
    named = _DELIMITERS.get(settings.delimiter, "")
    is_text = path.suffix.lower() == ".txt" and not named and not settings.columns
    if is_text and is_one_text_a_line(source):
        frame, columns = scan_plain(source, Dialect("\x1f", quoted=False), ("text",), work)
        return OpenTable(frame, columns, f"{encoding}, one text a line")
    dialect = sniff(source, path.suffix.lower(), named, settings.quotes)
    reader = scan_quoted if dialect.quoted else scan_plain
    frame, columns = reader(source, dialect, settings.columns, work)
    name = next(word for word, mark in _DELIMITERS.items() if mark == dialect.delimiter)
    return OpenTable(frame, columns, f"{encoding}, {name}" + (", quoted" if dialect.quoted else ""))


def _json_lines(path: Path, settings: TableSettings, work: Path) -> OpenTable:
    """A file of JSON objects, one per line; the keys of the first ones are the columns."""
    import polars as pl

    source, encoding = as_utf8(path, settings.encoding, work)
    keys: dict[str, None] = {}
    for line in sample_lines(source)[:SAMPLE_LINES]:
        value = _parse(line)
        keys |= dict.fromkeys(value if isinstance(value, dict) else ())
    if not keys:
        raise DataError(
            f"{path}:1: the first {SAMPLE_LINES:,} lines have no JSON object. Write one object per "
            "line."
        )
    schema = dict.fromkeys(keys, pl.String)
    read_as = f"{encoding}, JSON lines"
    rows = pl.scan_ndjson(source, schema=schema)
    # In a text column polars renders lists and objects as JSON without escapes.
    nested = pl.any_horizontal(pl.all().str.contains(r"^[\[{]").any())
    try:
        counts = rows.select(pl.len().alias(ROW), nested.alias("__nested"))
        objects, lists = counts.collect(engine="streaming").row(0)
        regular = objects == _count_lines(source) and not lists
    except pl.exceptions.PolarsError:
        regular = False
    if regular:
        frame = rows.with_row_index(ROW, offset=1).with_columns(
            pl.col(ROW).cast(pl.Int64), *_no_reasons()
        )
        return OpenTable(frame, tuple(keys), read_as)
    lines, malformed = _separate(source, work / "objects.jsonl")
    good = pl.scan_ndjson(work / "objects.jsonl", schema=schema)
    good = pl.concat([good, pl.LazyFrame({ROW: lines}, {ROW: pl.Int64})], how="horizontal")
    bad = pl.LazyFrame(
        [(line, "the line is no JSON object", text) for line, text in malformed],
        schema=dict.fromkeys(INTERNAL_COLUMNS, pl.String) | {ROW: pl.Int64},
        orient="row",
    )
    frame = pl.concat([good.with_columns(*_no_reasons()), bad], how="diagonal").sort(ROW)
    return OpenTable(frame, tuple(keys), read_as)


def _count_lines(path: Path) -> int:
    """Number of lines, empty ones included."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while data := stream.read(CHUNK_BYTES):
            count += data.count(b"\n")
            last = data[-1:]
    return count + (last != b"\n")


def _separate(path: Path, target: Path) -> tuple[list[int], list[tuple[int, str]]]:
    """Copy the lines that hold an object to `target`, with cells as text.

    Returns (numbers of these lines, (number, text) of the others that are not empty).
    """
    lines: list[int] = []
    malformed: list[tuple[int, str]] = []
    with path.open(encoding="utf-8-sig") as stream, target.open("w") as copy:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            value = _parse(text)
            if isinstance(value, dict):
                cells = {key: _text(cell) for key, cell in value.items()}
                copy.write(json.dumps(cells) + "\n")
                lines.append(line)
            else:
                malformed.append((line, text.rstrip("\n")))
    return lines, malformed


def _parse(line: str) -> Any:
    """The JSON value of a line; None if it is not JSON, or nested too deeply to be read."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json(path: Path, settings: TableSettings, work: Path) -> OpenTable:
    """A JSON file that is a list of objects, or has such a list under a key."""
    import polars as pl

    source, encoding = as_utf8(path, settings.encoding, work)
    try:
        data = json.loads(source.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: {error.msg}. Correct that line, or save one object per line "
            "as .jsonl, where only malformed lines are dropped."
        ) from error
    except RecursionError as error:
        raise DataError(
            f"{path} has lists or objects nested too deeply to be read. Write rows whose values "
            "are texts and numbers."
        ) from error
    rows = data
    if isinstance(data, dict):
        lists = [key for key, value in data.items() if isinstance(value, list)]
        key = settings.json_rows or (lists[0] if len(lists) == 1 else "")
        rows = data.get(key)
    if not isinstance(rows, list) or not any(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{path} is not a list of objects. Set json_rows to the key that holds the list."
        )
    keys = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    valid = [isinstance(row, dict) for row in rows]
    columns = {
        key: [_text(row.get(key)) if isinstance(row, dict) else None for row in rows]
        for key in keys
    }
    frame = pl.DataFrame(columns, schema=dict.fromkeys(keys, pl.String)).with_columns(
        pl.Series(ROW, range(1, len(rows) + 1), pl.Int64),
        pl.Series(
            REASON, [None if ok else "the entry is no JSON object" for ok in valid], pl.String
        ),
        pl.Series(
            RAW, [None if ok else _text(r) for ok, r in zip(valid, rows, strict=True)], pl.String
        ),
    )
    return OpenTable(frame.lazy(), tuple(keys), f"{encoding}, JSON")


def _text(value: object) -> str | None:
    """A cell as text: whole numbers without a decimal point, lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _parquet(path: Path) -> OpenTable:
    import polars as pl

    try:
        return table_from_frame(pl.scan_parquet(path), "Parquet")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {error}. Export it again.") from error


def _sheet(path: Path, settings: TableSettings) -> OpenTable:
    import polars as pl

    try:
        import python_calamine
    except ImportError as error:
        raise MachineError(
            f"{path}: reading spreadsheets needs the package python-calamine. Install it with: "
            "pip install 'jangin[tables]'"
        ) from error
    try:
        book = python_calamine.CalamineWorkbook.from_path(path)
        names = book.sheet_names
        if settings.sheet and settings.sheet not in names:
            raise DataError(
                f"{path} has no sheet {settings.sheet!r}. The sheets are: {', '.join(names)}."
            )
        rows = book.get_sheet_by_name(settings.sheet or names[0]).to_python(skip_empty_area=False)
    except python_calamine.CalamineError as error:
        raise DataError(f"{path} is not a spreadsheet: {error}. Save it as .xlsx.") from error
    cells = [[_text(cell) or "" for cell in row] for row in rows]
    if settings.columns:
        header, first = clean_names(list(settings.columns)), 1
    elif cells:
        header, first, cells = clean_names(cells[0]), 2, cells[1:]
    if not cells or not header:
        raise DataError(f"{path} has no rows. Set sheet to another one.")
    numbered = [(line, row) for line, row in enumerate(cells, start=first) if any(row)]
    data = {
        name: [row[index] if index < len(row) else "" for _, row in numbered]
        for index, name in enumerate(header)
    }
    frame = pl.DataFrame(data, schema=dict.fromkeys(header, pl.String)).with_columns(
        pl.Series(ROW, [line for line, _ in numbered], pl.Int64), *_no_reasons()
    )
    return OpenTable(frame.lazy(), header, f"sheet {settings.sheet or names[0]}")
