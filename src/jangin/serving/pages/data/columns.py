"""Columns of a table as people read them, as expressions over the nested columns of its file.

The same columns as `jangin show` has (`project/tables/rows.py`), which flattens row by row: here a
million rows are filtered and sorted without becoming Python objects.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jangin.project.tables.rows import EARLIER, NAMES, SPREAD

if TYPE_CHECKING:
    import polars as pl

MESSAGES = "prompt"
"""The field of a conversation, of which the last message is shown."""
SCORE = ("scorer", "value")


def flat_columns(schema: "Mapping[str, pl.DataType]") -> "dict[str, pl.Expr]":
    """{column: expression} of a table; those of the row itself take precedence."""
    import polars as pl

    columns: dict[str, pl.Expr] = {}
    for spread in (True, False):
        for name, kind in schema.items():
            if (name in SPREAD and isinstance(kind, pl.Struct)) == spread:
                columns |= dict(_expressions(name, kind, pl.col(name), spread=spread))
    order = [name for top in schema for name in _names_of(top, schema[top])]
    return {name: columns[name] for name in dict.fromkeys(order)}


def _names_of(name: str, kind: "pl.DataType") -> Iterator[str]:
    import polars as pl

    if name in SPREAD and isinstance(kind, pl.Struct):
        for field in kind.fields:
            yield from _own_names(field.name)
    else:
        yield from _own_names(name)


def _own_names(name: str) -> Iterator[str]:
    if name == MESSAGES:
        yield EARLIER
    yield NAMES.get(name, name)


def _expressions(
    name: str, kind: "pl.DataType", column: "pl.Expr", *, spread: bool
) -> "Iterator[tuple[str, pl.Expr]]":
    import polars as pl

    if spread and isinstance(kind, pl.Struct):
        for field in kind.fields:
            part = column.struct.field(field.name)
            yield from _expressions(field.name, _instance(field.dtype), part, spread=False)
        return
    shown = NAMES.get(name, name)
    if name == MESSAGES:
        yield EARLIER, _earlier(kind, column).alias(EARLIER)
    yield shown, plain(name, kind, column).alias(shown)


def _earlier(kind: "pl.DataType", column: "pl.Expr") -> "pl.Expr":
    """What was said before the last message, as `records.earlier_turns` writes it."""
    import polars as pl

    if not (isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)):
        return pl.lit("")
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    line = pl.when(role != "system").then(pl.concat_str(role, pl.lit(": "), content))
    lines = column.list.eval(line).list.drop_nulls()
    before = (lines.list.len().cast(pl.Int64) - 1).clip(0)
    return lines.list.head(before).list.join("\n")


def _instance(kind: "pl.DataType | pl.datatypes.DataTypeClass") -> "pl.DataType":
    import polars as pl

    return kind if isinstance(kind, pl.DataType) else kind()


def plain(name: str, kind: "pl.DataType", column: "pl.Expr") -> "pl.Expr":
    """A column as numbers or text."""
    import polars as pl

    if isinstance(kind, pl.Struct):
        return _of_struct(kind, column)
    if not isinstance(kind, pl.List):
        return column
    inner = kind.inner
    if isinstance(inner, pl.Struct):
        fields = [field.name for field in inner.fields]
        if name == MESSAGES:
            return column.list.last().struct.field("content")
        if all(field in fields for field in SCORE):
            return column.list.eval(_score()).list.join("; ")
        return column.list.len()
    if isinstance(inner, pl.List):
        row = pl.element().list.eval(pl.element().cast(pl.String)).list.join(", ")
        return column.list.eval(row).list.join("; ")
    return column.list.eval(pl.element().cast(pl.String)).list.join("; ")


def _of_struct(kind: "pl.Struct", column: "pl.Expr") -> "pl.Expr":
    if any(field.name == "content" for field in kind.fields):
        return column.struct.field("content")
    return column.struct.json_encode()


def _score() -> "pl.Expr":
    import polars as pl

    element = pl.element().struct
    return pl.concat_str(
        element.field("scorer"), pl.lit(" "), element.field("value").round(2).cast(pl.String)
    )
