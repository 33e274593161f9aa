"""Detect headings, page furniture and sections in the lines of a text.

Headings: Markdown `#`, underlined titles, 제N편 제N장 제N절 제N관 제N조(...), Article N, numbered
titles such as `2.1 Scope`, and the title right above a first article.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.records import Page

CHAPTERS = {"편": 2, "장": 3, "절": 4, "관": 5}
TITLE_LEVEL, ARTICLE_LEVEL, NUMBERED_LEVEL = 1, 6, 7

MARKDOWN = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
CHAPTER = re.compile(
    r"[\[<【〔(\s]*제\s*(\d+)\s*([편장절관])(?:의\s*\d+)?(?=\s|$|[.:(\[【])[\s.:]*(.{0,60})$"
)
ARTICLE = re.compile(r"제\s*(\d+)\s*조(?:의\s*(\d+))?\s*([(（\[【])")
BARE_ARTICLE = re.compile(r"제\s*(\d+)\s*조(?:의\s*(\d+))?(?:\s+([^\s.,][^.,]{0,30}))?$")
ENGLISH = re.compile(
    r"(?:Article|Section|Chapter|ARTICLE|SECTION|CHAPTER)\s+(\d+|[IVXLC]+)\b.{0,80}$"
)
NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){1,3})\.?\s+\S.{0,70}$")
UNDERLINE = re.compile(r"={3,}$|-{3,}$")
SENTENCE_END = re.compile(r"[.!?。:;]['\"”’)\]]*$|[다요음함]\.$")
PAGE_NUMBER = re.compile(
    r"[-–—\[(<]?\s*\d{1,4}\s*[-–—\])>]?|(?:page|p\.?|쪽)\s*\d{1,4}(?:\s*(?:/|of)\s*\d{1,4})?"
    r"|\d{1,4}\s*(?:/|of)\s*\d{1,4}|\d{1,4}\s*(?:쪽|페이지)",
    re.IGNORECASE,
)
CLOSING = {"(": ")", "（": "）", "[": "]", "【": "】"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text, without its line end."""

    start: int
    end: int
    text: str
    """Without whitespace at its ends."""
    noise: bool = False
    """True for a page number, and for a header or footer that many pages repeat."""


@dataclass(frozen=True, slots=True)
class Section:
    """Text between two headings: lines `first` to `last`, the last not included."""

    path: tuple[str, ...]
    first: int
    last: int
    heading_lines: int
    """Number of heading lines at its beginning: those of empty parents, then its own."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A line that is a heading."""

    line: int
    level: int
    title: str
    length: int = 1
    """Number of lines: two if it is underlined, else one."""


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
        or (shape in repeated and len(shape) <= 80 and not ARTICLE.match(lines[edge].text))
    }


def sections(lines: list[Line], *, markdown: bool) -> list[Section]:
    """All sections in order, covering every line; an empty parent joins its first child.

    `markdown` makes underlined lines headings.
    """
    titles = _without_contents(lines, headings(lines, markdown=markdown))
    starts = [heading.line for heading in titles]
    if not starts or starts[0] > 0:
        titles = [Heading(0, 0, "", 0), *titles]
    out: list[Section] = []
    stack: list[Heading] = []
    pending: tuple[int, int] | None = None
    for position, heading in enumerate(titles):
        last = titles[position + 1].line if position + 1 < len(titles) else len(lines)
        while stack and stack[-1].level >= heading.level:
            stack.pop()
        if heading.title:
            stack.append(heading)
        first, used = pending or (heading.line, 0)
        used = heading.line + heading.length - first
        empty = _is_empty(lines, heading, last)
        deeper = position + 1 < len(titles) and titles[position + 1].level > heading.level
        if empty and deeper:
            pending = (first, used)
            continue
        out.append(Section(tuple(h.title for h in stack), first, last, used))
        pending = None
    return out


def _without_contents(lines: list[Line], titles: list[Heading]) -> list[Heading]:
    """Headings without a table of contents: four or more articles in a row without text.

    The last one of such a run is kept if text follows it directly.
    """
    out: list[Heading] = []
    run: list[Heading] = []
    for position, heading in enumerate(titles):
        run.append(heading)
        last = titles[position + 1].line if position + 1 < len(titles) else len(lines)
        if position + 1 < len(titles) and _is_empty(lines, heading, last):
            continue
        if sum(one.level == ARTICLE_LEVEL for one in run) < 4:
            out.extend(run)
        elif _is_followed(lines, heading):
            out.append(heading)
        run = []
    return out


def _is_empty(lines: list[Line], heading: Heading, last: int) -> bool:
    """True if no text is on the line of the heading, and none between it and line `last`."""
    below = lines[heading.line + heading.length : last]
    return not _beside(lines, heading) and all(line.noise or not line.text for line in below)


def _is_followed(lines: list[Line], heading: Heading) -> bool:
    """True if text is on the line of the heading or on the next one."""
    below = heading.line + heading.length
    return _beside(lines, heading) or (below < len(lines) and bool(lines[below].text))


def _beside(lines: list[Line], heading: Heading) -> bool:
    """True if text follows on the line of the heading, other than leader dots and a page number."""
    if heading.level != ARTICLE_LEVEL:
        return False
    shown, title = (
        re.sub(r"[\s.·…]", "", text) for text in (lines[heading.line].text, heading.title)
    )
    return not (shown.endswith(title) or re.sub(r"\d{1,4}$", "", shown).endswith(title))


def headings(lines: list[Line], *, markdown: bool) -> list[Heading]:
    """Every heading in order, with its level; `markdown` as in `sections`."""
    out: list[Heading] = []
    article = 0
    fenced = False
    previous = ""
    for index, line in enumerate(lines):
        if line.noise:
            continue
        if line.text.startswith(("```", "~~~")):
            fenced = not fenced
        heading = None
        if line.text and not fenced:
            heading = _heading(lines, index, previous, article, markdown=markdown)
        if heading is not None:
            if heading.level == ARTICLE_LEVEL:
                article = int(re.findall(r"\d+", heading.title)[0])
                if article == 1:
                    out.extend(_title_above(lines, index, out))
            elif heading.level in CHAPTERS.values() and re.match(r"제1[편장절관]", heading.title):
                out.extend(_title_above(lines, index, out))
            out.append(heading)
        previous = "" if heading is not None else line.text
    return out


def _heading(
    lines: list[Line], index: int, previous: str, article: int, *, markdown: bool
) -> Heading | None:
    """The heading on line `index`, if any; `previous` is the text above, empty after a gap."""
    text = lines[index].text
    if match := MARKDOWN.match(text):
        title = _tidy(match[2])
        legal = _legal(title, "", article)
        return Heading(index, legal[0] if legal else len(match[1]), legal[1] if legal else title)
    below = lines[index + 1].text if markdown and index + 1 < len(lines) else ""
    if UNDERLINE.fullmatch(below) and not previous and len(text) <= 80 and "|" not in text:
        return Heading(index, 1 if below.startswith("=") else 2, _tidy(text), 2)
    legal = _legal(text, previous, article)
    if legal:
        return Heading(index, *legal)
    ended = not previous or bool(SENTENCE_END.search(previous))
    if ended and not SENTENCE_END.search(text):
        if ENGLISH.match(text):
            level = CHAPTERS["장"] if text.upper().startswith("CHAPTER") else ARTICLE_LEVEL
            return Heading(index, level, _tidy(text))
        if match := NUMBERED.match(text):
            return Heading(index, NUMBERED_LEVEL + match[1].count("."), _tidy(text))
    return None


def _legal(text: str, previous: str, article: int) -> tuple[int, str] | None:
    """(level, title) of a Korean chapter or article heading.

    A line that only begins with a reference, `제3조(...)에 따라`, is recognised by the text after
    the bracket, by the unfinished sentence above it, or by a number out of sequence.
    """
    ended = not previous or bool(SENTENCE_END.search(previous))
    if (match := CHAPTER.match(text)) and ended and not SENTENCE_END.search(text):
        return CHAPTERS[match[2]], _tidy(text.strip("[]<>【】〔〕() ") if text[0] != "제" else text)
    if match := ARTICLE.match(text):
        end = _closing(text, match.end() - 1)
        if end is None or re.match(r"[가-힣,·]", text[end + 1 :]):
            return None
        if ended or int(match[1]) in (article, article + 1):
            return ARTICLE_LEVEL, _tidy(text[: end + 1])
    elif (match := BARE_ARTICLE.match(text)) and ended:
        follows = match[3] is None or not re.search(
            r"(?:및|또는|부터|따라|의|에|을|를)(?:\s|$)", match[3]
        )
        if follows and int(match[1]) in (1, article, article + 1):
            return ARTICLE_LEVEL, _tidy(text)
    return None


def _closing(text: str, opening: int) -> int | None:
    """Offset of the bracket that closes the one at `opening`; None if the line has none."""
    close = CLOSING[text[opening]]
    depth = 0
    for index in range(opening, len(text)):
        depth += (text[index] == text[opening]) - (text[index] == close)
        if depth == 0:
            return index
    return None


def _title_above(lines: list[Line], index: int, known: list[Heading]) -> list[Heading]:
    """The title alone on the line above a first article, such as `출장비 규정`; at most one."""
    above = index - 1
    while above >= 0 and (lines[above].noise or not lines[above].text):
        above -= 1
    if above < 0 or (known and known[-1].line + known[-1].length > above):
        return []
    text = lines[above].text
    before = lines[above - 1].text if above and not lines[above - 1].noise else ""
    alone = not before or bool(SENTENCE_END.search(before))
    if len(text) > 60 or SENTENCE_END.search(text) or not alone or "|" in text:
        return []
    return [Heading(above, TITLE_LEVEL, _tidy(text))]


def _tidy(title: str) -> str:
    """One blank between words, none inside `제 3 조`."""
    title = re.sub(r"\s+", " ", title.strip().strip("*_"))
    return re.sub(r"제\s*(\d+)\s*([편장절관조])", r"제\1\2", title)
