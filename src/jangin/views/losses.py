"""What did not become data: rows by reason, unreadable files, scanned pages and doubtful lines."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path

from jangin.core.parquet import count_rows, numbered_rows, read_columns
from jangin.core.reasons import STORED, Reason
from jangin.core.records import Chunk, Document, Dropped, Example, Query
from jangin.core.store import Artifact
from jangin.documents.flagged import FlaggedPage, flagged_pages
from jangin.documents.load import DoubtfulRow
from jangin.documents.readers.folder import UnreadableFile
from jangin.llm.replies import Failed
from jangin.views.artifacts import Artifacts, Group, count_of, groups_with, rows_of, rows_with_ids

LOST = (
    "unreadable", "unread", "failed", "eliminated", "rejected", "dropped", "dropped_pairs",
)  # fmt: skip
"""Tables of what did not become data, in the order in which it is lost."""
WITHOUT_QUESTIONS = "coverage"
"""Table of all chunks, with the number of examples of each."""
MOST_SHOWN = 3
"""Rows that are shown of each reason."""
VARYING = r"\b[0-9a-f]{16}\b|'[^']*'|\"[^\"]*\"|\d[\d.,]*"
"""What differs between sentences of older versions that give the same reason."""


@dataclass(frozen=True, slots=True)
class LostReason:
    """Rows of a table that were lost for the same reason, figures and quotations aside."""

    rule: str
    """Empty where the table has no rules."""
    reason: Reason
    """Of the first of them."""
    count: int
    first: tuple[int, ...]
    """Numbers of the first rows in their table, from 0; at most `MOST_SHOWN`."""

    @property
    def general(self) -> str:
        """The reason with an ellipsis for each figure and quotation."""
        return self.reason.general if self.reason.key else re.sub(VARYING, "…", self.reason)


@lru_cache(maxsize=64)
def lost_reasons(table: Path, _content: str, zero: str = "") -> tuple[LostReason, ...]:
    """The rows of a table by rule and reason, most frequent first.

    `zero`: only rows with 0 in this column; `_content`: digest of the table's artifact.
    """
    import polars as pl

    columns = ("rule", "reason", *filter(None, [zero]))
    frame = pl.DataFrame(pl.from_arrow(read_columns(table, columns)))
    rule, reason = (
        pl.col(name) if name in frame.columns else pl.lit("").alias(name) for name in columns[:2]
    )
    keys = pl.col("reason").str.extract_all(r'"key":"\w+"').list.join(" ")
    general = (
        pl.when(pl.col("reason").str.starts_with(STORED))
        .then(keys)
        .otherwise(pl.col("reason").str.replace_all(VARYING, "…"))
    )
    groups = (
        frame.with_row_index("number")
        .filter(pl.col(zero) == 0 if zero else pl.lit(value=True))
        .select("number", rule.fill_null(""), reason.fill_null(""))
        .group_by("rule", general.alias("general"))
        .agg(pl.len().alias("count"), pl.col("number").head(MOST_SHOWN), pl.col("reason").first())
        .sort("count", "general", descending=[True, False])
    )
    return tuple(
        LostReason(row["rule"], Reason.read(row["reason"]), row["count"], tuple(row["number"]))
        for row in groups.iter_rows(named=True)
    )


@dataclass(frozen=True, slots=True)
class LostTable:
    """A table of what did not become data, by reason."""

    stage: str
    name: str
    artifact: Artifact
    reasons: tuple[LostReason, ...]

    @property
    def rows(self) -> int:
        """Number of lost rows."""
        return sum(reason.count for reason in self.reasons)

    @property
    def all_rows(self) -> int:
        """Number of rows of the table, of which some may not be lost."""
        return count_rows(self.artifact.path / f"{self.name}.parquet")


def lost_tables(artifacts: Mapping[str, Artifact]) -> Iterator[LostTable]:
    """What every stage of a variant dropped, rejected or could not read; only tables with rows."""
    for stage, artifact in artifacts.items():
        for file in sorted(artifact.manifest.files):
            name = file.removesuffix(".parquet")
            if name in LOST or name == WITHOUT_QUESTIONS:
                yield from filter(lambda table: table.rows, [_lost_table(stage, name, artifact)])


def _lost_table(stage: str, name: str, artifact: Artifact) -> LostTable:
    path, zero = artifact.path / f"{name}.parquet", "rows" if name == WITHOUT_QUESTIONS else ""
    return LostTable(stage, name, artifact, lost_reasons(path, artifact.manifest.content, zero))


@dataclass(frozen=True, slots=True)
class DroppedExamples:
    """The examples that one artifact dropped."""

    group: Group
    read: int
    """Number of examples before any was dropped."""
    reasons: tuple[tuple[LostReason, tuple[tuple[Dropped, Example | None], ...]], ...]
    """(reason, its first rows, each with the example that was kept instead)."""

    @property
    def count(self) -> int:
        """Number of dropped examples."""
        return sum(reason.count for reason, _ in self.reasons)


def dropped(artifacts: Artifacts) -> list[DroppedExamples]:
    """Dropped examples of every artifact that has a table of them, by reason."""
    return [_dropped_examples(group) for group in groups_with(artifacts, "dropped.parquet")]


def _dropped_examples(group: Group) -> DroppedExamples:
    table = _lost_table(group.stage, "dropped", group.artifact)
    path = group.artifact.path / "dropped.parquet"
    shown = [number for reason in table.reasons for number in reason.first]
    rows = dict(zip(sorted(shown), numbered_rows(path, Dropped, shown), strict=True))
    twins = {row.twin for row in rows.values()} - {""}
    kept = {e.id: e for e in rows_with_ids(group.artifact, "examples", Example, twins)}
    return DroppedExamples(
        group,
        count_of(group.artifact, "examples") + table.rows,
        tuple(
            (reason, tuple((rows[n], kept.get(rows[n].twin)) for n in reason.first))
            for reason in table.reasons
        ),
    )


@dataclass(frozen=True, slots=True)
class FailedReplies:
    """Replies of one stage that failed for the same reason."""

    group: Group
    reason: LostReason
    shown: tuple[tuple[str, Failed], ...]
    """(what the reply was about, reply)."""


def failed(artifacts: Artifacts) -> list[FailedReplies]:
    """Failed replies of every stage that has a table of them, the most frequent reason first."""
    replies: list[tuple[Group, LostReason, list[Failed]]] = []
    for group in groups_with(artifacts, "failed.parquet"):
        path = group.artifact.path / "failed.parquet"
        replies += [
            (group, reason, numbered_rows(path, Failed, reason.first))
            for reason in _lost_table(group.stage, "failed", group.artifact).reasons
        ]
    subjects = {row.subject for _, _, rows in replies for row in rows}
    names = _subject_names(artifacts, subjects | {s.partition(" ")[0] for s in subjects})
    return [
        FailedReplies(group, reason, tuple((_named(row.subject, names), row) for row in rows))
        for group, reason, rows in replies
    ]


def _named(subject: str, names: Mapping[str, str]) -> str:
    """What a reader knows a subject by; a judge's is an example's id and the system shown first."""
    row, _, rest = subject.partition(" ")
    return names.get(subject) or " · ".join(filter(None, (names.get(row, row), rest)))


def _subject_names(artifacts: Artifacts, ids: Collection[str]) -> dict[str, str]:
    """{id of a chunk, query or example: its position in the document, or its question}."""
    names = {}
    for group in groups_with(artifacts, "chunks.parquet"):
        for chunk in rows_with_ids(group.artifact, "chunks", Chunk, ids):
            names[chunk.id] = " · ".join(filter(None, (chunk.source, chunk.section)))
    for group in groups_with(artifacts, "queries.parquet"):
        for query in rows_with_ids(group.artifact, "queries", Query, ids):
            names[query.id] = query.text
    for group in groups_with(artifacts, "examples.parquet"):
        for example in rows_with_ids(group.artifact, "examples", Example, ids):
            names[example.id] = example.question
    return names


@dataclass(frozen=True, slots=True)
class Scanned:
    """Pages of one document that were read by OCR for one reason."""

    source: str
    reason: str
    pages: tuple[int, ...]
    confidence: float | None
    """Mean over the pages, 0 to 100."""

    @property
    def ranges(self) -> str:
        """The pages as text, such as `1–3, 7`."""
        return page_ranges(self.pages)


def scanned(artifacts: Artifacts) -> list[Scanned]:
    """OCRed pages by document and reason."""
    confidences: dict[tuple[str, str], dict[int, float | None]] = {}
    for group in groups_with(artifacts, "documents.parquet"):
        for document in rows_of(group.artifact, "documents", Document):
            for page in document.pages:
                if page.method == "ocr":
                    pages = confidences.setdefault((document.source, page.reason), {})
                    pages[page.number] = page.confidence
    rows = []
    for (source, reason), pages in confidences.items():
        known = [value for value in pages.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        rows.append(Scanned(source, reason, tuple(sorted(pages)), mean))
    return rows


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Lines of one page that OCR is not sure of."""

    source: str
    page: int
    lines: tuple[DoubtfulRow, ...]

    @property
    def count(self) -> int:
        """Number of the lines."""
        return len(self.lines)

    @property
    def aside(self) -> int:
        """Those of them that are not part of the text."""
        return sum(not line.is_kept for line in self.lines)


def doubtful(artifacts: Artifacts) -> list[Doubtful]:
    """Doubtful lines by page, the pages with most of them first; variants' shared files once."""
    pages: dict[tuple[str, int], dict[DoubtfulRow, None]] = {}
    for group in groups_with(artifacts, "doubtful.parquet"):
        for row in rows_of(group.artifact, "doubtful", DoubtfulRow):
            pages.setdefault((row.source, row.page), {})[row] = None
    rows = [Doubtful(source, page, tuple(lines)) for (source, page), lines in pages.items()]
    return sorted(rows, key=lambda page: (-len(page.lines), page.source, page.page))


def flagged(artifacts: Artifacts) -> list[FlaggedPage]:
    """Pages whose reading order is doubtful; those of files that variants share once."""
    pages = {
        (page.document_id, page.number): page
        for group in groups_with(artifacts, "documents.parquet")
        for page in flagged_pages(group.artifact.file("documents.parquet"))
    }
    return list(pages.values())


def page_count(artifacts: Artifacts) -> int:
    """Number of pages of all documents; a document that variants share counts once."""
    pages = {
        document.id: len(document.pages)
        for group in groups_with(artifacts, "documents.parquet")
        for document in rows_of(group.artifact, "documents", Document)
    }
    return sum(pages.values())


def page_ranges(pages: Sequence[int]) -> str:
    """Ascending page numbers as text, consecutive ones as a range: `1–3, 7`."""
    if not pages:
        return ""
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(pages)) if b != a + 1), len(pages)]
    runs = [pages[start:end] for start, end in pairwise(breaks)]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def unreadable(artifacts: Artifacts) -> list[UnreadableFile]:
    """Files that could not be read, each once."""
    groups = groups_with(artifacts, "unreadable.parquet")
    rows = (rows_of(group.artifact, "unreadable", UnreadableFile) for group in groups)
    return list(dict.fromkeys(chain.from_iterable(rows)))
