"""What was left out on the way, and why: dropped examples, failed replies, files, scanned pages."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from jangin.core.records import Chunk, Document, Dropped, Example
from jangin.documents.load import UnreadableFile
from jangin.llm.structured import Failed
from jangin.report.data.artifacts import Group, Made, groups_of, rows_of

MOST_SHOWN = 3
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class Loss:
    """One dropped example and the one that stayed in its place."""

    example: Example
    reason: str
    twin: Example | None


@dataclass(frozen=True, slots=True)
class RuleLosses:
    """What one rule took, and the first of it."""

    rule: str
    count: int
    shown: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class DroppedBy:
    """What curation took from some variants."""

    variants: tuple[str, ...]
    read: int
    rules: tuple[RuleLosses, ...]

    @property
    def count(self) -> int:
        """All that was dropped."""
        return sum(rule.count for rule in self.rules)


def dropped(made: Made) -> list[DroppedBy]:
    """Dropped examples by rule, the rules in the order in which they are first met."""
    return [_dropped_by(group) for group in groups_of(made, "curate")]


def _dropped_by(group: Group) -> DroppedBy:
    kept = rows_of(group.artifact, "examples", Example)
    by_id = {example.id: example for example in kept}
    rows = rows_of(group.artifact, "dropped", Dropped)
    counts = Counter(row.rule for row in rows)
    rules = []
    for rule, count in counts.most_common():
        shown = [
            Loss(row.example, row.reason, by_id.get(row.twin)) for row in rows if row.rule == rule
        ][:MOST_SHOWN]
        rules.append(RuleLosses(rule, count, tuple(shown)))
    return DroppedBy(group.variants, len(kept) + len(rows), tuple(rules))


@dataclass(frozen=True, slots=True)
class FailedReply:
    """One reply, and where the chunk or question stands that it was about."""

    reason: str
    reply: str
    subject: str


@dataclass(frozen=True, slots=True)
class FailedReason:
    """Replies of one stage that failed for the same kind of reason."""

    stage: str
    variants: tuple[str, ...]
    reason: str
    """With figures and quotations left out."""
    count: int
    shown: tuple[FailedReply, ...]


def failed(made: Made) -> list[FailedReason]:
    """Failed replies by stage and kind of reason, the most frequent first."""
    subjects = _subjects(made)
    found = []
    for stage in ("synthesize", "evolve", "paraphrase", "judge"):
        for group in groups_of(made, stage):
            rows = rows_of(group.artifact, "failed", Failed)
            kinds = Counter(_kind(row.reason) for row in rows)
            for kind, count in kinds.most_common():
                shown = tuple(
                    FailedReply(row.reason, row.reply, subjects.get(row.subject, row.subject))
                    for row in rows
                    if _kind(row.reason) == kind
                )
                found.append(FailedReason(stage, group.variants, kind, count, shown[:MOST_SHOWN]))
    return found


def _kind(reason: str) -> str:
    return _VARYING.sub("…", reason)


def _subjects(made: Made) -> dict[str, str]:
    """{id of a chunk or example: what a reader knows it by}."""
    found = {}
    for group in groups_of(made, "chunk"):
        for chunk in rows_of(group.artifact, "chunks", Chunk):
            found[chunk.id] = " · ".join(filter(None, (chunk.source, chunk.section)))
    for group in groups_of(made, "synthesize"):
        for example in rows_of(group.artifact, "examples", Example):
            found[example.id] = example.question
    return found


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
        """Such as `1–3, 7`."""
        return page_ranges(self.pages)


def scanned(made: Made) -> list[Scanned]:
    """OCRed pages by document and reason."""
    found: dict[tuple[str, str], dict[int, float | None]] = {}
    for group in groups_of(made, "load"):
        for document in rows_of(group.artifact, "documents", Document):
            for page in document.pages:
                if page.method == "ocr":
                    pages = found.setdefault((document.source, page.reason), {})
                    pages[page.number] = page.confidence
    rows = []
    for (source, reason), pages in found.items():
        known = [value for value in pages.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        rows.append(Scanned(source, reason, tuple(sorted(pages)), mean))
    return rows


def page_count(made: Made) -> int:
    """Pages of all documents; a document that variants share counts once."""
    pages = {
        document.id: len(document.pages)
        for group in groups_of(made, "load")
        for document in rows_of(group.artifact, "documents", Document)
    }
    return sum(pages.values())


def page_ranges(pages: Sequence[int]) -> str:
    """Ascending numbers with runs drawn together: `1–3, 7`."""
    if not pages:
        return ""
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(pages)) if b != a + 1), len(pages)]
    runs = [pages[start:end] for start, end in pairwise(breaks)]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def unreadable(made: Made) -> list[UnreadableFile]:
    """Files that could not be read, each once."""
    rows = (rows_of(g.artifact, "unreadable", UnreadableFile) for g in groups_of(made, "load"))
    return list(dict.fromkeys(chain.from_iterable(rows)))
