"""Write and read record types as Parquet, with a digest of the content, not of the bytes."""

import hashlib
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from jangin.core.errors import UnreadableStoreError, counted
from jangin.core.reasons import Reason

R = TypeVar("R", bound=BaseModel)

BATCH_ROWS = 8192
"""Most rows that are read at a time; fewer where they are large."""
ADDED_ROWS = 512
"""Records that are converted at a time."""
GROUP_BYTES = 32 << 20
"""Size of rows in memory from which on they are written as a row group."""
STREAMED_BYTES = 128 << 20
"""Uncompressed size of a file from which on its digest is computed piece by piece."""
PART_DIGEST = "jangin.rows"
"""Key in the footer of a part: its `RowsDigest`."""

_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def arrow_schema(record_type: type[BaseModel]) -> pa.Schema:
    """Arrow schema of a record of str, int, float, bool, records, tuples, Literal, X | None.

    Raises:
        TypeError: A field has another type.

    """
    return pa.schema(
        [
            pa.field(name, *_arrow_type(field.annotation, f"{record_type.__name__}.{name}"))
            for name, field in record_type.model_fields.items()
        ]
    )


def _arrow_type(annotation: Any, location: str) -> tuple[pa.DataType, bool]:
    """(Arrow type, nullable) of one annotation; `location` is for the TypeError."""
    if annotation is Reason:
        return pa.string(), False
    if annotation in _SCALARS:
        return _SCALARS[annotation], False
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string(), False
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return _arrow_type(inner[0], location)[0], True
    if origin in (tuple, list) and arguments:
        return pa.list_(_arrow_type(arguments[0], location)[0]), False
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct(list(arrow_schema(annotation))), False
    raise TypeError(f"{location}: a table cannot hold {annotation!r}")


def write_table(path: Path, record_type: type[R], records: Iterable[R]) -> None:
    """Write records as one Parquet file, zstd-compressed; an empty table keeps its schema."""
    with TableWriter(path, record_type) as writer:
        writer.add(records)


class TableWriter:
    """Writes one file of a table piece by piece, so that memory does not grow with it.

    The file gets its name when it is complete. That of a part has the digest of its rows in the
    footer.
    """

    def __init__(self, path: Path, record_type: type[BaseModel], *, part: bool = False) -> None:
        """Open the file `path`, or with `part` one of the folder of a table."""
        self.rows = 0
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        self._schema = arrow_schema(record_type)
        self._digest = RowsDigest() if part else None
        self._records: list[dict[str, Any]] = []
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0
        path.parent.mkdir(exist_ok=True)
        try:
            self._file = pq.ParquetWriter(self._partial, self._schema, compression="zstd")
        except OSError:
            self._partial.unlink(missing_ok=True)
            raise

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Complete the file; after an error there is none."""
        try:
            if error is None:
                self._complete()
            else:
                with suppress(OSError):
                    self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)

    def _complete(self) -> None:
        self._convert()
        self._flush()
        if self._digest is not None:
            self._file.add_key_value_metadata({PART_DIGEST: self._digest.packed()})
        self._file.close()
        self._partial.replace(self._path)

    def add(self, records: Iterable[BaseModel]) -> None:
        """Write records."""
        for record in records:
            self._records.append(record.model_dump(mode="json"))
            if len(self._records) == ADDED_ROWS:
                self._convert()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Write rows that have the columns of the record type."""
        self._convert()
        self._wait(batch)

    def _convert(self) -> None:
        rows, self._records = self._records, []
        if rows:
            self._wait(pa.RecordBatch.from_pylist(rows, schema=self._schema))

    def _wait(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        group = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        if self._digest is not None:
            for batch in group.to_batches():
                self._digest.add(batch)
        if group.num_rows:
            self._file.write_table(group)
        self._waiting, self._bytes = [], 0


def part_path(table: Path, number: int) -> Path:
    """File of one part of a table that is a folder."""
    return table / f"part-{number:05}.parquet"


def part_paths(table: Path) -> list[Path]:
    """The files of a table in order: itself, or the parts in the folder of this name.

    Raises:
        UnreadableStoreError: A part is missing.

    """
    if not table.is_dir():
        return [table]
    names = {path.name for path in table.glob("*.parquet")}
    parts = [part_path(table, number) for number in range(len(names))]
    missing = [path for path in parts if path.name not in names]
    if missing or not parts:
        gap = missing[0] if missing else part_path(table, 0)
        raise UnreadableStoreError(
            f"{gap} is missing, a part of {table.name}. Delete the folder {table.parent} and run "
            "again to rebuild it."
        )
    return parts


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a table or of one part, at most `BATCH_ROWS` at a time.

    `columns` are names, with dots for fields of records: `completion.content`. Raises as
    `read_table`.
    """
    for part in part_paths(path):
        with _read_errors(part), pq.ParquetFile(part) as file:
            rows = 0
            for batch in file.iter_batches(_batch_rows(file), columns=columns):
                rows += batch.num_rows
                yield batch
            if rows != file.metadata.num_rows:
                raise ValueError(
                    f"it has {counted(rows, 'row')} instead of {file.metadata.num_rows:,}"
                )


def read_as(
    path: Path, record_type: type[BaseModel], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a table with the columns of a record type, all by default.

    A table from before a field was added gets that field's default. Raises as `read_table`.
    """
    schema = arrow_schema(record_type)
    for part in part_paths(path):
        with _read_errors(part):
            is_current = pq.read_schema(part).equals(schema)
        if is_current:
            yield from read_batches(part, columns)
            continue
        yield from batches_of(read_records(part, record_type), record_type, columns)


def batches_of(
    records: Iterable[BaseModel],
    record_type: type[BaseModel],
    columns: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Records by columns, all by default, some hundred records at a time."""
    schema, remaining = arrow_schema(record_type), iter(records)
    while rows := [record.model_dump(mode="json") for record in islice(remaining, ADDED_ROWS)]:
        batch = pa.RecordBatch.from_pylist(rows, schema=schema)
        yield batch if columns is None else batch.select(columns)


def _batch_rows(file: pq.ParquetFile) -> int:
    """Rows of a file that take about `GROUP_BYTES`, as far as its footer tells."""
    footer = file.metadata
    size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    return int(min(BATCH_ROWS, max(1, GROUP_BYTES * footer.num_rows // max(1, size))))


def read_records(path: Path, record_type: type[R]) -> Iterator[R]:
    """The records of a table or of one part, one after the other; raises as `read_table`."""
    for batch in read_batches(path):
        with _read_errors(path):
            for row in batch.to_pylist():
                yield record_type.model_validate(row)


def read_table(path: Path, record_type: type[R]) -> list[R]:
    """All records of a table, which is one file or a folder of parts.

    Raises:
        UnreadableStoreError: A file is damaged or missing, or has rows of another type.

    """
    return list(read_records(path, record_type))


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a table by their names, all by default; raises as `read_table`."""
    tables = []
    for part in part_paths(path):
        with _read_errors(part), pq.ParquetFile(part) as file:
            tables.append(file.read(columns=columns))
    return pa.concat_tables(tables)


def read_rows(path: Path, record_type: type[R], ids: Collection[str]) -> list[R]:
    """The records with these ids, without building the others; raises as `read_table`."""
    rows: list[R] = []
    for part in part_paths(path) if ids else ():
        with _read_errors(part):
            table = pq.read_table(part, filters=pc.field("id").isin(list(ids)))
            rows += [record_type.model_validate(row) for row in table.to_pylist()]
    return rows


def numbered_rows(path: Path, record_type: type[R], numbers: Collection[int]) -> list[R]:
    """The records with these numbers from 0 on, in their order, without building the others.

    Raises as `read_table`.
    """
    wanted, first = sorted(set(numbers)), 0
    rows: list[R] = []
    for batch in read_batches(path) if wanted else ():
        here = [number - first for number in wanted if 0 <= number - first < batch.num_rows]
        with _read_errors(path):
            given = [batch.slice(number, 1).to_pylist()[0] for number in here]
            rows += map(record_type.model_validate, given)
        first += batch.num_rows
        if first > wanted[-1]:
            break
    return rows


def count_rows(path: Path) -> int:
    """Number of rows of a table, from the footers of its files; raises as `read_table`."""
    count = 0
    for part in part_paths(path):
        with _read_errors(part):
            count += int(pq.read_metadata(part).num_rows)
    return count


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn errors of Arrow, the file system and validation into `UnreadableStoreError`."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).strip().partition("\n")[0].rstrip(".")
        raise UnreadableStoreError(
            f"{path} cannot be read: {problem}. Delete its folder and run again to rebuild it."
        ) from error


class RowsDigest:
    """A digest of rows in order that joins: that of two parts follows from those of each.

    With s(i) = sha256 of row i of n, H = sum of r**(n - 1 - i) * s(i) modulo 2**255 - 19, so that
    H(A + B) = H(A) * r**len(B) + H(B): a polynomial hash (Karp and Rabin 1987, Efficient randomized
    pattern-matching algorithms) over the digests of rows. Collisions by chance are as unlikely as
    those of sha256; it is not meant against an adversary.
    """

    _PRIME = 2**255 - 19
    _BASE = int.from_bytes(hashlib.sha256(b"jangin table 2").digest(), "big") % _PRIME

    def __init__(self, value: int = 0, rows: int = 0, columns: str = "") -> None:
        """Start with the digest of zero rows, or with one that `packed` returned."""
        self._value, self._rows, self._columns = value, rows, columns

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self._columns = ", ".join(f"{f.name} {_form(f.type)}" for f in batch.schema)
        value = self._value
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            texts = _encoded(pa.StructArray.from_arrays(part.columns, fields=list(part.schema)))
            for row in texts.to_pylist():
                number = int.from_bytes(hashlib.sha256(row).digest(), "big")
                value = (value * self._BASE + number) % self._PRIME
        self._value = value
        self._rows += batch.num_rows

    def join(self, after: "RowsDigest") -> "RowsDigest":
        """The digest of these rows with others after them."""
        shifted = self._value * pow(self._BASE, after._rows, self._PRIME)
        columns = self._columns or after._columns
        return RowsDigest((shifted + after._value) % self._PRIME, self._rows + after._rows, columns)

    def packed(self) -> str:
        """The digest as text."""
        return f"{self._rows} {self._value:x} {self._columns}"

    @classmethod
    def of(cls, path: Path) -> "RowsDigest":
        """That of a part: as its writer noted it, else of its rows."""
        noted = (pq.read_metadata(path).metadata or {}).get(PART_DIGEST.encode())
        if noted is not None:
            rows, value, columns = noted.decode().split(" ", 2)
            return cls(int(value, 16), int(rows), columns)
        digest = cls()
        for batch in read_batches(path):
            digest.add(batch)
        return digest

    @property
    def hex(self) -> str:
        """The digest of the rows and of the names and types of the columns, 64 hex characters."""
        return hashlib.sha256(self.packed().encode()).hexdigest()


def _form(kind: pa.DataType) -> str:
    """Name of a type that does not depend on the version of Arrow."""
    if pa.types.is_list(kind):
        return f"[{_form(kind.value_type)}]"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{part.name} {_form(part.type)}" for part in kind) + "}"
    return str(kind)


def _encoded(column: pa.Array) -> pa.Array:
    """(N,) binary: each value so that no two different ones are equal.

    A text is its length in bytes, a colon and its bytes; a number its digits and a comma, a float
    by its bits; a list its length, a colon and its values; a record its fields; `~` is no value.
    """
    kind = column.type
    if pa.types.is_struct(kind):
        parts = [_encoded(pc.struct_field(column, index)) for index in range(kind.num_fields)]
        text = _together(*parts)
    elif pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        ends = np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(ends), _encoded(pc.list_flatten(column)))
        text = _together(_digits(lengths), b":", pc.binary_join(lists, b""))
    elif pa.types.is_string(kind):
        text = _together(_digits(pc.binary_length(column)), b":", column.cast(pa.binary()))
    elif pa.types.is_floating(kind):
        bits = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).view(np.int64)
        text = _together(_digits(pa.array(bits)), b",")
    else:
        text = _together(_digits(column.cast(pa.int64())), b",")
    if not column.null_count:
        return text
    return pc.if_else(column.is_valid(), text, pa.scalar(b"~", pa.binary()))


def _digits(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.string()).cast(pa.binary())


def _together(*parts: "pa.Array | bytes") -> pa.Array:
    """Texts joined row by row; no value where one of them is none."""
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def digest_parts(path: Path) -> str:
    """Digest of the rows of a table in parts, wherever it is cut.

    Raises:
        UnreadableStoreError: A part is missing or damaged.

    """
    digest = RowsDigest()
    for part in part_paths(path):
        with _read_errors(part):
            digest = digest.join(RowsDigest.of(part))
    return digest.hex


def digest_table(path: Path) -> str:
    """sha256 of a table's rows in order; independent of compression and writer version."""
    digest = hashlib.sha256()
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        whole = file.read() if size < STREAMED_BYTES else None
        rows = _batch_rows(file)

        def pieces(column: str) -> Iterator[pa.Array]:
            if whole is not None:
                yield from whole[column.partition(".")[0]].chunks
                return
            yield from (batch.column(0) for batch in file.iter_batches(rows, columns=[column]))

        for field in file.schema_arrow:
            _Fed(digest, pieces, field.name).feed(field.name, field.type)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Fed:
    """Feeds a column, or values inside it, to a digest, reading it once for each property."""

    digest: "hashlib._Hash"
    pieces: Callable[[str], Iterable[pa.Array]]
    """(column, with dots for fields of records) -> the column in pieces, also with other fields."""
    column: str
    """What is read."""
    inside: Callable[[pa.Array], pa.Array] = lambda column: column
    """From a piece of the column to the values."""
    in_list: bool = False
    """True where the values are in lists, whose fields are not read one by one."""

    def feed(self, name: str, kind: pa.DataType) -> None:
        """Feed the values, without those under nulls, which are uninitialised memory."""
        digest = self.digest
        nested = pa.types.is_list(kind) or pa.types.is_struct(kind)
        count = sum(map(len, self._values()))
        digest.update(f"{name} {'nested' if nested else kind} {count}\n".encode())
        for piece in self._values():
            self._numbers(pc.is_valid(piece))
        if pa.types.is_list(kind):
            for piece in self._present():
                self._numbers(pc.list_value_length(piece))
            flat = replace(self, inside=lambda a: pc.list_flatten(self._kept(a)), in_list=True)
            flat.feed(f"{name}[]", kind.value_type)
        elif pa.types.is_struct(kind):
            for part in kind:
                self._part(part.name).feed(f"{name}.{part.name}", part.type)
        elif pa.types.is_string(kind):
            for piece in self._present():
                self._numbers(pc.binary_length(piece))
            for piece in self._present():
                _, offsets, text = piece.buffers()
                if len(piece):
                    ends = np.frombuffer(offsets, np.int32)[piece.offset :][: len(piece) + 1]
                    digest.update(text[int(ends[0]) : int(ends[-1])] if text else b"")
        else:
            for piece in self._present():
                self._numbers(piece)

    def _part(self, name: str) -> "_Fed":
        """One field of records."""
        column = self.column if self.in_list else f"{self.column}.{name}"
        return replace(self, column=column, inside=lambda a: pc.struct_field(self._kept(a), name))

    def _kept(self, piece: pa.Array) -> pa.Array:
        return self.inside(piece).drop_null()

    def _values(self) -> Iterator[pa.Array]:
        return (self.inside(piece) for piece in self.pieces(self.column))

    def _present(self) -> Iterator[pa.Array]:
        return (self._kept(piece) for piece in self.pieces(self.column))

    def _numbers(self, piece: pa.Array) -> None:
        self.digest.update(piece.to_numpy(zero_copy_only=False))
