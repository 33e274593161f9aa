"""A review queue as lines of JSON, in memory or in a file: 50,000 rows are there in a second.

The first line says how many rows follow. A row is what the lists show of it, a tab, and the rest,
which is parsed when the row is opened.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from mmap import mmap
from typing import Any, Self

from pydantic_core import from_json, to_json

from jangin.core.records import Example, PreferencePair
from jangin.examples.reviews.queue import QueueItem, Suspicion
from jangin.examples.reviews.queue_columns import QueueEntry, make_entry
from jangin.examples.reviews.reasons import passage_of

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
