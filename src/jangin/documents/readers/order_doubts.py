"""Is the reading order of a page doubtful? Signs in its text that columns were read across."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from jangin.documents.readers.reader import PageReading

ARTICLE_START = re.compile(r"^(?:#+\s*)?제\s*(\d+)\s*조(?:의\s*\d+)?\s*[(（\[【]", re.MULTILINE)
FIRST = 1
"""Article numbers begin anew with each set of rules, so a fall to 1 or 2 is none."""

Reason = Literal["articles_fall", "columns_crossed", "sentences_cut"]


@dataclass(frozen=True, slots=True)
class OrderDoubt:
    """One sign that the lines of a page are not in the order in which they are read."""

    reason: Reason
    """`articles_fall`: the number of an article is lower than that of the one before it;
    `columns_crossed`: lines go across a white strip that other lines keep free; `sentences_cut`:
    many lines end inside a sentence that the next line does not go on with."""
    values: Mapping[str, int] = field(default_factory=dict)
    """`articles_fall`: `before`, `after`; the others: `lines`, `of`."""


def order_doubts(page: PageReading) -> tuple[OrderDoubt, ...]:
    """Why the reading order of a page is doubtful; empty where it is not."""
    doubts = []
    if (fall := _first_fall(page.text)) is not None:
        doubts.append(OrderDoubt("articles_fall", {"before": fall[0], "after": fall[1]}))
    return tuple(doubts)


def _first_fall(text: str) -> tuple[int, int] | None:
    """The first article number that is lower than the one before it, and that one."""
    numbers = [int(match[1]) for match in ARTICLE_START.finditer(text)]
    falls = ((a, b) for a, b in pairwise(numbers) if FIRST < b < a)
    return next(falls, None)
