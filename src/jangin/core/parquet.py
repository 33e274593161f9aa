"""Write and read record types as Parquet, with a digest of the content, not of the bytes."""

import hashlib
import types
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from jangin.core.errors import UnreadableStoreError

R = TypeVar("R", bound=BaseModel)

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


def write_table(path: Path, record_type: type[R], records: Sequence[R]) -> None:
    """Write records as one Parquet file, zstd-compressed; an empty table keeps its schema."""
    rows = [record.model_dump(mode="json") for record in records]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=arrow_schema(record_type)), path, compression="zstd"
    )


def read_table(path: Path, record_type: type[R]) -> list[R]:
    """All records of one Parquet file.

    Raises:
        UnreadableStoreError: The file is damaged or has rows of another type.

    """
    with _read_errors(path):
        return [record_type.model_validate(row) for row in pq.read_table(path).to_pylist()]


def read_rows(path: Path, record_type: type[R], ids: Collection[str]) -> list[R]:
    """The records with these ids, without building the others; raises as `read_table`."""
    if not ids:
        return []
    with _read_errors(path):
        table = pq.read_table(path, filters=pc.field("id").isin(list(ids)))
        return [record_type.model_validate(row) for row in table.to_pylist()]


def count_rows(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer.

    Raises:
        UnreadableStoreError: The file is damaged.

    """
    with _read_errors(path):
        return int(pq.read_metadata(path).num_rows)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn errors of Arrow, the file system and validation into `UnreadableStoreError`."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).strip().partition("\n")[0]
        raise UnreadableStoreError(
            f"{path} cannot be read: {problem}. Delete its folder and run again to rebuild it."
        ) from error


def digest_table(path: Path) -> str:
    """sha256 of a table's rows in order; independent of compression and writer version."""
    table = pq.read_table(path)
    digest = hashlib.sha256()
    for name in table.column_names:
        _feed(digest, name, table[name])
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", name: str, column: pa.ChunkedArray) -> None:
    """Feed one column without the values under its nulls, which are uninitialised memory."""
    kind = column.type
    nested = pa.types.is_list(kind) or pa.types.is_struct(kind)
    digest.update(f"{name} {'nested' if nested else kind} {len(column)}\n".encode())
    _feed_numbers(digest, pc.is_valid(column))
    present = column.drop_null()
    if pa.types.is_list(kind):
        _feed_numbers(digest, pc.list_value_length(present))
        _feed(digest, f"{name}[]", pc.list_flatten(present))
    elif pa.types.is_struct(kind):
        for part in kind:
            _feed(digest, f"{name}.{part.name}", pc.struct_field(present, part.name))
    elif pa.types.is_string(kind):
        _feed_numbers(digest, pc.binary_length(present))
        for chunk in present.chunks:
            _, offsets, text = chunk.buffers()
            if len(chunk):
                ends = np.frombuffer(offsets, np.int32)[chunk.offset :][: len(chunk) + 1]
                digest.update(text[int(ends[0]) : int(ends[-1])] if text else b"")
    else:
        _feed_numbers(digest, present)


def _feed_numbers(digest: "hashlib._Hash", column: pa.ChunkedArray) -> None:
    for chunk in column.chunks:
        digest.update(chunk.to_numpy(zero_copy_only=False))
