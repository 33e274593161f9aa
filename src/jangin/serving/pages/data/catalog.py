"""What data there is of a variant: its tables by stage, and what was dropped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jangin.core.reasons import STORED
from jangin.core.store import Artifact
from jangin.project.tables import EARLIER, KIND_COLUMNS, is_id
from jangin.serving.pages.data.table_file import TableFile, open_table, row_count

if TYPE_CHECKING:
    import polars as pl

LOST = (
    "unreadable", "unread", "failed", "eliminated", "rejected", "dropped", "dropped_pairs",
)  # fmt: skip
"""Tables of what did not become data, in the order in which it is lost."""
VARYING = r"\b[0-9a-f]{16}\b|'[^']*'|\"[^\"]*\"|\d[\d.,]*"
"""What differs between reasons that are the same; polars knows no lookbehind."""
NAMING = ("question", "text", "reply", "source", "subject")
"""Columns that people know a lost row by, the best first."""
WITHOUT_QUESTIONS = "coverage"
"""Table of all chunks, with the number of examples of each."""
MOST_REASONS = 12
SHOWN = 3


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table of a stage."""

    stage: str
    name: str
    rows: int
    artifact: Artifact


def tables_of(artifacts: Mapping[str, Artifact]) -> list[TableEntry]:
    """The tables of a variant in the order in which data flows."""
    return [
        TableEntry(stage, name.removesuffix(".parquet"), _count(artifact, name), artifact)
        for stage, artifact in artifacts.items()
        for name in sorted(artifact.manifest.files)
        if name.endswith(".parquet") and "/" not in name
    ]


def _count(artifact: Artifact, name: str) -> int:
    return row_count(artifact.path / name, artifact.manifest.content)


def newest(artifacts: Mapping[str, Artifact], table: str) -> Artifact | None:
    """The artifact of the last stage that wrote a table of this name."""
    name = f"{table}.parquet"
    return next((a for a in reversed([*artifacts.values()]) if name in a.manifest.files), None)


def shown_columns(table: str, file: TableFile) -> list[str]:
    """The columns that people read, in order."""
    known = [name for name in KIND_COLUMNS.get(table, ()) if name in file.columns]
    if EARLIER in known and not file.has_text(EARLIER):
        known.remove(EARLIER)
    return known or [name for name in file.columns if not is_id(name)] or [*file.columns]


@dataclass(frozen=True, slots=True)
class LostRow:
    """One row that was lost."""

    number: int
    """In its table, from 0."""
    name: str
    """Its question, file or reply."""
    answer: str
    reason: str


@dataclass(frozen=True, slots=True)
class LostReason:
    """Rows that were lost for the same reason, figures and quotations aside."""

    rule: str
    reason: str
    """Of the first of them."""
    count: int
    samples: tuple["LostRow", ...]
    """The first of them."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A table of what did not become data, by reason."""

    table: TableEntry
    reasons: tuple[LostReason, ...]
    """Most frequent first."""
    others: int
    """Rows of further reasons."""
    rows: int
    """Number of lost rows."""


def lost(artifacts: Mapping[str, Artifact]) -> Iterator[Lost]:
    """What every stage of a variant dropped, rejected or could not read."""
    for entry in tables_of(artifacts):
        if entry.name in LOST and entry.rows:
            yield _by_reason(entry)
        if entry.name == WITHOUT_QUESTIONS:
            unasked = _by_reason(entry, "rows")
            if unasked.rows:
                yield unasked


def _lost_row(number: int, row: Mapping[str, object]) -> LostRow:
    texts = [str(row.get(name) or "") for name in NAMING]
    name = next((text for text in texts if text.strip()), "")
    if "chunk_id" in row and row.get("section"):
        name = f"{name} · {row['section']}"
    answer = str(row.get("answer") or row.get("rejected") or "")
    return LostRow(number, name, answer, str(row.get("reason") or ""))


def _general(reason: "pl.Expr") -> "pl.Expr":
    """The keys of a reason; of a sentence of an older version what does not vary."""
    import polars as pl

    keys = reason.str.extract_all(r'"key":"\w+"').list.join(" ")
    return (
        pl.when(reason.str.starts_with(STORED))
        .then(keys)
        .otherwise(reason.str.replace_all(VARYING, "…"))
    )


def _by_reason(entry: TableEntry, zero: str = "") -> Lost:
    """The rows of a table by reason; with `zero` only those with 0 in that column."""
    import polars as pl

    file = open_table(entry.artifact, entry.name)
    columns = file.columns
    rule = columns["rule"] if "rule" in columns else pl.lit("")
    reason = columns["reason"] if "reason" in columns else pl.lit("")
    kept = file.columns[zero] == 0 if zero else pl.lit(value=True)
    groups = (
        file.frame.lazy()
        .select(rule.alias("rule"), reason.alias("reason"), kept.alias("kept"))
        .with_row_index("number")
        .filter("kept")
        .with_columns(general=_general(pl.col("reason")))
        .group_by("rule", "general")
        .agg(pl.len().alias("count"), pl.col("number").head(SHOWN), pl.col("reason").first())
        .sort("count", "general", descending=[True, False])
        .collect()
    )
    reasons = tuple(
        LostReason(
            row["rule"],
            row["reason"],
            row["count"],
            tuple(map(_lost_row, row["number"], file.flat_rows(row["number"]))),
        )
        for row in groups.head(MOST_REASONS).iter_rows(named=True)
    )
    rows = int(groups["count"].sum())
    return Lost(entry, reasons, rows - sum(reason.count for reason in reasons), rows)
