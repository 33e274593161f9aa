"""The review queue in memory: pages of it in milliseconds, decisions added as they are made.

The order of the queue is fixed when the index is built; the log is followed while it grows. Other
processes may write to it.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from mmap import mmap
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic_core import from_json, to_json

from jangin.core.digest import short_digest
from jangin.core.errors import DataError, PortableError
from jangin.core.jsonl import parse_record
from jangin.core.records import Example, PreferencePair
from jangin.examples.reviews.log import (
    VERDICTS,
    Review,
    ReviewDecision,
    add_decision,
    append_decisions,
    find_disagreement,
    is_contested,
    latest_verdicts,
    review_of,
    wants_second,
)
from jangin.examples.reviews.queue import QueueItem, Suspicion
from jangin.examples.reviews.reasons import NEAR_REJECTED, asked_words, passage_of, word_similarity
from jangin.text.normalize import fold_case

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    from numpy.typing import NDArray


# A review queue of 50,000 rows in little memory, and its filters, which take a millisecond.


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
        self._pending_reviewers = np.zeros(len(entries), np.int32)
        """Code of the reviewer of a double-reviewed row with one verdict; 0 for none."""
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
            self._pending_reviewers[position] = self._code(names[0]) if len(names) == 1 else 0

    def _code(self, reviewer: str) -> int:
        return self._reviewers.setdefault(reviewer, len(self._reviewers) + 1)

    def decided_by(self, reviewer: str) -> int:
        """Number of rows whose verdict is that of a reviewer."""
        return int((self._deciders == self._reviewers.get(reviewer, -1)).sum())

    def clear(self) -> None:
        """Forget all decisions."""
        people = (self._pending_reviewers, self._deciders)
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
        pending = self._pending_reviewers
        others: Flags = (pending > 0) & (pending != self._reviewers.get(by, -1))
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


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Some rows of the queue, by their positions."""

    positions: tuple[int, ...]
    following: int | None
    """Position to continue after; None on the last page."""
    total: int
    """Number of all rows that the filter shows."""


class ChangedMeanwhileError(PortableError):
    """Another person decided on the row after it was shown; `review` is what they decided."""

    def __init__(self, row: str, review: Review | None) -> None:
        super().__init__(f"the row {row} was decided on after it was shown")
        self.row = row
        self.review = review


TAIL_BYTES = 512
"""Bytes by which a log that was replaced is noticed; ids of files are given again."""


@dataclass(slots=True)
class LogFollower:
    """Reads what was appended to a log since the last time; all of it where it was replaced."""

    path: Path
    _end: int = 0
    _line: int = 0
    _size: int = -1
    _modified: int = 0
    _tail: bytes = b""
    """The last bytes that were read; a file that lacks them there is another one."""

    def read(self) -> tuple[bool, list[ReviewDecision]]:
        """(True if these are all lines and not only further ones, the decisions).

        Raises `DataError` for a line that is no decision.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            was_there = self._size > 0
            self._end, self._line, self._size, self._modified, self._tail = 0, 0, 0, 0, b""
            return was_there, []
        if (status.st_size, status.st_mtime_ns) == (self._size, self._modified):
            return False, []
        with self.path.open("rb") as stream:
            stream.seek(self._end - len(self._tail))
            complete = stream.read(len(self._tail)) != self._tail
            start, line = (0, 0) if complete else (self._end, self._line)
            stream.seek(start)
            data = _whole_lines(stream.read(max(status.st_size - start, 0)))
        decisions = []
        for text in data.splitlines(keepends=True):
            line += 1
            if text.strip():
                decisions.append(parse_record(text, ReviewDecision, f"{self.path}:{line}"))
        tail = data if complete else self._tail + data
        self._end, self._line, self._tail = start + len(data), line, tail[-TAIL_BYTES:]
        self._size, self._modified = status.st_size, status.st_mtime_ns
        return complete, decisions


def _whole_lines(data: bytes) -> bytes:
    """Without an incomplete last line; one that lacks only its line end is complete."""
    last = data[data.rfind(b"\n") + 1 :]
    try:
        json.loads(last or b"0")
    except ValueError:
        return data[: len(data) - len(last)]
    return data


@dataclass(slots=True)
class ReviewIndex:
    """A queue, what people decided about its rows, and the search for the next row."""

    log: Path
    entries: Sequence[QueueEntry]
    load: Callable[[int], QueueItem]
    """The row at a position, with its passage and without its review."""
    passages: Mapping[str, str] = field(default_factory=dict)
    """{id of a chunk: its text}, for the search."""
    reviews: dict[int, Review] = field(default_factory=dict)
    """{position: review}."""
    unmatched: set[str] = field(default_factory=set)
    """Ids of decisions about rows that are not in this queue."""
    _position: dict[str, int] = field(default_factory=dict)
    _children: dict[str, list[int]] = field(default_factory=dict)
    _by_text: dict[tuple[str, ...], int] = field(default_factory=dict)
    _histories: dict[str, list[ReviewDecision]] = field(default_factory=dict)
    _of_other_rows: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """{texts: ids of rows with them that have decisions and are not in this queue}."""
    _last: dict[str, list[ReviewDecision]] = field(default_factory=dict)
    _near: dict[int, dict[int, float]] = field(default_factory=dict)
    """{position of a rejected row: {position of a row like it: similarity}}."""
    _words: dict[int, set[str]] = field(default_factory=dict)
    """{position: words of the question}, made for the first rejection."""
    _follower: LogFollower = field(init=False)
    _columns: QueueColumns = field(init=False)
    _lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        """Index the entries by id and by their texts."""
        self._position = {entry.id: n for n, entry in enumerate(self.entries)}
        for n, entry in enumerate(self.entries):
            self._by_text.setdefault(entry.key, n)
            if entry.parent:
                self._children.setdefault(entry.parent, []).append(n)
        self._follower = LogFollower(self.log)
        self._columns = QueueColumns(self.entries, self.passages)

    def refresh(self) -> None:
        """Take in what was appended to the log; raises `DataError` for a line of another form."""
        with self._lock:
            complete, decisions = self._follower.read()
            if complete:
                self._histories.clear()
                self._of_other_rows.clear()
                self.reviews.clear()
                self._near.clear()
                self._columns.clear()
                self.unmatched.clear()
                self._last.clear()
            changed = set()
            for decision in decisions:
                history = self._histories.setdefault(decision.id, [])
                withdrawn = add_decision(history, decision)
                self._remember(decision, withdrawn)
                changed.add(decision.id)
                if decision.id not in self._position:
                    self._of_other_rows.setdefault(decision.before.key, set()).add(decision.id)
            for row in changed:
                self._update(row)

    def _remember(self, decision: ReviewDecision, withdrawn: ReviewDecision | None) -> None:
        """Keep what each reviewer can undo, in order; bulk actions are undone as a whole."""
        if decision.decision != "undo" and decision.batch is None:
            self._last.setdefault(decision.by, []).append(decision)
        elif withdrawn is not None and decision.batch is None:
            mine = self._last.get(withdrawn.by, [])
            for index in range(len(mine) - 1, -1, -1):
                if mine[index] is withdrawn:
                    del mine[index]
                    break

    def _update(self, row: str) -> None:
        history = self._histories[row]
        known = self._position.get(row)
        position = known
        if position is None and history:
            position = self._by_text.get(history[-1].before.key)
            if position is not None and self._histories.get(self.entries[position].id):
                position = None  # a decision with the row's own id takes precedence
        if position is None:
            (self.unmatched.add if history else self.unmatched.discard)(row)
            stale = [n for n, review in self.reviews.items() if review.id == row]
            for position in stale if not history else ():
                self._set(position, None)
            return
        if not history:
            row, history = self._same_text(position)
        self._set(position, review_of(row, history) if history else None)

    def _set(self, position: int, review: Review | None) -> None:
        if review is not None:
            self.reviews[position] = review
        else:
            self.reviews.pop(position, None)
        self._columns.set_review(position, review)
        verdict = review.verdict if review is not None else None
        if verdict is None or verdict.decision != "reject":
            self._near.pop(position, None)
        elif position not in self._near:
            self._near[position] = self._alike(position)

    def _alike(self, rejected: int) -> dict[int, float]:
        """{position: similarity} of the rows whose question is like that of a rejected one."""
        if not self._words:
            self._words = {
                n: asked_words(entry.question)
                for n, entry in enumerate(self.entries)
                if entry.kind in ("original", "evolved")
            }
        words = self._words.get(rejected) or set()
        pairs = (
            (n, word_similarity(words, mine)) for n, mine in self._words.items() if n != rejected
        )
        return {n: alike for n, alike in pairs if words and alike >= NEAR_REJECTED}

    def near_rejected(self, by: str) -> list[int]:
        """Open rows that are like a rejected one, most alike first."""
        with self._lock:
            near = {
                n: max(mine.get(n, 0.0) for mine in self._near.values())
                for n in {n for mine in self._near.values() for n in mine}
                if self.is_open(n, by)
            }
        return sorted(near, key=lambda n: (-near[n], n))

    def _came_from(self, position: int) -> int:
        """The row in the order of the queue whose rejection brought a row forward, or itself."""
        seen: set[int] = set()
        while position not in seen:
            seen.add(position)
            position = next((n for n, mine in self._near.items() if position in mine), position)
        return min(seen)

    def entry(self, position: int) -> QueueEntry:
        """What a list shows of a row, with the reasons as they are now."""
        keys = tuple(signal.signal for signal in self.signals(position))
        return replace(self.entries[position], signals=keys)

    def signals(self, position: int) -> tuple[Suspicion, ...]:
        """Why a row is where it is, with the similarity to a row that was rejected meanwhile."""
        known = self.load(position).signals if self.entries[position].signals else ()
        alike = [(mine[position], n) for n, mine in self._near.items() if position in mine]
        if not alike or any(signal.signal == "near_rejected" for signal in known):
            return known
        strength, twin = max(alike)
        values = {"question": self.entries[twin].question}
        return (Suspicion("near_rejected", strength, values), *known)

    def _same_text(self, position: int) -> tuple[str, list[ReviewDecision]]:
        """(id, decisions) of another row with the texts of this one, which had another id then."""
        key = self.entries[position].key
        for row in sorted(self._of_other_rows.get(key, ())):
            history = self._histories[row]
            if history and history[-1].before.key == key:
                return row, history
        return "", []

    @property
    def counts(self) -> Counter[str]:
        """Numbers of all rows but paraphrases: `rows`, and those of each verdict and state."""
        with self._lock:
            columns, rows = self._columns, self._columns.content(QueueFilter())
            verdicts = np.bincount(columns.verdict[rows], minlength=len(VERDICTS) + 1).tolist()
            return Counter(
                {
                    "rows": int(rows.sum()),
                    **dict(zip(VERDICTS, verdicts[1:], strict=True)),
                    "flag": int(columns.flagged[rows].sum()),
                    "rate": int(columns.rated[rows].sum()),
                    "contested": int(columns.contested[rows].sum()),
                }
            )

    def decided_by(self, reviewer: str) -> int:
        """Number of rows whose verdict is that of a reviewer."""
        with self._lock:
            return self._columns.decided_by(reviewer)

    def position(self, row: str) -> int | None:
        """Position of a row, or None where the queue does not have it."""
        return self._position.get(row)

    def review_for(self, position: int, by: str) -> Review | None:
        """The review as a reviewer may see it.

        The decisions of others about a row that two decide on stay hidden until both have decided.
        """
        review = self.reviews.get(position)
        if review is None or not self.entries[position].double:
            return review
        verdicts = latest_verdicts(review)
        if by in verdicts or len(verdicts) >= 2:
            return review
        mine = [d for d in review.history if d.by == by or d.decision == "flag"]
        return review_of(review.id, mine) if mine else None

    def token(self, position: int, by: str) -> str:
        """Changes whenever the verdict that the reviewer sees does."""
        review = self.review_for(position, by)
        verdict = review.verdict if review is not None else None
        return "" if verdict is None else short_digest(verdict.model_dump(mode="json"))

    def is_open(self, position: int, by: str) -> bool:
        """True if the row needs a first or a second decision that this reviewer may make."""
        review = self.reviews.get(position)
        if review is None or review.verdict is None:
            return True
        if not self.entries[position].double:
            return False
        verdicts = latest_verdicts(review)
        return len(verdicts) < 2 and by not in verdicts

    def room(self, position: int) -> int:
        """Number of reviewers who may have the row open at the same time."""
        review = self.reviews.get(position)
        if not self.entries[position].double:
            return 1
        return max(1, 2 - (len(latest_verdicts(review)) if review is not None else 0))

    def matching(self, shown: QueueFilter, by: str) -> "NDArray[np.int64]":
        """Positions of the rows that a filter shows to a reviewer, in order."""
        with self._lock:
            state = self._columns.state(shown.state, by)
            return np.flatnonzero(state & self._columns.content(shown))

    def page(self, shown: QueueFilter, by: str, after: int, limit: int) -> QueuePage:
        """At most `limit` rows behind position `after`; -1 is the beginning.

        It begins with those like a row that was rejected, as far as half of a page has room.
        """
        rows = self.matching(shown, by)
        shown_rows = set(rows.tolist())
        near = [n for n in self.near_rejected(by) if n in shown_rows][: limit // 2]
        rows, total = rows[~np.isin(rows, near)], len(rows)
        if after >= 0:
            near = []
        limit -= len(near)
        first = int(np.searchsorted(rows, after, side="right"))
        positions = tuple(rows[first : first + limit].tolist())
        further = first + limit < len(rows)
        following = positions[-1] if further else None
        return QueuePage((*near, *positions), following, total)

    def candidates(self, shown: QueueFilter, by: str, after: int) -> Iterator[tuple[str, int]]:
        """(id, room) of rows to give to a reviewer, from a position on and then from the start.

        After a rejection come the rows like the rejected one, then those behind it.
        """
        rows = self.matching(shown, by)
        near = self.near_rejected(by)
        if after in near:
            near = near[near.index(after) + 1 :]
        elif after not in self._near and not any(after in mine for mine in self._near.values()):
            near = []
        first = int(np.searchsorted(rows, self._came_from(after), side="right"))
        ordered = (*rows[first:].tolist(), *rows[:first].tolist())
        shown_rows = set(ordered)
        for position in dict.fromkeys((*(n for n in near if n in shown_rows), *ordered)):
            yield self.entries[position].id, self.room(position)

    def last_of(self, by: str) -> ReviewDecision | None:
        """The latest decision of a reviewer that can be undone on its own."""
        mine = self._last.get(by)
        return mine[-1] if mine else None

    @property
    def sources(self) -> list[str]:
        """Names of all documents and files that rows come from, in order."""
        return sorted({entry.source for entry in self.entries if entry.source})

    def children(self, row: str) -> list[int]:
        """Positions of the rows that were made from a row."""
        return self._children.get(row, [])

    def history(self, row: str) -> tuple[ReviewDecision, ...]:
        """The decisions about a row, whether the queue has it or not."""
        return tuple(self._histories.get(row, ()))

    def open_disagreements(self) -> list[int]:
        """Positions of the rows on which two reviewers differ until a third decision."""
        with self._lock:
            return self._columns.contested.nonzero()[0].tolist()

    def contested(self) -> list[int]:
        """Positions of all rows on which two reviewers differ or differed."""
        with self._lock:
            return sorted(n for n, review in self.reviews.items() if find_disagreement(review))

    def save(
        self, decisions: Sequence[ReviewDecision], tokens: Mapping[str, str] | None = None
    ) -> None:
        """Append decisions to the log and apply them; does nothing if a row changed meanwhile.

        `tokens` are {id of a row: what `token` was when the reviewer was shown the row}.

        Raises:
            ChangedMeanwhileError: A token is another one by now.
            DataError: The log cannot be read or written.
            StoreError: The disk is full.

        """

        def check() -> None:
            self.refresh()
            for decision in decisions:
                position = self._position.get(decision.id)
                wanted = (tokens or {}).get(decision.id)
                if position is None or wanted in (None, self.token(position, decision.by)):
                    continue
                raise ChangedMeanwhileError(decision.id, self.review_for(position, decision.by))

        with self._lock:
            append_decisions(self.log, decisions, check)
            self.refresh()

    def item(self, row: str, by: str) -> QueueItem:
        """The row with its passage and the review that a reviewer may see.

        Raises `DataError` where the queue has no such row.
        """
        position = self._position.get(row)
        if position is None:
            raise DataError(
                f"there is no row {row!r} in the queue any more. Its document or question has "
                "changed; decisions about it are kept."
            )
        item = self.load(position).with_review(self.review_for(position, by))
        return replace(item, signals=self.signals(position))


# A review queue as lines of JSON, in memory or in a file: 50,000 rows are there in a second.
#
# The first line says how many rows follow. A row is what the lists show of it, a tab, and the
# rest, which is parsed when the row is opened.


_HEAD = b"review queue, rows: "


class PackedQueue:
    """The rows of a queue in their order, without passages and reviews."""

    def __init__(self, data: bytes | mmap) -> None:
        """`data`: what `lines` gave, joined. Raises `ValueError` if it is anything else."""
        self._data = data
        self.entries: list[QueueEntry] = []
        """What the lists show of each row."""
        self._tabs: list[int] = []
        position = data.find(b"\n") + 1
        head = bytes(data[:position])
        if not head.startswith(_HEAD):
            raise ValueError("it is no review queue")
        while position < len(data):
            tab = data.find(b"\t", position)
            if tab < 0:
                raise ValueError("a row is incomplete")
            self.entries.append(_entry(from_json(data[position:tab])))
            self._tabs.append(tab)
            position = data.find(b"\n", tab) + 1 or len(data) + 1
        if position != len(data) or len(self.entries) != int(head[len(_HEAD) :]):
            raise ValueError("rows are missing")

    @classmethod
    def of(cls, items: Sequence[QueueItem], share: float) -> Self:
        """The queue of some items; `share` of all rows is for two reviewers."""
        return cls(b"".join(lines(items, share)))

    def item(self, position: int, texts: Mapping[str, str]) -> QueueItem:
        """The item at a position, with its passage out of {id of a chunk: text}."""
        start = self._tabs[position] + 1
        example, pair, signals, suspicion = from_json(
            self._data[start : self._data.find(b"\n", start)]
        )
        row = Example.model_validate(example)
        return QueueItem(
            row,
            passage_of(row, texts),
            tuple(Suspicion(*signal) for signal in signals),
            suspicion,
            pair=None if pair is None else PreferencePair.model_validate(pair),
        )


def lines(items: Sequence[QueueItem], share: float) -> Iterator[bytes]:
    """The queue as lines of JSON; `share` of all rows is reviewed twice."""
    yield b"%s%d\n" % (_HEAD, len(items))
    for item in items:
        example = item.example.model_dump(mode="json", exclude_defaults=True)
        pair = None if item.pair is None else item.pair.model_dump(mode="json")
        signals = [astuple(signal) for signal in item.signals]
        head = to_json(astuple(make_entry(item, share)))
        yield b"%s\t%s\n" % (head, to_json((example, pair, signals, item.suspicion)))


def _entry(row: list[Any]) -> QueueEntry:
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
    return QueueEntry(*values)


# Who looks at which row: leases beside the log, so that two reviewers never get the same row.
#
# A lease ends when its row is decided or skipped, or by itself after some minutes, so that a
# closed browser keeps no row. The file survives a killed process; deleting it loses no decision.


SECONDS = 600
"""How long a row is kept for a reviewer who does nothing."""
_TABLE = "CREATE TABLE IF NOT EXISTS leases (id TEXT, by TEXT, until REAL, PRIMARY KEY (id, by))"


class ReviewLeases:
    """The leases of one log; every call opens the file, so that threads and processes share it."""

    def __init__(self, log: Path, seconds: float = SECONDS) -> None:
        # Files whose name begins with a dot are never read as documents.
        self.path = log.with_name(f".{log.name}.leases")
        self.seconds = seconds

    def take(self, rows: Iterable[tuple[str, int]], by: str) -> str | None:
        """Lease the first row that has room, and give up the reviewer's other leases.

        `rows` are (id, number of reviewers who may look at it at once). None where no row has room.
        A row that the reviewer holds already has room. Where the file cannot be written, as on a
        full disk, the first row is given without a lease: people can still read.
        """
        rows = iter(rows)
        try:
            return self._take(rows, by)
        except sqlite3.OperationalError:
            return next(rows, (None, 0))[0]

    def _take(self, rows: Iterator[tuple[str, int]], by: str) -> str | None:
        now = time.time()
        with self._transaction() as database:
            database.execute("DELETE FROM leases WHERE until < ?", (now,))
            held: dict[str, set[str]] = {}
            for name, holder in database.execute("SELECT id, by FROM leases"):
                held.setdefault(name, set()).add(holder)
            for name, room in rows:
                if len(held.get(name, set()) - {by}) < room:
                    database.execute("DELETE FROM leases WHERE by = ?", (by,))
                    values = (name, by, now + self.seconds)
                    database.execute("INSERT INTO leases VALUES (?, ?, ?)", values)
                    return name
        return None

    def holders(self, row: str) -> list[str]:
        """Names of the reviewers who have the row open now; none while the file is locked."""
        with suppress(sqlite3.OperationalError), self._transaction() as database:
            query = "SELECT by FROM leases WHERE id = ? AND until >= ? ORDER BY by"
            return [name for (name,) in database.execute(query, (row, time.time()))]
        return []

    def release(self, row: str, by: str) -> None:
        """Give a row back; where the file is locked, the lease ends by itself."""
        with suppress(sqlite3.OperationalError), self._transaction() as database:
            database.execute("DELETE FROM leases WHERE id = ? AND by = ?", (row, by))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as database:
            database.execute(_TABLE)
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
