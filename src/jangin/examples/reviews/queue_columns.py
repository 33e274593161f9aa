"""A review queue of 50,000 rows in little memory, and its filters, which take a millisecond."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jangin.examples.reviews.agreement import (
    is_contested,
    latest_verdicts,
    wants_second,
)
from jangin.examples.reviews.log import VERDICTS, Review
from jangin.examples.reviews.queue import QueueItem
from jangin.text.normalize import fold_case

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

State = Literal["open", "accepted", "edited", "rejected", "flagged", "rated", "contested", "all"]
Kind = Literal["", "original", "evolved", "paraphrase", "pair"]
"""Empty: all but paraphrases, whose answers are those of their questions."""
CODES = {verdict: code for code, verdict in enumerate(VERDICTS, 1)}
_OF_STATE: Mapping[str, int] = {"accepted": 1, "edited": 2, "rejected": 3}


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which rows of the queue to show."""

    state: State = "open"
    kind: Kind = ""
    source: str = ""
    signal: str = ""
    words: str = ""


SHOWN_TURNS = 300
"""Characters of earlier turns that a list of rows shows."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """What is kept of one row of the queue to list it."""

    id: str
    kind: Kind
    source: str
    section: str
    earlier: str
    """Beginning of what was said before the question; empty for one turn."""
    question: str
    answer: str
    signals: tuple[str, ...]
    suspicion: float
    key: tuple[str, ...]
    """The texts by which a decision matches where ids have changed."""
    chunks: tuple[str, ...]
    parent: str
    """Id of the row that it was made from; empty without one."""
    double: bool
    """True for a row that two reviewers decide on."""


def make_entry(item: QueueItem, share: float, seed: int = 0) -> QueueEntry:
    """The stored fields of an item; `share` of all rows is reviewed twice."""
    row, texts = item.example, item.original
    return QueueEntry(
        row.id,
        "pair" if item.pair is not None else row.kind,
        row.source,
        row.section,
        row.earlier_turns[:SHOWN_TURNS],
        texts.question,
        texts.answer,
        tuple(signal.signal for signal in item.signals),
        item.suspicion,
        texts.key,
        row.chunk_ids,
        row.parent,
        wants_second(row.id, share, seed),
    )


class QueueColumns:
    """Columns of the N rows of a queue."""

    def __init__(self, entries: Sequence[QueueEntry], passages: Mapping[str, str]) -> None:
        """`passages` are {id of a chunk: text}."""
        import polars as pl

        self.double = np.array([entry.double for entry in entries], np.bool_)
        self.verdict = np.zeros(len(entries), np.int8)
        """Code of accept, edit, reject; 0 for none."""
        self.flagged, self.rated, self.contested = (
            np.zeros(len(entries), np.bool_) for _ in range(3)
        )
        self._kinds, self._kind_codes = _codes([entry.kind for entry in entries])
        self._sources, self._source_codes = _codes([entry.source for entry in entries])
        names = {name for entry in entries for name in entry.signals}
        self._signals = {
            name: np.array([name in entry.signals for entry in entries], np.bool_) for name in names
        }
        texts = ("\n".join((e.earlier, e.question, e.answer, e.section, e.source)) for e in entries)
        self._texts = pl.Series("text", [fold_case(text) for text in texts], pl.String)
        self._passages = pl.Series("text", map(fold_case, passages.values()), pl.String)
        number = {name: n for n, name in enumerate(passages)}
        pairs = [(n, number[c]) for n, e in enumerate(entries) for c in e.chunks if c in number]
        self._rows, self._chunks = np.array(pairs, np.int64).reshape(-1, 2).T
        self._sole = np.zeros(len(entries), np.int32)
        """Code of the only reviewer so far of a row that two decide on; 0 for all other rows."""
        self._deciders = np.zeros(len(entries), np.int32)
        """Code of the reviewer whose verdict counts; 0 for none."""
        self._reviewers: dict[str, int] = {}
        self._searched: tuple[str, Flags | None] = ("", None)

    def set_review(self, position: int, review: Review | None) -> None:
        """Take in what people decided about a row; None for nothing."""
        verdict = review.verdict if review is not None else None
        self.verdict[position] = CODES[verdict.decision] if verdict is not None else 0
        self.flagged[position] = review is not None and bool(review.flag)
        self.rated[position] = review is not None and review.score is not None
        self.contested[position] = review is not None and is_contested(review)
        self._deciders[position] = self._code(verdict.by) if verdict is not None else 0
        if self.double[position]:
            names = list(latest_verdicts(review)) if review is not None else []
            self._sole[position] = self._code(names[0]) if len(names) == 1 else 0

    def _code(self, reviewer: str) -> int:
        return self._reviewers.setdefault(reviewer, len(self._reviewers) + 1)

    def decided_by(self, reviewer: str) -> int:
        """Number of rows whose verdict is that of a reviewer."""
        return int((self._deciders == self._reviewers.get(reviewer, -1)).sum())

    def clear(self) -> None:
        """Forget all decisions."""
        people = (self._sole, self._deciders)
        for column in (self.verdict, self.flagged, self.rated, self.contested, *people):
            column[:] = 0

    def content(self, shown: QueueFilter) -> "Flags":
        """(N,) rows with the kind, source, signal and words of a filter, in any state."""
        paraphrase = self._kind_codes.get("paraphrase", -1)
        if shown.kind:
            flags: Flags = self._kinds == self._kind_codes.get(shown.kind, -1)
        else:
            flags = self._kinds != paraphrase
        if shown.source:
            flags = flags & (self._sources == self._source_codes.get(shown.source, -1))
        if shown.signal:
            none = np.zeros(len(flags), np.bool_)
            flags = flags & self._signals.get(shown.signal, none)
        return flags & self._with_words(shown.words) if shown.words.strip() else flags

    def state(self, name: State, by: str) -> "Flags":
        """(N,) rows that have a state for a reviewer; `open` is one that lacks a verdict.

        The only verdict so far on a row for two reviewers is hidden from all others.
        """
        others: Flags = (self._sole > 0) & (self._sole != self._reviewers.get(by, -1))
        if name == "open":
            undecided: Flags = self.verdict == 0
            return undecided | others
        if name in _OF_STATE:
            decided: Flags = self.verdict == _OF_STATE[name]
            return decided & ~others
        columns = {"flagged": self.flagged, "rated": self.rated, "contested": self.contested}
        return columns.get(name, np.ones(len(self.verdict), np.bool_))

    def _with_words(self, words: str) -> "Flags":
        """(N,) rows that have all words in their texts, or all in one passage."""
        known, flags = self._searched
        if known == words and flags is not None:
            return flags
        rows = _all_words(self._texts, words)
        passages = _all_words(self._passages, words)
        rows[self._rows[passages[self._chunks]]] = True
        self._searched = (words, rows)
        return rows


def _all_words(texts: "pl.Series", words: str) -> "Flags":
    flags = np.ones(len(texts), np.bool_)
    for word in fold_case(words).split():
        flags &= texts.str.contains(word, literal=True).to_numpy()
    return flags


def _codes(names: Sequence[str]) -> "tuple[NDArray[np.int32], dict[str, int]]":
    """((N,) code of each name, {name: code})."""
    codes: dict[str, int] = {}
    numbers = [codes.setdefault(name, len(codes)) for name in names]
    return np.array(numbers, np.int32), codes
