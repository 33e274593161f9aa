"""What the page of one row shows, made of the row, its review and its source."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from jangin.core.records import Score
from jangin.examples.reviews.agreement import find_disagreement
from jangin.examples.reviews.index import ReviewIndex
from jangin.examples.reviews.log import REASONS, Review, Wording
from jangin.examples.reviews.queue import QueueItem, Suspicion
from jangin.examples.reviews.queue_columns import QueueFilter
from jangin.report.i18n.translate import Words
from jangin.text.grounding import locate

LONG_PASSAGE = 6000
"""Characters of a passage from which on only the part around the evidence is shown."""


@dataclass(frozen=True, slots=True)
class PassagePart:
    """A piece of a passage; marked where it is the evidence."""

    text: str
    marked: bool


@dataclass(frozen=True, slots=True)
class Relative:
    """A row that this one was made from, or that was made from it."""

    relation: str
    """`parent` or `child`."""
    kind: str
    operation: str
    id: str
    question: str


@dataclass(frozen=True, slots=True)
class RowScreen:
    """One row as its page shows it."""

    item: QueueItem
    position: int
    token: str
    wording: Wording
    """Texts of the form: those that the reviewer typed, else those as they are now."""
    parts: tuple[PassagePart, ...]
    why: tuple[str, ...]
    scores: tuple[Score, ...]
    relatives: tuple[Relative, ...]
    holders: tuple[str, ...]
    """Other reviewers who look at it now."""
    hidden: bool
    """True for a row that two decide on, before this reviewer has."""
    contested: bool

    @property
    def review(self) -> Review | None:
        """What the reviewer may see of the decisions."""
        return self.item.review

    @property
    def passage_is_gone(self) -> bool:
        """True where the row was made from a passage that the project does not have any more."""
        return bool(self.item.example.chunk_ids) and not self.item.passage

    @property
    def edited(self) -> bool:
        """True if the texts as they are now are not the original ones."""
        return self.item.wording != self.item.original


def make_screen(
    index: ReviewIndex,
    row: str,
    by: str,
    words: Words,
    holders: Sequence[str],
    typed: Wording | None = None,
) -> RowScreen:
    """The screen of a row; raises `DataError` where the queue does not have it."""
    item = index.item(row, by)
    position = index.position(row) or 0
    entry = index.entries[position]
    disagreement = find_disagreement(item.review) if item.review is not None else None
    wording = typed or item.wording
    return RowScreen(
        item,
        position,
        index.token(position, by),
        wording,
        passage_parts(item.passage, item.wording.evidence),
        tuple(said_reason(signal, words) for signal in item.signals),
        tuple(score for score in item.example.scores if score.kind != "human"),
        _relatives(index, item),
        tuple(name for name in holders if name != by),
        entry.double and index.is_open(position, by),
        disagreement is not None and disagreement.settled is None,
    )


def said_reason(signal: Suspicion, words: Words) -> str:
    """A reason as a sentence; what a judge wrote as its own reason is translated as stored ones."""
    values = {name: words.reason(value) for name, value in signal.values.items()}
    return replace(signal, values=values).said(words.language)


def passage_parts(passage: str, evidence: str) -> tuple[PassagePart, ...]:
    """The passage with the evidence marked; of a long one what is around the evidence."""
    span = locate(evidence, passage) if evidence and passage else None
    start, end = span or (0, 0)
    first = max(0, start - LONG_PASSAGE // 2) if len(passage) > LONG_PASSAGE else 0
    last = min(len(passage), max(first + LONG_PASSAGE, end))
    parts = (
        PassagePart("…" * (first > 0) + passage[first:start], marked=False),
        PassagePart(passage[start:end], marked=True),
        PassagePart(passage[max(end, first) : last] + "…" * (last < len(passage)), marked=False),
    )
    return tuple(part for part in parts if part.text)


def _relatives(index: ReviewIndex, item: QueueItem) -> tuple[Relative, ...]:
    """The parent and up to five children; the queue has most of them."""
    row, relatives = item.example, []
    parent = index.position(row.parent) if row.parent else None
    if row.parent:
        question = index.entries[parent].question if parent is not None else ""
        kind = "pair" if item.pair is not None else row.kind
        relatives.append(Relative("parent", kind, row.operation, row.parent, question))
    for position in index.children(row.id)[:5]:
        entry = index.entries[position]
        relatives.append(Relative("child", entry.kind, "", entry.id, entry.question))
    return tuple(relatives)


def query_of(shown: QueueFilter, variant: str, **more: Any) -> str:
    """The filter as the query of an address; empty values are left out."""
    values = {
        "state": shown.state if shown.state != "open" else "",
        "kind": shown.kind,
        "source": shown.source,
        "signal": shown.signal,
        "words": shown.words,
        "variant": variant,
        **more,
    }
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})


REASON_LETTERS = dict(zip(REASONS, "wnctdp", strict=True))
"""{reason: its key while the reasons are open}; digits are ratings."""
REASON_KEYS = tuple((reason, f"review_reason_{reason}") for reason in REASONS)
"""(reason in the log, key of its name)."""
