"""A table of an artifact for browsing: filtered, sorted and read page by page.

A large table is written once as an uncompressed Arrow file and mapped into memory: a row in its
middle is then read without decoding all before it, and a filter reads only its columns. The numbers
of the rows that fit a filter, in order, are kept for the filters that were asked for last.
"""

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jangin.core.errors import DataError, StoreError
from jangin.core.parquet import count_rows, part_paths
from jangin.core.store import TABLES, Artifact, disk_errors
from jangin.project.tables import EARLIER, NAMES, SPREAD, is_id
from jangin.serving.pages.preparing import preparing

if TYPE_CHECKING:
    import polars as pl


# Columns of a table as people read them, as expressions over the nested columns of its file.
#
# The same columns as `jangin show` has (`project/tables.py`), which flattens row by row: here
# a million rows are filtered and sorted without becoming Python objects.


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


FOLDER = TABLES
"""Folder in the store of the Arrow files. It may be deleted at any time."""
LARGE = 20_000
"""Rows from which on a table is mapped and not read into memory."""
KEPT_SELECTIONS = 24
"""Filters with their order whose row numbers are kept, 4 MB each for a million rows."""
KEPT_TABLES = 24
MOST_VALUES = 40
"""Most different values of a column that is offered as a choice."""
OPERATORS = ("=", "!=", ">", ">=", "<", "<=")
Rows = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows, in which order."""

    search: str = ""
    """Text that any column has; letter case does not matter."""
    values: tuple[tuple[str, str], ...] = ()
    """(column, exact value)."""
    condition: tuple[str, str, str] | None = None
    """(column, one of `OPERATORS`, value)."""
    sort: str = ""
    """Column; empty for the order of the table."""
    descending: bool = False


@dataclass(frozen=True, slots=True)
class RowsPage:
    """Some rows of a table."""

    rows: tuple[tuple[int, Mapping[str, Any]], ...]
    """(number of the row in the table from 0, {column: value})."""
    first: int
    """Position of the first of them among the rows that fit, from 1."""
    count: int
    """Number of rows that fit."""
    previous: int | None
    """Number of the row that the page before begins with."""
    next: int | None
    """Number of the row that the next page begins with."""


@dataclass(slots=True, eq=False)
class TableFile:
    """An open table; safe to use from several threads."""

    frame: "pl.DataFrame"
    columns: "Mapping[str, pl.Expr]"
    kinds: "Mapping[str, pl.DataType]"
    _selections: "OrderedDict[Query, Rows]" = field(default_factory=OrderedDict)
    _orders: "OrderedDict[str, Rows]" = field(default_factory=OrderedDict)
    _hashes: dict[str, tuple[NDArray[np.uint64], Rows]] = field(default_factory=dict)
    """{column: (hashes of its values in order, numbers of their rows)}, for ids."""
    _choices: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    _texts: dict[str, bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.frame)

    def page(self, query: Query, size: int, start: int | None = None) -> RowsPage:
        """`size` rows from the row of number `start` on, or from the first."""
        rows = self._selected(query)
        count = self.count if rows is None else len(rows)
        at = 0
        if start is not None:
            if rows is None:
                at = min(max(start, 0), max(0, count - 1))
            else:
                at = int(next(iter(np.flatnonzero(rows == start)), 0))
        numbers = range(at, min(at + size, count)) if rows is None else rows[at : at + size]
        shown = [int(number) for number in numbers]

        def number_at(position: int) -> int:
            return position if rows is None else int(rows[position])

        return RowsPage(
            tuple(zip(shown, self.flat_rows(shown), strict=True)),
            at + 1 if shown else 0,
            count,
            number_at(max(0, at - size)) if at else None,
            number_at(at + size) if at + size < count else None,
        )

    def flat_rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Rows by their numbers, as people read them."""
        frame = self._taken(numbers)
        return frame.select(**self.columns).to_dicts() if numbers else []

    def row(self, number: int) -> dict[str, Any]:
        """One row with everything nested in it.

        Raises: DataError: there is no such row.
        """
        if not 0 <= number < self.count:
            raise DataError(f"the table has no row {number + 1:,}; it has {self.count:,}.")
        return self.frame.slice(number, 1).to_dicts()[0]

    def numbers(self, column: str, value: str, most: int = 1000) -> list[int]:
        """Numbers of the first rows that have a value in a column."""
        import polars as pl

        if column not in self.columns:
            return []
        if column not in self._hashes:
            hashes = self._hashed(self.frame.lazy().select(self.columns[column]))
            order = np.argsort(hashes, kind="stable").astype(np.uint32)
            self._hashes[column] = hashes[order], order
        hashes, order = self._hashes[column]
        wanted = self._hashed(pl.LazyFrame({"value": [value]}))[0]
        first, last = np.searchsorted(hashes, [wanted, wanted + np.uint64(1)])
        numbers = sorted(int(number) for number in order[first : min(last, first + most)])
        rows = self._taken(numbers).select(self.columns[column]).to_series()
        return [number for number, known in zip(numbers, rows, strict=True) if known == value]

    @staticmethod
    def _hashed(column: "pl.LazyFrame") -> NDArray[np.uint64]:
        import polars as pl

        return column.select(pl.all().hash()).collect().to_series().to_numpy()

    def choices(self, column: str) -> tuple[tuple[str, int], ...]:
        """(value as text, number of rows) of a column, most frequent first.

        Empty if there are more than `MOST_VALUES` of them, or only one.
        """
        import polars as pl

        if column not in self._choices:
            texts = self.columns[column].cast(pl.String).alias("value")  # as a query compares them
            counts = self.frame.lazy().select(texts).collect()
            table = counts.to_series().value_counts(sort=True).rows()
            few = 1 < len(table) <= MOST_VALUES
            self._choices[column] = tuple((v or "", n) for v, n in table) if few else ()
        return self._choices[column]

    def has_text(self, column: str) -> bool:
        """True if a row has a text in a column."""
        if column not in self._texts:
            self._texts[column] = bool(self._evaluated(self.columns[column] != "").any())
        return self._texts[column]

    def selected(self, query: Query) -> Rows:
        """Numbers of the rows that fit, in order."""
        rows = self._selected(query)
        return self._natural() if rows is None else rows

    def _taken(self, numbers: Sequence[int]) -> "pl.DataFrame":
        # A gather over a mapped file copies whole columns first; slices do not.
        import polars as pl

        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][0] + runs[-1][1]:
                runs[-1][1] += 1
            else:
                runs.append([number, 1])
        return pl.concat([self.frame.slice(*run) for run in runs] or [self.frame.slice(0, 0)])

    def _selected(self, query: Query) -> Rows | None:
        """Numbers of the rows that fit, in order; None for all rows as they are."""
        if query == Query():
            return None
        with self._lock:
            known = self._selections.get(query)
            if known is not None:
                self._selections.move_to_end(query)
                return known
        with preparing("pages_preparing_rows"):
            rows = self._select(query)
        with self._lock:
            self._selections[query] = rows
            while len(self._selections) > KEPT_SELECTIONS:
                self._selections.popitem(last=False)
        return rows

    def _select(self, query: Query) -> Rows:
        import polars as pl

        conditions = list(self._conditions(query))
        fits = self._evaluated(pl.all_horizontal(conditions)) if conditions else None
        if not query.sort:
            return np.flatnonzero(fits).astype(np.uint32) if fits is not None else self._natural()
        order = self._order(query.sort)
        if query.descending:
            order = order[::-1]
        return order[fits[order]] if fits is not None else order

    def _natural(self) -> Rows:
        return np.arange(self.count, dtype=np.uint32)

    def _order(self, column: str) -> Rows:
        with self._lock:
            known = self._orders.get(column)
        if known is None:
            expression = self.columns.get(column)
            if expression is None:
                raise DataError(f"the table has no column {column!r}.")
            series = self.frame.lazy().select(expression).collect().to_series()
            known = series.arg_sort(nulls_last=True).to_numpy().astype(np.uint32)
            with self._lock:
                self._orders[column] = known
                while len(self._orders) > KEPT_SELECTIONS // 4:
                    self._orders.popitem(last=False)
        return known

    def _conditions(self, query: Query) -> "list[pl.Expr]":
        import polars as pl

        conditions = [self._column(name).cast(pl.String) == value for name, value in query.values]
        if query.search:
            texts = [
                contains(column, query.search)
                for name, column in self.columns.items()
                if self.kinds[name] == pl.String and not is_id(name)
            ]
            conditions.append(pl.any_horizontal(texts) if texts else pl.lit(value=False))
        if query.condition is not None:
            conditions.append(self._compared(*query.condition))
        return [condition.fill_null(value=False) for condition in conditions]

    def _column(self, name: str) -> "pl.Expr":
        if name not in self.columns:
            raise DataError(f"the table has no column {name!r}.")
        return self.columns[name]

    def _compared(self, name: str, operator: str, value: str) -> "pl.Expr":
        column = self._column(name)
        other: str | float = value
        if self.kinds[name].is_numeric():
            try:
                other = float(value)
            except ValueError as error:
                raise DataError(f"{name} holds numbers, and {value!r} is none.") from error
        compared = {
            "=": column == other,
            "!=": column != other,
            ">": column > other,
            ">=": column >= other,
            "<": column < other,
            "<=": column <= other,
        }
        if operator not in compared:
            raise DataError(f"{operator!r} compares nothing. Use one of {' '.join(OPERATORS)}.")
        return compared[operator]

    def _evaluated(self, condition: "pl.Expr") -> NDArray[np.bool_]:
        frame = self.frame.lazy().select(condition.alias("fits")).collect()
        return frame.to_series().fill_null(value=False).to_numpy()


def contains(column: "pl.Expr", text: str) -> "pl.Expr":
    """True where a column has a text, in any letter case."""
    if text.isascii() and any(character.isalpha() for character in text):
        return column.str.contains(f"(?i){re.escape(text)}")
    return column.str.contains(text, literal=True)


_OPENING = threading.Lock()


def open_table(artifact: Artifact, name: str) -> TableFile:
    """A table of an artifact; raises `DataError` if there is none, `StoreError` for a full disk."""
    path = artifact.path / f"{name}.parquet"
    if "/" in name or f"{name}.parquet" not in artifact.manifest.files:
        raise DataError(f"{artifact.manifest.stage} has written no table {name!r}.")
    with preparing("pages_preparing_table"), _OPENING:
        return _open(path, artifact.manifest.content)


@lru_cache(maxsize=KEPT_TABLES)
def _open(path: Path, content: str) -> TableFile:
    import polars as pl

    if count_rows(path) < LARGE:
        frame = pl.read_parquet(part_paths(path))
    else:
        mapped = pa.ipc.open_file(pa.memory_map(str(_arrow_file(path, content)))).read_all()
        read = pl.from_arrow(mapped)
        if not isinstance(read, pl.DataFrame):
            raise StoreError(f"{path} holds no table.")
        frame = read
    columns = flat_columns(frame.schema)
    kinds = dict(frame.slice(0, 0).select(**columns).schema)
    return TableFile(frame, columns, kinds)


def _arrow_file(path: Path, content: str) -> Path:
    """The table as an Arrow file beside the artifacts, written if it is not there yet."""
    import polars as pl

    stage, key, store = path.parent.parent.name, path.parent.name, path.parent.parent.parent
    folder = store / FOLDER
    arrow = folder / f"{stage}.{key}.{content[:16]}.{path.stem}.arrow"
    if arrow.exists():
        return arrow
    with disk_errors(arrow):
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.arrow"):
            if not (store / Path(*old.name.split(".")[:2])).is_dir():
                old.unlink(missing_ok=True)  # its artifact is gone
        partial = arrow.with_suffix(f".{secrets.token_hex(4)}")
        try:
            pl.scan_parquet(part_paths(path)).sink_ipc(
                partial, compression="uncompressed", compat_level=pl.CompatLevel.newest()
            )
            partial.rename(arrow)
        finally:
            partial.unlink(missing_ok=True)
    return arrow


@lru_cache(maxsize=1024)
def row_count(path: Path, _content: str) -> int:
    """Number of rows of a table, from its footer."""
    return count_rows(path)
