"""CSV and TSV parser that keeps line numbers and drops ragged rows with a reason."""

import codecs
import csv
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from jangin.core.errors import DataError, counted
from jangin.prepare.tables.schema import RAW, REASON, ROW, clean_names

if TYPE_CHECKING:
    import polars as pl


# Detect text encodings and convert files to UTF-8.


SAMPLE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 22
CACHE_BYTES = 1 << 18
"""Size of a read that stays in the processor's cache while it is processed."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

_OTHER_FILES = (
    (b"PK\x03\x04", "a ZIP archive, such as an Excel workbook", ".xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", ".xls"),
    (b"%PDF-", "a PDF", ".pdf"),
    (b"PAR1", "a Parquet file", ".parquet"),
    (b"\x1f\x8b", "compressed by gzip", ".gz"),
)
"""(first bytes, what such a file is, its usual suffix) of files that are no text."""

Encoding = Literal["auto", "utf-8", "cp949", "utf-16"]


def detect_encoding(path: Path) -> str:
    """`utf-8`, `utf-8-sig`, `utf-16`, `utf-16-le`, `utf-16-be` or `cp949`.

    Raises `DataError` if it is none of them; the message names the first line that is not UTF-8.
    """
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    for start, what, suffix in _OTHER_FILES:
        if sample.startswith(start):
            raise DataError(
                f"{path} is {what}, and no text. Name it {path.stem}{suffix} if it is one, or save "
                "it as CSV in UTF-8."
            )
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if len(sample) > 3 and b"\x00" in sample:
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if sample[offset::2].count(0) > 0.2 * len(sample[offset::2]):
                return encoding
    if _is_utf8(path):
        return "utf-8"
    bad = _first_bad_byte(path, "utf-8") or 0
    text = sample.decode("cp949", "ignore")
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("가" <= character <= "힣" for character in foreign)
    if (not foreign or hangul >= 0.6 * len(foreign)) and _first_bad_byte(path, "cp949") is None:
        return "cp949"
    raise DataError(
        f"{path}:{_line_of(path, bad)}: byte {bad} is neither UTF-8 nor CP949 (Korean Windows). "
        "Save the file as UTF-8, or set encoding."
    )


def _is_utf8(path: Path) -> bool:
    """True if a whole file is UTF-8; polars checks it with vector instructions."""
    import polars as pl

    rest = b""
    try:
        with path.open("rb") as stream:
            while data := stream.read(CACHE_BYTES):
                data = rest + data
                end = _last_boundary(data)
                pl.Series([data[:end]], dtype=pl.Binary).cast(pl.String)
                rest = data[end:]
        pl.Series([rest], dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        return False
    return True


def _last_boundary(data: bytes) -> int:
    """Offset of the last character, which may be incomplete; the end if none begins there."""
    ends = range(len(data) - 1, max(len(data) - 5, -1), -1)
    return next((offset for offset in ends if data[offset] & 0xC0 != 0x80), len(data))


def _first_bad_byte(path: Path, encoding: str) -> int | None:
    """Offset of the first byte that cannot be decoded; None if all can."""
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    with path.open("rb") as stream:
        while True:
            data = stream.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                return done - pending + error.start
            done += len(data)
            if not data:
                return None


def _line_of(path: Path, byte: int) -> int:
    with path.open("rb") as stream:
        return stream.read(byte).count(b"\n") + 1


def as_utf8(path: Path, encoding: Encoding, work: Path) -> tuple[Path, str]:
    """(the file, or a copy of it in UTF-8 with LF line ends; its encoding).

    Raises `DataError` if the file is not in `encoding`, or `auto` does not recognise it.
    """
    actual = detect_encoding(path) if encoding == "auto" else encoding
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    plain = actual in ("utf-8", "utf-8-sig") and (b"\r" not in sample or b"\n" in sample)
    if plain:
        bad = None if encoding == "auto" else _first_bad_byte(path, "utf-8")
        if bad is not None:
            raise DataError(
                f"{path}:{_line_of(path, bad)}: byte {bad} is not UTF-8. Set encoding: auto."
            )
        return path, actual
    copy = work / f"{path.stem}.utf8{path.suffix}"
    try:
        with path.open(encoding=actual, newline=None) as source, copy.open("w") as target:
            while text := source.read(CHUNK_BYTES):
                target.write(text)
    except UnicodeError as error:
        raise DataError(
            f"{path} cannot be decoded as {actual}: {error}. Set encoding: auto, or save it "
            "as UTF-8."
        ) from error
    return copy, actual


def sample_lines(path: Path) -> list[str]:
    """The complete lines in the first MiB of a UTF-8 file, without a byte order mark."""
    with path.open("rb") as stream:
        data = stream.read(SAMPLE_BYTES)
        more = bool(stream.read(1))
    lines = data.decode("utf-8-sig", "ignore").replace("\r\n", "\n").split("\n")
    if more or not lines[-1]:
        lines = lines[:-1]
    return lines


# Compute the next item in a thread while the caller works on the current one.
#
# Useful for work that releases the interpreter lock, as files, polars, numpy and hashing do; plain
# Python code gains nothing.


Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = 2


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS
) -> Iterator[Result]:
    """`map` in threads: results in order, at most `workers + 1` of them pending.

    The items are read in the caller's thread, and errors of `function` are raised there, too.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """The items in order; a thread reads the next one while the caller has the current one."""
    source = iter(items)

    def next_item() -> list[Item]:
        """One item, or an empty list at the end."""
        return list(islice(source, 1))

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next_item)
        while batch := pending.result():
            pending = pool.submit(next_item)
            yield batch[0]


MAX_LINES = 1000
"""Maximum number of lines of one quoted row; an unclosed quotation mark beyond that is literal."""
BATCH = 50_000
"""Number of rows of a quoted file that are written at once."""
BLOCK_BYTES = 1 << 22
"""Bytes of a file without quoting that are read at once."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Dialect:
    """Delimiter and quoting of a file."""

    delimiter: str
    quoted: bool


def sniff(
    path: Path, suffix: str, delimiter: str, quotes: Literal["auto", "csv", "none"]
) -> Dialect:
    """The dialect of a file.

    An empty `delimiter` means: a tab for `.tsv`, otherwise the one with the most regular count per
    line.
    """
    lines = sample_lines(path)
    mark = delimiter or ("\t" if suffix == ".tsv" else "") or _regular_delimiter(lines)
    if quotes != "auto":
        return Dialect(mark, quotes == "csv")
    if not _has_quotation_marks(path):
        return Dialect(mark, quoted=False)
    if mark != "\t":
        return Dialect(mark, quoted=True)
    marked = (line.split(mark) for line in lines if '"' in line)
    cells = [cell for line in marked for cell in line if cell.startswith('"')]
    return Dialect(mark, bool(cells) and all(map(_QUOTED.fullmatch, cells)))


def is_one_text_a_line(path: Path) -> bool:
    """True for a text file without a delimiter that nearly every line has equally often."""
    lines = [line for line in sample_lines(path)[:200] if line]
    mark = _regular_delimiter(lines)
    counts = [line.count(mark) for line in lines if '"' not in line] or [1]
    if not lines or mark not in lines[0]:
        return True
    names = lines[0].split(mark)
    if mark == "," and any(len(name.split()) > 3 or name.strip()[-1:] in ".?!" for name in names):
        return True  # a sentence, not the names of columns
    return sum(count == counts[0] for count in counts) < 0.8 * len(counts)


def _has_quotation_marks(path: Path) -> bool:
    with path.open("rb") as stream:
        while data := stream.read(1 << 22):
            if b'"' in data:
                return True
    return False


def _regular_delimiter(lines: Sequence[str]) -> str:
    best, best_score = ",", 0.0
    for mark in (",", "\t", ";", "|"):
        counts = Counter(line.count(mark) for line in lines[:200] if line)
        counts.pop(0, None)
        if counts:
            times, rows = counts.most_common(1)[0]
            score = rows * (1 + times / 100)
            best, best_score = max((best, best_score), (mark, score), key=itemgetter(1))
    return best


def scan_plain(
    path: Path, dialect: Dialect, columns: Sequence[str], _work: Path
) -> "tuple[pl.LazyFrame, tuple[str, ...]]":
    """(rows of a file without quoting, read lazily; names of its columns).

    polars parses a block in which every line has the right number of cells, and only the requested
    columns; a block with a ragged or an empty line is split line by line.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    first = next(iter(sample_lines(path)), "")
    names = clean_names(list(columns) or first.split(dialect.delimiter))
    schema = {ROW: pl.Int64, REASON: pl.String, RAW: pl.String} | dict.fromkeys(names, pl.String)

    def source(
        requested: list[str] | None,
        predicate: "pl.Expr | None",
        limit: int | None,
        _size: int | None,
    ) -> "Iterator[pl.DataFrame]":
        chosen = list(schema) if requested is None else requested
        left = limit
        for parsed in prefetch(
            _frames(path, dialect.delimiter, names, chosen, heading=not columns)
        ):
            if left == 0:
                return
            rows = parsed.select(chosen) if left is None else parsed.select(chosen).head(left)
            left = None if left is None else left - len(rows)
            yield rows if predicate is None else rows.filter(predicate)

    return register_io_source(source, schema=schema), names


def blocks(path: Path, *, heading: bool) -> Iterator[bytes]:
    """Complete lines in blocks of some megabytes, without the heading."""
    with path.open("rb") as stream:
        stream.seek(3 if stream.read(3) == b"\xef\xbb\xbf" else 0)
        if heading:
            stream.readline()
        while block := stream.read(BLOCK_BYTES):
            yield block if block.endswith(b"\n") else block + stream.readline()


def _frames(
    path: Path, delimiter: str, names: Sequence[str], requested: Sequence[str], *, heading: bool
) -> "Iterator[pl.DataFrame]":
    line = 2 if heading else 1
    for block in blocks(path, heading=heading):
        rows, lines = _parse_block(block, line, delimiter, names, requested)
        line += lines
        yield rows


def _parse_block(
    block: bytes, line: int, delimiter: str, names: Sequence[str], requested: Sequence[str]
) -> "tuple[pl.DataFrame, int]":
    """(rows with at least the requested columns, number of lines in the block)."""
    import polars as pl

    lines = block.replace(b"\r\n", b"\n") if b"\r" in block else block
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    if not _is_regular(lines, delimiter, len(names)):
        numbered = pl.scan_lines(block, name=RAW, row_index_name=ROW, row_index_offset=line)
        return _split_lines(numbered, delimiter, names).collect(), lines.count(b"\n")
    indices = [index for index, name in enumerate(names) if name in requested]
    cells = pl.read_csv(
        lines, has_header=False, separator=delimiter, quote_char=None,
        columns=indices or [0], schema=dict.fromkeys(names, pl.String), empty_string_is_null=False,
    )  # fmt: skip
    empty = pl.lit(None, pl.String)
    numbers = pl.int_range(line, line + len(cells), dtype=pl.Int64)
    rows = cells.with_columns(numbers.alias(ROW), empty.alias(REASON), empty.alias(RAW))
    return rows, len(rows)


def _is_regular(lines: bytes, delimiter: str, width: int) -> bool:
    """True if every line has `width` cells and none has a carriage return."""
    if width == 1 or b"\r" in lines:
        return False
    kept = f"{delimiter}\n".encode()
    marks = lines.translate(None, bytes(code for code in range(256) if code not in kept))
    line = delimiter.encode() * (width - 1) + b"\n"
    return marks == line * (len(marks) // width)


def _split_lines(frame: "pl.LazyFrame", delimiter: str, names: Sequence[str]) -> "pl.LazyFrame":
    """Numbered lines split into cells; a ragged line is dropped with a reason."""
    import polars as pl

    frame = frame.filter(pl.col(RAW).str.len_bytes() > 0)
    line = pl.col(RAW).str.strip_suffix("\r")
    cells = line.str.split_exact(delimiter, len(names) - 1)
    cells = cells.struct.rename_fields(list(names)) if len(names) > 1 else line.alias(names[0])
    delimiters = line.str.count_matches(delimiter, literal=True)
    frame = frame.with_columns(delimiters.alias("__delimiters"), cells.alias("__cells"))
    ragged = pl.col("__delimiters") != len(names) - 1
    fields = (
        [pl.col("__cells").struct.field(name) for name in names]
        if len(names) > 1
        else [pl.col("__cells").alias(names[0])]
    )
    count = pl.col("__delimiters") + 1
    noun = pl.when(count == 1).then(pl.lit("cell")).otherwise(pl.lit("cells"))
    reason = pl.format(f"{{}} {{}} instead of {len(names)}", count, noun)
    return frame.select(
        pl.col(ROW).cast(pl.Int64),
        pl.when(ragged).then(reason).alias(REASON),
        pl.when(ragged).then(RAW).alias(RAW),
        *fields,
    )


class _RowTooLongError(Exception):
    """A row spans more than `MAX_LINES` lines."""


class _Lines:
    """Lines of a file with their numbers; the lines of a failed row can be unread."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = enumerate(lines, start=1)
        self._unread: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        """The next line; raises `_RowTooLongError` if the row has too many."""
        if len(self.taken) >= MAX_LINES:
            raise _RowTooLongError
        self.taken.append(self._unread.popleft() if self._unread else next(self._lines))
        return self.taken[-1][1]

    def unread(self) -> tuple[int, str]:
        """Put back the lines of the current row except the first, which is returned."""
        first, *rest = self.taken
        self._unread.extendleft(reversed(rest))
        self.taken = []
        return first


def records(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | None, str]]:
    """(first line, cells, "") of each row, or (line, None, its text) if it is malformed.

    Lines are numbered from 1.
    """
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RowTooLongError):
            line_number, line = source.unread()
            yield line_number, None, line.rstrip("\r\n")
            reader = csv.reader(source, delimiter=delimiter, strict=True)
            continue
        if cells:
            yield source.taken[0][0], cells, ""


def scan_quoted(
    path: Path, dialect: Dialect, columns: Sequence[str], work: Path
) -> "tuple[pl.LazyFrame, tuple[str, ...]]":
    """(rows of a file with quoting, names of its columns), copied to Arrow files in `work`.

    Raises `DataError` if the line with the column names is malformed.
    """
    import polars as pl

    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = records(stream, dialect.delimiter)
        names = clean_names(list(columns))
        if not names:
            line_number, header, line = next(rows, (1, None, ""))
            if header is None:
                raise DataError(
                    f"{path}:{line_number}: the line with the column names is malformed: "
                    f"{line[:80]!r}. Close its quotation marks, or set columns."
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
        for index, batch in enumerate(_batches(rows, names)):
            data = dict(zip(schema, zip(*batch, strict=True) if batch else (), strict=False))
            part = folder / f"{index:06}.arrow"
            pl.DataFrame(data, schema=schema).write_ipc(part, compression="lz4")
    return pl.scan_ipc(folder / "*.arrow"), names


def _batches(
    rows: Iterator[tuple[int, list[str] | None, str]], names: Sequence[str]
) -> Iterator[list[tuple[object, ...]]]:
    """Batches of rows in the order of the frame's columns; the first one may be empty."""
    width = len(names)
    batch: list[tuple[object, ...]] = []
    yielded = False
    for line_number, cells, line in rows:
        if cells is None:
            reason = "a quotation mark is not closed, or stands where none may"
            batch.append((line_number, reason, line, *[None] * width))
        elif len(cells) != width:
            reason = f"{counted(len(cells), 'cell')} instead of {width}"
            padded = [*cells[:width], *[None] * (width - len(cells))]
            batch.append((line_number, reason, "\u241f".join(cells), *padded))
        else:
            batch.append((line_number, None, None, *cells))
        if len(batch) >= BATCH:
            yield batch
            batch, yielded = [], True
    if batch or not yielded:
        yield batch
