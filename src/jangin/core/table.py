"""Parquet tables whose Arrow schema comes from the record type, and whose digest is of rows."""

import hashlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from jangin.core.errors import StoreError

R = TypeVar("R", bound=BaseModel)

_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def arrow_schema(record_type: type[BaseModel]) -> pa.Schema:
    """Arrow schema of a record of str, int, float, bool, records, tuples, Literal, X | None."""
    return pa.schema(
        [
            pa.field(name, *_arrow_type(field.annotation, f"{record_type.__name__}.{name}"))
            for name, field in record_type.model_fields.items()
        ]
    )


def _arrow_type(annotation: Any, where: str) -> tuple[pa.DataType, bool]:
    """(Arrow type, nullable) of one annotation; raises TypeError on what a table cannot hold."""
    if annotation in _SCALARS:
        return _SCALARS[annotation], False
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string(), False
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return _arrow_type(inner[0], where)[0], True
    if origin in (tuple, list) and arguments:
        return pa.list_(_arrow_type(arguments[0], where)[0]), False
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct(list(arrow_schema(annotation))), False
    raise TypeError(f"{where}: a table cannot hold {annotation!r}")


def write_table(path: Path, record_type: type[R], records: Sequence[R]) -> None:
    """Write records as one Parquet file, zstd-compressed; an empty table keeps its schema."""
    rows = [record.model_dump(mode="json") for record in records]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=arrow_schema(record_type)), path, compression="zstd"
    )


def read_table(path: Path, record_type: type[R]) -> list[R]:
    """All records of one Parquet file; raises `StoreError` when it is damaged."""
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}. Delete its folder and run again to make it anew."
        ) from error
    return [record_type.model_validate(row) for row in rows]


def count_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    return int(pq.read_metadata(path).num_rows)


def digest_table(path: Path) -> str:
    """sha256 of a table's rows in order, whatever compression or writer version made the file."""
    table = pq.read_table(path).replace_schema_metadata(None).combine_chunks()
    digest = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    digest.update(sink.getvalue())
    return digest.hexdigest()
