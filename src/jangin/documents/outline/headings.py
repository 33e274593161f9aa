"""Sections of a text: its headings, what each of them closes, and the lines that are no text.

Headings: Markdown `#`, underlined titles, 제N편 제N장 제N절 제N관 제N조(...), titles of policies,
regulations and statutes, 별표 and 붙임, Article N, numbered titles such as `2.1 Scope`, and what a
table of contents announces.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from jangin.core.records import Page
from jangin.documents.outline import legal
from jangin.documents.outline.contents import (
    CONTENTS_TITLE,
    Contents,
    beside,
    entry_key,
    find_contents,
)
from jangin.documents.outline.legal import (
    SENTENCE_END,
    Heading,
    LegalLine,
    Rank,
    gap_above,
    gap_below,
    last_shown,
    next_shown,
    numbered_headings,
    tidy,
)

# Find the headings of a text: by their wording, by their position, by the table of contents.


MARKDOWN = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
ENGLISH = re.compile(
    r"(?:Article|Section|Chapter|ARTICLE|SECTION|CHAPTER)\s+(\d+|[IVXLC]+)\b.{0,80}$"
)
NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){1,3})\.?\s+\S.{0,70}$")
UNDERLINE = re.compile(r"={3,}$|-{3,}$")
LEGAL = 3
"""From this number of articles on, a text is a legal one, and 약관 alone on a line is a title."""


def find_headings(lines: list[LegalLine], *, markdown: bool) -> list[Heading]:
    """The headings that are known by their own line, in order; `markdown` as in `sections`."""
    out: list[Heading] = []
    article = 0
    fenced = False
    previous = ""
    skip = 0
    for index, line in enumerate(lines):
        if line.noise or index < skip:
            continue
        if line.text.startswith(("```", "~~~")):
            fenced = not fenced
        heading = None
        if line.text and not fenced:
            heading = _heading(lines, index, previous, article, markdown=markdown)
        if heading is not None:
            if heading.rank == Rank.ARTICLE:
                article = heading.number or article
            out.append(heading)
            skip = index + heading.length
        previous = "" if heading is not None else line.text
    return out


def _heading(
    lines: list[LegalLine], index: int, previous: str, article: int, *, markdown: bool
) -> Heading | None:
    """The heading on line `index`, if any; `previous` is the text above, empty after a gap."""
    text = lines[index].text
    if match := MARKDOWN.match(text):
        return _marked(index, tidy(match[2]), len(match[1]), article)
    below = lines[index + 1].text if markdown and index + 1 < len(lines) else ""
    if UNDERLINE.fullmatch(below) and not previous and len(text) <= 80 and "|" not in text:
        return Heading(index, Rank.MARKED, tidy(text), 2, level=1 if below[0] == "=" else 2)
    heading = legal.legal_heading(lines, index, previous, article)
    heading = heading or legal.appendix_heading(lines, index, previous)
    if heading is not None:
        return heading
    ended = not previous or bool(SENTENCE_END.search(previous))
    if ended and not SENTENCE_END.search(text):
        if match := ENGLISH.match(text):
            rank = Rank.CHAPTER if text.upper().startswith("CHAPTER") else Rank.ARTICLE
            number = int(match[1]) if match[1].isdigit() else 0
            return Heading(index, rank, tidy(text), number=number)
        if match := NUMBERED.match(text):
            return Heading(index, Rank.NUMBERED + match[1].count("."), tidy(text))
    return None


def _marked(index: int, title: str, level: int, article: int) -> Heading:
    """A `#` heading, with the rank and the short title of a chapter or article."""
    known = legal.legal_heading([LegalLine(0, len(title), title)], 0, "", article)
    if known is None:
        return Heading(index, Rank.MARKED, title, level=level)
    return Heading(index, known.rank, known.title, level=level, number=known.number)


def with_titles(
    lines: list[LegalLine], known: list[Heading], tables: Sequence[Contents]
) -> list[Heading]:
    """All headings in order: those outside of tables of contents, and the titles among the text.

    The only title of a text, if an introduction follows it, names the whole text; that is what
    the name of the file is for, so it is no section.
    """
    known = [h for h in known if not any(t.first <= h.line < t.last for t in tables)]
    legal_text = sum(heading.rank == Rank.ARTICLE for heading in known) >= LEGAL
    if legal_text and sum(h.rank == Rank.ARTICLE and not h.level for h in known) >= LEGAL:
        known = [_typeset(heading, tables) for heading in known]
    inside = {i for table in tables for i in range(table.first, table.last)}
    titles = {heading.line: heading for heading in known}
    for heading in numbered_headings(lines, known, inside):
        titles[heading.line] = heading
    for heading in _announced(lines, titles, tables, legal_text=legal_text):
        titles[heading.line] = heading
    if legal_text:
        for heading in _policies(lines, titles, tables):
            titles[heading.line] = heading
    floors = sorted(table.last for table in tables)
    above = _above_first(lines, sorted(titles.values(), key=_line), floors)
    if len(above) + sum(h.rank <= Rank.TITLE for h in titles.values()) == 1:
        above = [heading for heading in above if heading.near]
    for heading in above:
        titles[heading.line] = heading
    for heading in _above_contents(lines, titles, tables):
        titles[heading.line] = heading
    announced = {key for table in tables for key in table.entries}
    kept = _consistent(_in_sequence(sorted(titles.values(), key=_line)), announced)
    return _with_parts(lines, kept)


def _typeset(heading: Heading, tables: Sequence[Contents]) -> Heading:
    """A heading `#` among articles that have none, by its wording: type size marks titles."""
    if heading.rank != Rank.MARKED or heading.level != 1:
        return heading
    title = heading.title
    appendix = legal.appendix_heading([LegalLine(0, len(title), title)], 0, "")
    if appendix is not None:
        return replace(appendix, line=heading.line, length=heading.length)
    announced = any(entry_key(title) in table.bracketed for table in tables)
    bracketed = legal.BRACKETED.match(title)
    part = announced or (bracketed is not None and legal.is_policy(bracketed[1]))
    statute = not part and bool(legal.STATUTE.match(title))
    return replace(heading, rank=Rank.PART if part else Rank.TITLE, level=0, statute=statute)


def _line(heading: Heading) -> int:
    return heading.line


def _announced(
    lines: list[LegalLine],
    known: dict[int, Heading],
    tables: Sequence[Contents],
    *,
    legal_text: bool,
) -> list[Heading]:
    """The first line, outside of tables of contents, of every title that one of them names."""
    names = {key: table for table in tables for key in table.entries if len(key) >= 3}
    out: list[Heading] = []
    if not names:
        return out
    inside = {i for table in tables for i in range(table.first, table.last)}
    taken: set[str] = set()
    for index, line in enumerate(lines):
        if index in inside or line.noise or not line.text or len(line.text) > 90:
            continue
        key = entry_key(line.text)
        if key not in names or key in taken:
            continue
        if index in known:
            taken.add(key)
        elif legal.stands_alone(lines, index) and not SENTENCE_END.search(line.text):
            taken.add(key)
            part = key in names[key].bracketed
            title = legal_text or legal.is_policy(line.text)
            rank: int = Rank.PART if part else Rank.TITLE if title else Rank.NUMBERED
            statute = bool(legal.STATUTE.match(line.text)) and rank == Rank.TITLE
            out.append(Heading(index, rank, tidy(line.text), statute=statute))
    return out


def _policies(
    lines: list[LegalLine], known: dict[int, Heading], tables: Sequence[Contents]
) -> list[Heading]:
    """Names of policies on a line of their own between two gaps."""
    inside = {i for table in tables for i in range(table.first, table.last)}
    out = []
    for index, line in enumerate(lines):
        if index in known or index in inside or line.noise:
            continue
        below = next_shown(lines, index + 1)
        alone = gap_above(lines, index) and (gap_below(lines, index) or below in known)
        if not alone or not line.text:
            continue
        bracketed = legal.BRACKETED.match(line.text)
        if legal.is_policy(bracketed[1] if bracketed else line.text):
            rank = Rank.PART if bracketed else Rank.TITLE
            out.append(Heading(index, rank, tidy(line.text)))
    return out


def _above_first(
    lines: list[LegalLine], known: list[Heading], floors: Sequence[int]
) -> list[Heading]:
    """Titles above a chapter 1 or an article 1, and statutes above any article."""
    out: list[Heading] = []
    for position, heading in enumerate(known):
        before = known[position - 1] if position else None
        end = before.line + before.length if before else 0
        floor = max([end, *(floor for floor in floors if floor <= heading.line)])
        if Rank.BOOK <= heading.rank <= Rank.ARTICLE and heading.number == 1:
            within = before is not None and Rank.BOOK <= before.rank < heading.rank
            title = None if within else legal.title_above(lines, heading.line, floor)
        elif heading.rank == Rank.ARTICLE:
            title = legal.statute_above(lines, heading.line, floor)
        else:
            title = None
        if title is not None:
            out.append(title)
    return out


def _above_contents(
    lines: list[LegalLine], known: dict[int, Heading], tables: Sequence[Contents]
) -> list[Heading]:
    """The title of a list of what follows, such as `참고: 인용된 법령`, where it is no 목차."""
    out = []
    for table in tables:
        above = last_shown(lines, table.first - 1)
        if above < 0 or above in known or CONTENTS_TITLE.match(lines[table.first].text):
            continue
        text = lines[above].text
        if legal.is_title(text) and gap_above(lines, above) and gap_below(lines, above):
            out.append(Heading(above, Rank.PART, tidy(text)))
    return out


def _in_sequence(titles: list[Heading]) -> list[Heading]:
    """The headings without articles that are references: 제3조 between 제7조 and 제8조."""
    articles = [i for i, h in enumerate(titles) if h.rank == Rank.ARTICLE and h.number]
    wrong = set()
    for before, position, after in zip(articles, articles[1:], articles[2:], strict=False):
        first, last = titles[before].number, titles[after].number
        between = titles[before + 1 : position] + titles[position + 1 : after]
        alone = all(h.rank > Rank.ARTICLE for h in between)
        article = titles[position]
        again = article.number == first and "조의" not in article.title
        if alone and last == first + 1 and (again or not first <= article.number <= last):
            wrong.add(position)
    return [heading for position, heading in enumerate(titles) if position not in wrong]


def _consistent(titles: list[Heading], announced: set[str]) -> list[Heading]:
    """The headings, after a look at the numbers that follow a title or an appendix.

    Where the articles or chapters continue to count, an appendix is inside an article, and a
    title that no table of contents announces is none. A statute's appendix is inside it.
    Where they begin again without a title, what came before is closed.
    """
    out: list[Heading] = []
    newest: dict[int, int] = {}
    for position, candidate in enumerate(titles):
        heading = candidate
        plain = candidate.rank == Rank.TITLE and not candidate.level and not candidate.statute
        continues = plain and _continues_numbering(titles[position + 1 :], newest)
        if continues and not candidate.appendix and entry_key(candidate.title) not in announced:
            continue
        if continues and candidate.appendix:
            heading = replace(candidate, rank=Rank.NUMBERED, appendix=False)
        elif plain and candidate.appendix and out and out[-1].statute:
            heading = replace(candidate, rank=Rank.BOOK, appendix=False)
        elif candidate.number == 1 and candidate.rank in newest and not candidate.level:
            heading = replace(candidate, restarts=True)
        if heading.rank <= Rank.TITLE and not heading.appendix:
            newest = {}
        elif heading.rank <= Rank.ARTICLE:
            newest = {rank: n for rank, n in newest.items() if rank <= heading.rank}
            newest[heading.rank] = heading.number
        out.append(heading)
    return out


def _continues_numbering(below: list[Heading], newest: dict[int, int]) -> bool:
    """True if the first chapter or article below has the number after the newest one."""
    for heading in below:
        if heading.number and Rank.BOOK <= heading.rank <= Rank.ARTICLE:
            return heading.number > 1 and heading.number == newest.get(heading.rank, 0) + 1
        if not heading.appendix:
            return False
    return False


def _with_parts(lines: list[LegalLine], titles: list[Heading]) -> list[Heading]:
    """The headings; a title directly above another one is that of a part."""
    out = list(titles)
    for position, (heading, below) in enumerate(pairwise(titles)):
        shown = next_shown(lines, heading.line + heading.length)
        plain = heading.rank == Rank.TITLE and not heading.level
        if plain and below.rank == Rank.TITLE and below.line == shown:
            out[position] = replace(heading, rank=Rank.PART, appendix=False)
    return out


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


def split_lines(text: str, pages: Sequence[Page]) -> list[LegalLine]:
    """All lines, empty ones included, with page numbers and running headers marked."""
    lines, start = [], 0
    for raw in text.split("\n"):
        lines.append(LegalLine(start, start + len(raw), raw.strip()))
        start += len(raw) + 1
    noise = _running(lines, pages)
    if not noise:
        return lines
    return [
        LegalLine(line.start, line.end, line.text, noise=index in noise)
        for index, line in enumerate(lines)
    ]


def _running(lines: list[LegalLine], pages: Sequence[Page]) -> set[int]:
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


def sections(lines: list[LegalLine], *, markdown: bool) -> list[Section]:
    """All sections in order, covering every line; an empty parent joins its first child.

    `markdown` makes underlined lines headings.
    """
    known = find_headings(lines, markdown=markdown)
    tables = find_contents(lines, known)
    out = _sections(lines, with_titles(lines, known, tables), tables)
    if all(section.contents for section in out):
        return _sections(lines, known, [])
    return out


def _sections(
    lines: list[LegalLine], titles: list[Heading], tables: list[Contents]
) -> list[Section]:
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


def is_empty(lines: list[LegalLine], heading: Heading, last: int) -> bool:
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
