"""What the page of a table shows: rows, heads that sort, choices, and addresses of other pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jangin.core.store import Artifact
from jangin.project.stages import STAGES
from jangin.report.data_page import DataView, describe_texts
from jangin.report.i18n.translate import Words, cell_text, column_name, value_text
from jangin.serving.pages.data.catalog import newest, shown_columns
from jangin.serving.pages.data.room import DataRoom
from jangin.serving.pages.data.table_file import OPERATORS, Query, TableFile, open_table
from jangin.serving.pages.preparing import preparing

PAGE_SIZE = 50
CHOICES = (
    "split", "kind", "rule", "doubt", "origin", "operation", "source", "language", "engine",
    "teacher", "evidence_set", "system", "right",
)  # fmt: skip
"""Columns that are offered as a choice, where they have few values."""
MOST_CHOICES = 4
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Which rows of a table, in which order, from which row on: the query of its address."""

    search: str = ""
    column: str = ""
    """Of the condition, with `operator` and `value`."""
    operator: str = ""
    value: str = ""
    sort: str = ""
    descending: bool = False
    every: bool = False
    """All columns are shown."""
    start: int | None = None


def table_view(
    words: Words,
    room: DataRoom,
    path: str,
    file: TableFile,
    given: TableRequest,
    parameters: Mapping[str, str],
) -> dict[str, Any]:
    """The names of the template `data/table.html.jinja`.

    `path`: of the table in the room. `parameters`: the whole query, for the choices `is_COLUMN`.
    """
    choices = _choices(file)
    picked = {n: parameters[f"is_{n}"] for n in choices if parameters.get(f"is_{n}")}
    condition = (given.column, given.operator or "=", given.value)
    query = Query(
        search=given.search.strip(),
        values=tuple(picked.items()),
        condition=condition if given.column and given.value else None,
        sort=given.sort,
        descending=given.descending,
    )
    page = file.page(query, PAGE_SIZE, given.start)
    columns = [*file.columns] if given.every else shown_columns(path.rpartition("/")[2], file)
    fields: dict[str, Any] = {
        "search": given.search,
        **{f"is_{name}": value for name, value in picked.items()},
        "every": int(given.every) or "",
    }
    if query.condition:
        fields |= dict(zip(("column", "operator", "value"), query.condition, strict=True))
    order = {"sort": given.sort, "descending": int(given.descending) or ""}

    def turned(start: int | None) -> str:
        return "" if start is None else room.address(path, **fields, **order, start=str(start))

    return {
        "total": file.count,
        "page": page,
        "heads": [_head(words, room, path, file, query, fields, name) for name in columns],
        "rows": [
            (number, [cell_text(words, name, row[name]) for name in columns])
            for number, row in page.rows
        ],
        "choices": {
            name: [(v, value_text(words, name, _BOOLEANS.get(v, v)), count) for v, count in options]
            for name, options in choices.items()
        },
        "picked": picked,
        "fields": fields,
        "every_column": [(name, column_name(words, name)) for name in file.columns],
        "operators": OPERATORS,
        "query": query,
        "previous": turned(page.previous),
        "next": turned(page.next),
        "other_columns": room.address(
            path, **{**fields, **order, "every": "" if given.every else 1}
        ),
        "bare": room.address(path),
    }


def _head(
    words: Words,
    room: DataRoom,
    path: str,
    file: TableFile,
    query: Query,
    fields: Mapping[str, Any],
    name: str,
) -> tuple[str, str, str, bool]:
    """(column, what it is called, address that sorts by it, whether it holds numbers)."""
    down = int(query.sort == name and not query.descending) or ""
    address = room.address(path, **fields, sort=name, descending=down)
    return name, column_name(words, name), address, file.kinds[name].is_numeric()


def _choices(file: TableFile) -> dict[str, tuple[tuple[str, int], ...]]:
    """{column: its values with their numbers of rows} of the columns that are offered."""
    named = [name for name in CHOICES if name in file.columns]
    with preparing("pages_preparing_rows"):
        options = {name: file.choices(name) for name in named if not file.kinds[name].is_numeric()}
    shown = [name for name, values in options.items() if values][:MOST_CHOICES]
    return {name: options[name] for name in shown}


# Distributions of a variant's examples, as `jangin show data` has them, for any number of rows.


MOST_DESCRIBED = 50_000
"""Rows that are described; of more, this many at equal steps."""


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a variant's examples."""

    data: DataView
    rows: int
    """Number of all rows."""

    @property
    def is_sample(self) -> bool:
        """True if not all rows were looked at."""
        return self.data.description.rows < self.rows


def described(variant: str, artifacts: Mapping[str, Artifact]) -> Described | None:
    """The newest examples of a variant, or its splits where it has any; None without any row."""
    for name in ("splits", "examples"):
        artifact = newest(artifacts, name)
        if artifact is not None:
            bases = [s.name for s in STAGES if "base" in s.makes and s.name in artifacts]
            base = artifacts[bases[-1]].path if bases else None
            file = open_table(artifact, name)
            with preparing("pages_preparing_distributions"):
                return _described(variant, file, base) if file.count else None
    return None


@lru_cache(maxsize=8)
def _described(variant: str, file: TableFile, base: Path | None) -> Described:
    """Kept by the open table, which is that of one artifact's content."""
    step = -(-file.count // MOST_DESCRIBED)
    texts = file.columns["question"].alias("question"), file.columns["answer"].alias("answer")
    frame = file.frame.lazy().gather_every(step).select(*texts).collect()
    splits: dict[str, int] = {}
    if "split" in file.columns:
        column = file.frame.lazy().select(file.columns["split"]).collect().to_series()
        counts = dict(column.value_counts().rows())
        first = ("train", "validation")
        splits = {n: counts[n] for n in sorted(counts, key=lambda n: (n not in first, n))}
    questions = frame["question"].fill_null("").to_list()
    view = describe_texts(variant, questions, frame["answer"].fill_null("").to_list(), splits, base)
    return Described(view, file.count)
