"""Dropped examples, failed replies, unreadable files and scanned pages, each with its reason."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from jangin.core.reasons import Reason
from jangin.core.records import Chunk, Document, Dropped, Example, Query
from jangin.documents.flagged import FlaggedPage, flagged_pages
from jangin.documents.load import DoubtfulRow
from jangin.documents.readers.folder import UnreadableFile
from jangin.llm.replies import Failed
from jangin.views.artifacts import (
    Artifacts,
    Group,
    count_of,
    groups_with,
    rows_of,
    rows_with_ids,
)

MOST_SHOWN = 3
_VARYING = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class DroppedExample:
    """One dropped example and the one that was kept instead."""

    example: Example
    reason: str
    twin: Example | None


@dataclass(frozen=True, slots=True)
class DroppedByRule:
    """Number of examples that one rule dropped, and the first of them."""

    rule: str
    count: int
    shown: tuple[DroppedExample, ...]


@dataclass(frozen=True, slots=True)
class DroppedExamples:
    """The examples that one artifact dropped."""

    stage: str
    variants: tuple[str, ...]
    read: int
    """Number of examples before any was dropped."""
    rules: tuple[DroppedByRule, ...]

    @property
    def count(self) -> int:
        """Number of dropped examples."""
        return sum(rule.count for rule in self.rules)


def dropped(artifacts: Artifacts) -> list[DroppedExamples]:
    """Dropped examples of every artifact that has a table of them, by rule."""
    return [_dropped_examples(group) for group in groups_with(artifacts, "dropped.parquet")]


def _dropped_examples(group: Group) -> DroppedExamples:
    rows = rows_of(group.artifact, "dropped", Dropped)
    by_rule: dict[str, list[Dropped]] = {}
    for row in rows:
        by_rule.setdefault(row.rule, []).append(row)
    twins = {row.twin for ruled in by_rule.values() for row in ruled[:MOST_SHOWN]}
    kept = rows_with_ids(group.artifact, "examples", Example, twins - {""})
    by_id = {example.id: example for example in kept}
    rules = [
        DroppedByRule(
            rule,
            len(ruled),
            tuple(
                DroppedExample(row.example, row.reason, by_id.get(row.twin))
                for row in ruled[:MOST_SHOWN]
            ),
        )
        for rule, ruled in sorted(by_rule.items(), key=lambda item: -len(item[1]))
    ]
    read = count_of(group.artifact, "examples") + len(rows)
    return DroppedExamples(group.stage, group.variants, read, tuple(rules))


@dataclass(frozen=True, slots=True)
class FailedReply:
    """One failed reply, and the chunk or question that it was about."""

    reason: str
    reply: str
    subject: str


@dataclass(frozen=True, slots=True)
class FailedReason:
    """Replies of one stage that failed for the same reason, figures and quotations aside."""

    stage: str
    variants: tuple[str, ...]
    reason: str
    """Figures and quotations are replaced by an ellipsis."""
    count: int
    shown: tuple[FailedReply, ...]


def failed(artifacts: Artifacts) -> list[FailedReason]:
    """Failed replies of every stage that has a table of them, the most frequent reason first."""
    groups: list[tuple[Group, str, list[Failed]]] = []
    for group in groups_with(artifacts, "failed.parquet"):
        by_reason: dict[str, list[Failed]] = {}
        for row in rows_of(group.artifact, "failed", Failed):
            by_reason.setdefault(_general(row.reason), []).append(row)
        ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
        groups += [(group, reason, rows) for reason, rows in ordered]
    subjects = {row.subject for _, _, rows in groups for row in rows[:MOST_SHOWN]}
    names = _subject_names(artifacts, subjects | {s.partition(" ")[0] for s in subjects})
    return [
        FailedReason(
            group.stage,
            group.variants,
            reason,
            len(rows),
            tuple(
                FailedReply(row.reason, row.reply, _named(row.subject, names))
                for row in rows[:MOST_SHOWN]
            ),
        )
        for group, reason, rows in groups
    ]


def _general(reason: Reason) -> str:
    return reason.general if reason.key else _VARYING.sub("…", reason)


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
