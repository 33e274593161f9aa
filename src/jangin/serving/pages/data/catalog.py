"""What data there is of a variant: its tables by stage, and what was lost."""

from collections.abc import Mapping
from dataclasses import dataclass

from jangin.core.store import Artifact
from jangin.project.tables import EARLIER, KIND_COLUMNS, is_id
from jangin.serving.pages.data.table_file import TableFile, open_table, row_count
from jangin.views.losses import LostReason, LostTable

NAMING = ("question", "text", "reply", "source", "subject")
"""Columns that people know a lost row by, the best first."""


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


def lost_rows(table: LostTable, reason: LostReason) -> list[LostRow]:
    """The first rows that a table lost for a reason, as people know them."""
    file = open_table(table.artifact, table.name)
    return list(map(_lost_row, reason.first, file.flat_rows(reason.first)))


def _lost_row(number: int, row: Mapping[str, object]) -> LostRow:
    texts = [str(row.get(name) or "") for name in NAMING]
    name = next((text for text in texts if text.strip()), "")
    if "chunk_id" in row and row.get("section"):
        name = f"{name} · {row['section']}"
    answer = str(row.get("answer") or row.get("rejected") or "")
    return LostRow(number, name, answer, str(row.get("reason") or ""))
