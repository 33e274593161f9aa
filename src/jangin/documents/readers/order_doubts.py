"""Is the reading order of a page doubtful? Signs in its text that columns were read across."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from jangin.documents.layout.shapes import TextLine
from jangin.documents.readers.reader import PageReading

ARTICLE = re.compile(
    r"(?:제\s*(\d+)\s*조(?:의\s*\d+)?\s*[(（\[【][^)）\]】\n]*[)）\]】]"
    r"(?=\s*$|\s*[①-⑳]|\s+(?!및|또는|내지|부터|까지|중|제\s*\d+\s*[항호])\S)"
    r"|(?:Article|Rule|Section|Clause)\s+(\d+)\b)",
    re.MULTILINE,
)
"""An article heading, and no mention of one, after which a particle or another mention follows."""
MARKS = re.compile(r"^[#\s]+")
FIRST = 2
"""A fall to 1 or 2 is none: another set of rules, its contents or its appendix may begin there."""
OPEN = re.compile(
    r"(?:[가-힣](?:은|는|을|를|의|와|과|및|에서|에게|으로|하여|하고|하며|되며|이며|거나|하면|되면)"
    r"|위한|대한|관한|따른|되어|내어|하지|또는"
    r"|\b(?:the|a|an|of|to|and|in|within|by|is|at|for|every|after))$"
)
"""The end of a text that a sentence cannot end with."""
ITEM = re.compile(r"(?<=\s)[①-⑳]\s*(?=\S)")
FEWEST_CUT = 2
FEWEST_ENDS = 3
"""Paragraphs that end without a full stop; fewer may be items of a list."""
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=#)|(?<=\n)(?=\|)")
LISTED = re.compile(r"[①-⑳]|[-•·*○●▪]|\(?\d{1,2}[.)]|[가-하][.)]|주\)|제\s*\d+\s*조")
"""The start of an item of a list, which may end without a full stop."""
SENTENCE = re.compile(r"[가-힣]{2,}다\.(?=\s|$)|[a-z]{3,}\.(?=\s+[A-Z]|$)")
CLOSED = re.compile(r"[.!?:;。…][\"'”’)\]」』】>]*$|[)\]】」』>]$")
FORMULA = re.compile("[⇒×=÷]")
LAST = 4
"""Lines at the end of a paragraph that show whether it is made of sentences."""
LONG = 0.6
"""Share of the longest of them that its last line has at least; a shorter one ends a list."""
NEXT = 0.9
"""Largest distance to the line below that goes on with a line, in heights of a line."""
SHARED = 0.5
"""Share of the shorter of two lines that is above or below the other."""
ALIKE = 0.12
"""Largest difference of two sizes of type in one paragraph, as a share."""
FEWEST_PARTED = 2

Reason = Literal["articles_fall", "columns_crossed", "sentences_cut", "lines_parted"]


@dataclass(frozen=True, slots=True)
class OrderSign:
    """One sign that the lines of a page are not in the order in which they are read."""

    reason: Reason
    """`articles_fall`: the number of an article is lower than that of the one before it;
    `columns_crossed`: lines go across a white strip that may part columns; `sentences_cut`: an
    article or a numbered paragraph begins where a sentence cannot end, or a paragraph of
    sentences ends inside one; `lines_parted`: a line that does not end a sentence is not followed
    by the one right below it."""
    values: Mapping[str, int] = field(default_factory=dict)
    """`articles_fall`: `before`, `after`; the others: `lines`, `of`."""


def order_doubts(page: PageReading) -> tuple[OrderSign, ...]:
    """Why the reading order of a page is doubtful; empty where it is not."""
    lines = [MARKS.sub("", line).strip() for line in page.text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("|")]
    doubts = []
    if (fall := _first_fall(lines)) is not None:
        doubts.append(OrderSign("articles_fall", {"before": fall[0], "after": fall[1]}))
    if page.crossed:
        doubts.append(OrderSign("columns_crossed", {"lines": page.crossed, "of": len(lines)}))
    cut, count = _cut(lines)
    ends, paragraphs = _broken(page)
    is_sure = any(OPEN.search(end) for end in ends)
    if cut >= FEWEST_CUT or len(ends) >= FEWEST_ENDS or is_sure:
        values = {"lines": cut + len(ends), "of": count + paragraphs}
        doubts.append(OrderSign("sentences_cut", values))
    if (parted := _parted(page.lines)) >= FEWEST_PARTED:
        doubts.append(OrderSign("lines_parted", {"lines": parted, "of": len(lines)}))
    return tuple(doubts)


def _first_fall(lines: list[str]) -> tuple[int, int] | None:
    """The first article number that is lower than the one before it, and that one.

    Numbers are those of lines that begin with an article, which may hold a second one.
    """
    numbers = [
        int(match[1] or match[2])
        for line in lines
        if ARTICLE.match(line)
        for match in ARTICLE.finditer(line)
    ]
    return next(((a, b) for a, b in pairwise(numbers) if FIRST < b < a), None)


def _cut(lines: list[str]) -> tuple[int, int]:
    """(articles and numbered paragraphs that begin inside a sentence, all of them)."""
    cut = count = 0
    before = ""
    for line in lines:
        starts = [match.start() for match in ITEM.finditer(line)]
        if ARTICLE.match(line) or re.match("[①-⑳]", line):
            count += 1
            cut += bool(OPEN.search(before))
        count += len(starts)
        cut += sum(bool(OPEN.search(line[:start].rstrip())) for start in starts)
        before = line
    return cut, count


def _broken(page: PageReading) -> tuple[list[str], int]:
    """(ends of paragraphs of sentences that end inside one, all paragraphs), but the last one.

    None where lines are left out, which parts sentences, too.
    """
    if any(not line.is_kept for line in page.doubtful):
        return [], 0
    paragraphs = [part.strip().split("\n") for part in PARAGRAPH.split(page.text)[:-1]]
    return [part[-1].strip() for part in paragraphs if _ends_inside(part)], len(paragraphs)


def _ends_inside(lines: list[str]) -> bool:
    """True for a paragraph of sentences whose last line is long and does not end one."""
    first = max((n for n, line in enumerate(lines) if LISTED.match(line.strip())), default=0)
    last = lines[max(first, len(lines) - LAST) :]
    sizes = [len(line.replace(" ", "")) for line in last]
    return (
        len(last) > 1
        and not any(line.startswith(("|", "#")) for line in last[-2:])
        and not CLOSED.search(last[-1].strip())
        and SENTENCE.search(" ".join(last)) is not None
        and not FORMULA.search(" ".join(last))
        and sizes[-1] >= LONG * max(sizes)
    )


def _parted(lines: Sequence[TextLine]) -> int:
    """Number of lines that end inside a sentence and are not followed by the line right below."""
    shown = [line for line in lines if not line.text.startswith("|") and line.top > line.bottom]
    below: defaultdict[int, list[int]] = defaultdict(list)
    for number, line in enumerate(shown):
        below[round(line.top)].append(number)
    return sum(_is_parted(shown, number, below) for number in range(len(shown)))


def _is_parted(lines: Sequence[TextLine], number: int, by_top: Mapping[int, Sequence[int]]) -> bool:
    line = lines[number]
    if CLOSED.search(line.text.strip()):
        return False
    height = line.top - line.bottom
    rows = range(round(line.bottom - NEXT * height), round(line.bottom + height / 4) + 1)
    next_ones = {
        other
        for row in rows
        for other in by_top.get(row, ())
        if other != number and _is_below(line, lines[other])
    }
    return bool(next_ones) and number + 1 not in next_ones


def _is_below(line: TextLine, other: TextLine) -> bool:
    """True if a line may go on with one above it, by its place and its type."""
    shared = min(line.right, other.right) - max(line.left, other.left)
    least = min(line.right - line.left, other.right - other.left)
    height = line.top - line.bottom
    return (
        shared >= SHARED * least
        and abs(line.left - other.left) < 2 * height
        and abs(line.size - other.size) <= ALIKE * line.size
        and line.bold == other.bold
    )
