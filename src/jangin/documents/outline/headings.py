"""Sections of a text: its headings, what each of them closes, and the lines that are no text.

Headings: Markdown `#`, underlined titles, 제N편 제N장 제N절 제N관 제N조(...), titles of policies,
regulations and statutes, 별표 and 붙임, Article N, numbered titles such as `2.1 Scope`, and what a
table of contents announces.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.records import Page
from jangin.documents.outline.contents import Contents, beside, find_contents
from jangin.documents.outline.find import find_headings, with_titles
from jangin.documents.outline.line import Heading, Line, Rank

PAGE_NUMBER = re.compile(
    r"[-–—\[(<]?\s*\d{1,4}\s*[-–—\])>]?|(?:page|p\.?|쪽)\s*\d{1,4}(?:\s*(?:/|of)\s*\d{1,4})?"
    r"|\d{1,4}\s*(?:/|of)\s*\d{1,4}|\d{1,4}\s*(?:쪽|페이지)",
    re.IGNORECASE,
)
NO_RUNNING_HEAD = re.compile(r"제\s*0\s*조|\||#")
"""Articles, rows of tables and headings, with 0 for their numbers, are text wherever they occur."""


@dataclass(frozen=True, slots=True)
class Section:
    """Text between two headings: lines `first` to `last`, the last not included."""

    path: tuple[str, ...]
    first: int
    last: int
    heading_lines: int
    """Number of heading lines at its beginning: those of empty parents, then its own."""
    contents: bool = False
    """True for a table of contents, which is no text."""


def split_lines(text: str, pages: Sequence[Page]) -> list[Line]:
    """All lines, empty ones included, with page numbers and running headers marked."""
    lines, start = [], 0
    for raw in text.split("\n"):
        lines.append(Line(start, start + len(raw), raw.strip()))
        start += len(raw) + 1
    noise = _running(lines, pages)
    if not noise:
        return lines
    return [
        Line(line.start, line.end, line.text, noise=index in noise)
        for index, line in enumerate(lines)
    ]


def _running(lines: list[Line], pages: Sequence[Page]) -> set[int]:
    """Indices of lines at page edges that are page numbers, or repeat except for digits."""
    if len(pages) < 2:
        return set()
    edges: dict[int, str] = {}
    index = 0
    for page in pages:
        own = []
        while index < len(lines) and lines[index].start < page.end:
            if lines[index].text:
                own.append(index)
            index += 1
        for edge in {*own[:2], *own[-2:]}:
            edges[edge] = re.sub(r"\d+", "0", lines[edge].text)
    often = max(3, len(pages) // 10)
    repeated = {shape for shape, count in Counter(edges.values()).items() if count >= often}
    return {
        edge
        for edge, shape in edges.items()
        if PAGE_NUMBER.fullmatch(lines[edge].text)
        or (shape in repeated and len(shape) <= 80 and not NO_RUNNING_HEAD.match(shape))
    }


def sections(lines: list[Line], *, markdown: bool) -> list[Section]:
    """All sections in order, covering every line; an empty parent joins its first child.

    `markdown` makes underlined lines headings.
    """
    known = find_headings(lines, markdown=markdown)
    tables = find_contents(lines, known)
    out = _sections(lines, with_titles(lines, known, tables), tables)
    if all(section.contents for section in out):
        return _sections(lines, known, [])
    return out


def _sections(lines: list[Line], titles: list[Heading], tables: list[Contents]) -> list[Section]:
    cuts = {table.first: table for table in tables}
    starts = sorted({0, *(heading.line for heading in titles), *cuts, *(t.last for t in tables)})
    opened = {heading.line: heading for heading in titles}
    outline = Outline(several=sum(h.rank == Rank.TITLE and not h.appendix for h in titles) > 1)
    out: list[Section] = []
    pending: tuple[int, int] | None = None
    for position, start in enumerate(starts):
        last = starts[position + 1] if position + 1 < len(starts) else len(lines)
        if start >= last:
            continue
        heading = opened.get(start)
        if start in cuts:
            out.extend(_left_alone(outline, pending, start))
            out.append(Section(outline.path, start, last, 0, contents=True))
            pending = None
            continue
        if heading is not None:
            outline.open(heading)
        first, used = pending or (start, 0)
        used = start + (heading.length if heading else 0) - first
        after = opened.get(last)
        empty = heading is not None and is_empty(lines, heading, last)
        if empty and after is not None and outline.holds(after):
            pending = (first, used)
            continue
        out.append(Section(outline.path, first, last, used))
        pending = None
    return out


def _left_alone(outline: "Outline", pending: tuple[int, int] | None, stop: int) -> list[Section]:
    """A section of headings without text, which a table of contents follows."""
    return [] if pending is None else [Section(outline.path, pending[0], stop, pending[1])]


def is_empty(lines: list[Line], heading: Heading, last: int) -> bool:
    """True if no text is on the line of the heading, and none between it and line `last`."""
    below = lines[heading.line + heading.length : last]
    return not beside(lines, heading) and all(line.noise or not line.text for line in below)


class Outline:
    """The headings that are open at one position of a text, outermost first."""

    def __init__(self, *, several: bool) -> None:
        """`several`: the text holds more than one policy, so an appendix belongs to none."""
        self._several = several
        self._open: list[Heading] = []
        self._part: list[Heading] = []

    @property
    def path(self) -> tuple[str, ...]:
        """Titles of the open headings."""
        return tuple(heading.title for heading in self._open)

    def holds(self, heading: Heading) -> bool:
        """True if `heading` closes nothing that is open: it is below the last open heading."""
        return self._cut(heading) == len(self._open)

    def open(self, heading: Heading) -> None:
        """Close what the heading ends, and open it. A policy after an appendix is in its part."""
        if heading.rank == Rank.TITLE and not heading.level:
            appended = any(other.appendix for other in self._open)
            if heading.appendix and not appended:
                self._part = [h for h in self._open if h.rank == Rank.PART or h.level == 1]
            elif appended and not heading.appendix:
                self._open = self._part
        self._open = [*self._open[: self._cut(heading)], heading]

    def _cut(self, heading: Heading) -> int:
        """Number of open headings, from the outermost, that stay open."""
        for position, other in enumerate(self._open):
            if self._closes(heading, other):
                return position
        return len(self._open)

    def _closes(self, heading: Heading, other: Heading) -> bool:
        if heading.rank and other.rank:
            return other.rank >= self._reach(heading, other)
        if heading.level and other.level:
            return other.level >= heading.level
        if heading.rank:
            return heading.rank <= Rank.TITLE and other.level > 1
        return other.rank - 1 >= heading.level

    def _reach(self, heading: Heading, other: Heading) -> int:
        """The outermost rank that `heading` closes, where `other` is open."""
        if heading.restarts:
            return Rank.TITLE
        if not heading.appendix or other.appendix:
            return heading.rank
        return Rank.PART if self._several else Rank.BOOK
