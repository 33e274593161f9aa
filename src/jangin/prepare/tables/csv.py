"""CSV and TSV: rows with their line, a ragged or torn one kept aside instead of read askew."""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jangin.core.errors import DataError
from jangin.prepare.tables.encodings import sample_lines
from jangin.prepare.tables.prefetch import ahead
from jangin.prepare.tables.schema import RAW, REASON, ROW, clean_names

if TYPE_CHECKING:
    import polars as pl

MOST_LINES = 1000
"""Of one quoted row; a quotation mark that is not closed by then was never meant as one."""
BATCH = 50_000
BLOCK = 1 << 22
"""Bytes of a plain file that are read at once."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Style:
    """How the cells of a file are told apart."""

    delimiter: str
    quoted: bool


def sniff(path: Path, suffix: str, delimiter: str, quotes: Literal["auto", "csv", "none"]) -> Style:
    """By name, by ending, or the delimiter that most lines have equally often."""
    lines = sample_lines(path)
    mark = delimiter or ("\t" if suffix == ".tsv" else "") or _most_regular(lines)
    if quotes != "auto":
        return Style(mark, quotes == "csv")
    if not _has_quotation_marks(path):
        return Style(mark, quoted=False)
    if mark != "\t":
        return Style(mark, quoted=True)
    marked = (line.split(mark) for line in lines if '"' in line)
    cells = [cell for line in marked for cell in line if cell.startswith('"')]
    return Style(mark, bool(cells) and all(map(_QUOTED.fullmatch, cells)))


def _has_quotation_marks(path: Path) -> bool:
    with path.open("rb") as stream:
        while data := stream.read(1 << 22):
            if b'"' in data:
                return True
    return False


def _most_regular(lines: Sequence[str]) -> str:
    best, most = ",", 0.0
    for mark in (",", "\t", ";", "|"):
        counts = Counter(line.count(mark) for line in lines[:200] if line)
        counts.pop(0, None)
        if counts:
            times, rows = counts.most_common(1)[0]
            score = rows * (1 + times / 100)
            best, most = (mark, score) if score > most else (best, most)
    return best


def plain_rows(
    path: Path, style: Style, columns: Sequence[str], _work: Path
) -> "tuple[pl.LazyFrame, tuple[str, ...]]":
    """Rows of a file without quotation marks that mean anything: one line each, read lazily.

    A block in which every line has its cells goes through the reader of CSV, only the columns that
    are asked for; one with a ragged or an empty line is split line by line.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    first = next(iter(sample_lines(path)), "")
    names = clean_names(list(columns) or first.split(style.delimiter))
    schema = {ROW: pl.Int64, REASON: pl.String, RAW: pl.String} | dict.fromkeys(names, pl.String)

    def source(
        wanted: list[str] | None, predicate: "pl.Expr | None", most: int | None, _size: int | None
    ) -> "Iterator[pl.DataFrame]":
        chosen = list(schema) if wanted is None else wanted
        left = most
        for parsed in ahead(_frames(path, style.delimiter, names, chosen, heading=not columns)):
            if left == 0:
                return
            rows = parsed.select(chosen) if left is None else parsed.select(chosen).head(left)
            left = None if left is None else left - len(rows)
            yield rows if predicate is None else rows.filter(predicate)

    return register_io_source(source, schema=schema), names


def blocks(path: Path, *, heading: bool) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time, without the heading."""
    with path.open("rb") as stream:
        stream.seek(3 if stream.read(3) == b"\xef\xbb\xbf" else 0)
        if heading:
            stream.readline()
        while block := stream.read(BLOCK):
            yield block if block.endswith(b"\n") else block + stream.readline()


def _frames(
    path: Path, delimiter: str, names: Sequence[str], wanted: Sequence[str], *, heading: bool
) -> "Iterator[pl.DataFrame]":
    line = 2 if heading else 1
    for block in blocks(path, heading=heading):
        rows, lines = _parsed(block, line, delimiter, names, wanted)
        line += lines
        yield rows


def _parsed(
    block: bytes, line: int, delimiter: str, names: Sequence[str], wanted: Sequence[str]
) -> "tuple[pl.DataFrame, int]":
    """(rows with at least the columns that are wanted, how many lines they take)."""
    import polars as pl

    lines = block.replace(b"\r\n", b"\n") if b"\r" in block else block
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    if not _is_regular(lines, delimiter, len(names)):
        numbered = pl.scan_lines(block, name=RAW, row_index_name=ROW, row_index_offset=line)
        return _split_lines(numbered, delimiter, names).collect(), lines.count(b"\n")
    places = [place for place, name in enumerate(names) if name in wanted]
    cells = pl.read_csv(
        lines, has_header=False, separator=delimiter, quote_char=None,
        columns=places or [0], schema=dict.fromkeys(names, pl.String), empty_string_is_null=False,
    )  # fmt: skip
    empty = pl.lit(None, pl.String)
    number = pl.int_range(line, line + len(cells), dtype=pl.Int64)
    rows = cells.with_columns(number.alias(ROW), empty.alias(REASON), empty.alias(RAW))
    return rows, len(rows)


def _is_regular(lines: bytes, delimiter: str, width: int) -> bool:
    """True where every line has so many cells, and no carriage return stands in any."""
    if width == 1 or b"\r" in lines:
        return False
    kept = f"{delimiter}\n".encode()
    marks = lines.translate(None, bytes(code for code in range(256) if code not in kept))
    line = delimiter.encode() * (width - 1) + b"\n"
    return marks == line * (len(marks) // width)


def _split_lines(frame: "pl.LazyFrame", delimiter: str, names: Sequence[str]) -> "pl.LazyFrame":
    """Lines with their number, as cells, a ragged one set aside."""
    import polars as pl

    frame = frame.filter(pl.col(RAW).str.len_bytes() > 0)
    line = pl.col(RAW).str.strip_suffix("\r")
    cells = line.str.split_exact(delimiter, len(names) - 1)
    cells = cells.struct.rename_fields(list(names)) if len(names) > 1 else line.alias(names[0])
    found = line.str.count_matches(delimiter, literal=True)
    frame = frame.with_columns(found.alias("__found"), cells.alias("__cells"))
    ragged = pl.col("__found") != len(names) - 1
    fields = (
        [pl.col("__cells").struct.field(name) for name in names]
        if len(names) > 1
        else [pl.col("__cells").alias(names[0])]
    )
    reason = pl.format(f"{{}} cells instead of {len(names)}", pl.col("__found") + 1)
    return frame.select(
        pl.col(ROW).cast(pl.Int64),
        pl.when(ragged).then(reason).alias(REASON),
        pl.when(ragged).then(RAW).alias(RAW),
        *fields,
    )


class _TornRowError(Exception):
    """A row that goes on for too many lines."""


class _Lines:
    """Lines of a file with their numbers, which can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = enumerate(lines, start=1)
        self._again: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        """The next line; raises `_TornRowError` where a row takes too many."""
        if len(self.taken) >= MOST_LINES:
            raise _TornRowError
        self.taken.append(self._again.popleft() if self._again else next(self._lines))
        return self.taken[-1][1]

    def give_back(self) -> tuple[int, str]:
        """All taken lines but the first, which is returned."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.taken = []
        return first


def records(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | None, str]]:
    """(first line, cells, "") of every row, or (line, None, the line) where one is torn."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TornRowError):
            number, line = source.give_back()
            yield number, None, line.rstrip("\r\n")
            reader = csv.reader(source, delimiter=delimiter, strict=True)
            continue
        if cells:
            yield source.taken[0][0], cells, ""


def quoted_rows(
    path: Path, style: Style, columns: Sequence[str], work: Path
) -> "tuple[pl.LazyFrame, tuple[str, ...]]":
    """Rows of a file whose quoted cells may hold anything, copied into Arrow batch by batch."""
    import polars as pl

    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = records(stream, style.delimiter)
        names = clean_names(list(columns))
        if not names:
            number, header, line = next(rows, (1, None, ""))
            if header is None:
                raise DataError(
                    f"{path}:{number}: the line with the column names cannot be read: {line[:80]!r}"
                    ". Close its quotation marks, or name the columns."
                )
            names = clean_names(header)
        folder = work / f"{path.stem}-rows"
        folder.mkdir()
        schema = {
            ROW: pl.Int64,
            REASON: pl.String,
            RAW: pl.String,
            **dict.fromkeys(names, pl.String),
        }
        for place, batch in enumerate(_batches(rows, names)):
            data = dict(zip(schema, zip(*batch, strict=True) if batch else (), strict=False))
            part = folder / f"{place:06}.arrow"
            pl.DataFrame(data, schema=schema).write_ipc(part, compression="lz4")
    return pl.scan_ipc(folder / "*.arrow"), names


def _batches(
    rows: Iterator[tuple[int, list[str] | None, str]], names: Sequence[str]
) -> Iterator[list[tuple[object, ...]]]:
    """Rows in the columns of the frame; there is always a first batch, be it empty."""
    width = len(names)
    batch: list[tuple[object, ...]] = []
    sent = False
    for number, cells, line in rows:
        if cells is None:
            reason = "a quotation mark is not closed, or stands where none may"
            batch.append((number, reason, line, *[None] * width))
        elif len(cells) != width:
            reason = f"{len(cells)} cells instead of {width}"
            padded = [*cells[:width], *[None] * (width - len(cells))]
            batch.append((number, reason, "\u241f".join(cells), *padded))
        else:
            batch.append((number, None, None, *cells))
        if len(batch) >= BATCH:
            yield batch
            batch, sent = [], True
    if batch or not sent:
        yield batch
