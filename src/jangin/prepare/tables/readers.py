"""Tables as others write them, read lazily, every cell as text: CSV, TSV, XLSX, JSON, Parquet.

A row has the columns of the file and three of ours: its line in the file, why it was set aside
(null while it is kept), and the line as it stands where it could not be read.
"""

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.errors import DataError, MachineError
from jangin.prepare.tables.encodings import CHUNK, Encoding, as_utf8, sample_lines
from jangin.prepare.tables.schema import OURS, RAW, REASON, ROW, clean_names

if TYPE_CHECKING:
    import polars as pl

SAMPLE_LINES = 1000
_DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}

Delimiter = Literal["auto", "comma", "tab", "semicolon", "pipe"]


class TableSettings(Config):
    """How a file of rows is read; `auto` looks at the file."""

    encoding: Encoding = "auto"
    """`auto` knows byte order marks, UTF-8 and CP949 (Korean Windows)."""
    delimiter: Delimiter = "auto"
    """Between the cells of a CSV or TSV file."""
    quotes: Literal["auto", "csv", "none"] = "auto"
    """`csv`: a cell in quotation marks may hold delimiters and line ends; `none`: a quotation mark
    is a character like any other, as in many TSV files."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a CSV, TSV or XLSX file whose first line is not the names."""
    sheet: str = ""
    """Of an XLSX file; the first one by default."""
    json_rows: str = ""
    """Key under which a JSON file holds its rows, such as `data`; else it is a list of rows."""

    first_rows: int = Field(default=0, ge=0)
    """Only so many rows, from the beginning; 0 takes all."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file opened as rows."""

    frame: "pl.LazyFrame"
    """Text columns of the file, and `OURS`."""
    columns: tuple[str, ...]
    """Of the file, in order."""
    read_as: str
    """In words: `CSV, cp949`."""


def open_table(path: Path, settings: TableSettings, work: Path) -> Table:
    """Open a file by its ending; `work` is a folder for copies in UTF-8, which must outlive it.

    Raises `DataError` for a file that is no table and `MachineError` for a missing package.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file. Name a CSV, TSV, XLSX, JSON, JSONL or Parquet file.")
    kind = path.suffix.lower().lstrip(".")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty. Name a file with rows in it.")
    if kind in ("csv", "tsv", "txt"):
        table = _delimited(path, settings, work)
    elif kind in ("jsonl", "ndjson"):
        table = _json_lines(path, settings, work)
    elif kind == "json":
        table = _json(path, settings, work)
    elif kind == "parquet":
        table = _parquet(path)
    elif kind in ("xlsx", "xlsm", "xls", "ods"):
        table = _sheet(path, settings)
    else:
        raise DataError(
            f"{path}: no reader for files that end in .{kind}. Save it as .csv, .tsv, .xlsx, "
            ".json, .jsonl or .parquet."
        )
    if not settings.first_rows:
        return table
    return Table(table.frame.head(settings.first_rows), table.columns, table.read_as)


def table_of(rows: "pl.LazyFrame", read_as: str) -> Table:
    """A table of rows that are there already, such as a data set of the hub; cells become text."""
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
    frame = frame.with_columns(pl.col(ROW).cast(pl.Int64), *_kept())
    return Table(frame, tuple(schema), read_as)


def _holds_bytes(kind: "pl.DataType | pl.datatypes.DataTypeClass") -> bool:
    import polars as pl

    if isinstance(kind, pl.List | pl.Array):
        return _holds_bytes(kind.inner)
    if isinstance(kind, pl.Struct):
        return any(_holds_bytes(field.dtype) for field in kind.fields)
    return kind == pl.Binary


def _without_bytes(cells: "pl.Series") -> "pl.Series":
    """Cells as text; bytes that are no UTF-8, such as pictures, are missing."""
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


def _kept() -> "list[pl.Expr]":
    import polars as pl

    return [pl.lit(None, pl.String).alias(REASON), pl.lit(None, pl.String).alias(RAW)]


def _delimited(path: Path, settings: TableSettings, work: Path) -> Table:
    from jangin.prepare.tables.csv import plain_rows, quoted_rows, sniff

    source, encoding = as_utf8(path, settings.encoding, work)
    named = _DELIMITERS.get(settings.delimiter, "")
    style = sniff(source, path.suffix.lower(), named, settings.quotes)
    reader = quoted_rows if style.quoted else plain_rows
    frame, columns = reader(source, style, settings.columns, work)
    name = next(word for word, mark in _DELIMITERS.items() if mark == style.delimiter)
    return Table(frame, columns, f"{encoding}, {name}" + (", quoted" if style.quoted else ""))


def _json_lines(path: Path, settings: TableSettings, work: Path) -> Table:
    """Lines of JSON objects; the columns are the keys of the first thousand."""
    import polars as pl

    source, encoding = as_utf8(path, settings.encoding, work)
    keys: dict[str, None] = {}
    for line in sample_lines(source)[:SAMPLE_LINES]:
        value = _object(line)
        keys |= dict.fromkeys(value if isinstance(value, dict) else ())
    if not keys:
        raise DataError(f"{path}:1: no line holds a JSON object. Write one object on each line.")
    schema = dict.fromkeys(keys, pl.String)
    read_as = f"{encoding}, JSON lines"
    whole = pl.scan_ndjson(source, schema=schema)
    # polars writes lists and objects in a text column as something like JSON, unescaped.
    nested = pl.any_horizontal(pl.all().str.contains(r"^[\[{]").any())
    try:
        looked = whole.select(pl.len().alias(ROW), nested.alias("__nested"))
        rows, lists = looked.collect(engine="streaming").row(0)
        regular = rows == _count_lines(source) and not lists
    except pl.exceptions.PolarsError:
        regular = False
    if regular:
        frame = whole.with_row_index(ROW, offset=1).with_columns(
            pl.col(ROW).cast(pl.Int64), *_kept()
        )
        return Table(frame, tuple(keys), read_as)
    numbers, broken = _separate(source, work / "objects.jsonl")
    good = pl.scan_ndjson(work / "objects.jsonl", schema=schema)
    good = pl.concat([good, pl.LazyFrame({ROW: numbers}, {ROW: pl.Int64})], how="horizontal")
    bad = pl.LazyFrame(
        [(number, "the line is no JSON object", line) for number, line in broken],
        schema=dict.fromkeys(OURS, pl.String) | {ROW: pl.Int64},
        orient="row",
    )
    frame = pl.concat([good.with_columns(*_kept()), bad], how="diagonal").sort(ROW)
    return Table(frame, tuple(keys), read_as)


def _count_lines(path: Path) -> int:
    """Lines with anything in them, unless several in a row are empty."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while data := stream.read(CHUNK):
            count += data.count(b"\n")
            last = data[-1:]
    return count + (last != b"\n")


def _separate(path: Path, target: Path) -> tuple[list[int], list[tuple[int, str]]]:
    """Copy the lines that hold an object, cells as text; (their numbers, the other lines)."""
    numbers: list[int] = []
    broken: list[tuple[int, str]] = []
    with path.open(encoding="utf-8-sig") as stream, target.open("w") as copy:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            value = _object(line)
            if isinstance(value, dict):
                cells = {key: _text(cell) for key, cell in value.items()}
                copy.write(json.dumps(cells) + "\n")
                numbers.append(number)
            else:
                broken.append((number, line.rstrip("\n")))
    return numbers, broken


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _json(path: Path, settings: TableSettings, work: Path) -> Table:
    """A JSON file that is a list of objects, or holds one under a key."""
    import polars as pl

    source, encoding = as_utf8(path, settings.encoding, work)
    try:
        data = json.loads(source.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: {error.msg}. Mend that line, or save one object on each line "
            "as .jsonl, where a broken line costs only itself."
        ) from error
    rows = data
    if isinstance(data, dict):
        lists = [key for key, value in data.items() if isinstance(value, list)]
        key = settings.json_rows or (lists[0] if len(lists) == 1 else "")
        rows = data.get(key)
    if not isinstance(rows, list) or not any(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{path} is no list of objects. Set json_rows to the key that holds the list."
        )
    keys = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    good = [isinstance(row, dict) for row in rows]
    columns = {
        key: [_text(row.get(key)) if isinstance(row, dict) else None for row in rows]
        for key in keys
    }
    frame = pl.DataFrame(columns, schema=dict.fromkeys(keys, pl.String)).with_columns(
        pl.Series(ROW, range(1, len(rows) + 1), pl.Int64),
        pl.Series(
            REASON, [None if ok else "the entry is no JSON object" for ok in good], pl.String
        ),
        pl.Series(
            RAW, [None if ok else _text(r) for ok, r in zip(good, rows, strict=True)], pl.String
        ),
    )
    return Table(frame.lazy(), tuple(keys), f"{encoding}, JSON")


def _text(value: object) -> str | None:
    """A cell as text: numbers as they are written, lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _parquet(path: Path) -> Table:
    import polars as pl

    try:
        return table_of(pl.scan_parquet(path), "Parquet")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {error}. Write it again.") from error


def _sheet(path: Path, settings: TableSettings) -> Table:
    import polars as pl

    try:
        import python_calamine
    except ImportError as error:
        raise MachineError(
            f"{path}: workbooks need the package python-calamine. Install it with: "
            "pip install 'jangin[tables]'"
        ) from error
    try:
        book = python_calamine.CalamineWorkbook.from_path(path)
        names = book.sheet_names
        if settings.sheet and settings.sheet not in names:
            raise DataError(
                f"{path} has no sheet {settings.sheet!r}. There is: {', '.join(names)}."
            )
        rows = book.get_sheet_by_name(settings.sheet or names[0]).to_python(skip_empty_area=False)
    except python_calamine.CalamineError as error:
        raise DataError(f"{path} is no workbook: {error}. Save it again as .xlsx.") from error
    cells = [[_text(cell) or "" for cell in row] for row in rows]
    if settings.columns:
        header, first = clean_names(list(settings.columns)), 1
    elif cells:
        header, first, cells = clean_names(cells[0]), 2, cells[1:]
    if not cells or not header:
        raise DataError(f"{path} has no rows. Name another sheet under `sheet`.")
    numbered = [(number, row) for number, row in enumerate(cells, start=first) if any(row)]
    data = {
        name: [row[place] if place < len(row) else "" for _, row in numbered]
        for place, name in enumerate(header)
    }
    frame = pl.DataFrame(data, schema=dict.fromkeys(header, pl.String)).with_columns(
        pl.Series(ROW, [number for number, _ in numbered], pl.Int64), *_kept()
    )
    return Table(frame.lazy(), header, f"sheet {settings.sheet or names[0]}")
