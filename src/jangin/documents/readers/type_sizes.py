"""Headings by the type they are set in: what is larger than the text, or bold and alone."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jangin.documents.layout.shapes import TextLine
from jangin.documents.outline.contents import CONTENTS_TITLE, LEADER
from jangin.documents.outline.legal import ARTICLE, CHAPTER, MARK, SENTENCE_END
from jangin.documents.readers.reader import PageReading

LARGER = 1.15
"""A line this many times as large as the text is a heading."""
SAME = 1.06
"""Sizes that differ by less are one."""
RARE = 0.25
"""Bold marks nothing where more than this share of the text is bold."""
LONGEST = 120
LARGE_LEVELS = 3
"""Number of sizes that have a level of their own; bold type is one level deeper."""
ARTICLES = 5
"""From this number of 제N조 on, a text has the headings of law, and only titles are marked."""
LANDSCAPE = 1.15
"""Pages this many times as wide as high are slides."""
TOP = 0.55
"""The title of a slide is in the part of the page above this share of its height."""
NUMBER = re.compile(r"\d{1,2}((?:\.\d{1,2})*)\.?\s+\S")


@dataclass(frozen=True, slots=True)
class LineBlock:
    """One line, or the lines of one wrapped heading."""

    page: int
    first: int
    """Index of its first line among the lines of the page that have text."""
    lines: tuple[TextLine, ...]
    apart: bool
    """True after a gap, at the top of a page, and below another possible heading."""

    @property
    def text(self) -> str:
        """Its lines as one."""
        return " ".join(line.text for line in self.lines)

    @property
    def size(self) -> float:
        """Size of its type in points."""
        return self.lines[0].size


def mark_headings(pages: Sequence[PageReading]) -> list[PageReading]:
    """The pages of a document with headings marked by `#`; wrapped headings become one line.

    Not marked are chapters and articles of Korean law, which their wording identifies, and the only
    title of a document, which is what the whole of it is called.
    """
    usable = [_fits(page) for page in pages]
    lines = [line for page, fits in zip(pages, usable, strict=True) if fits for line in page.lines]
    body = _body_size(lines)
    if not body:
        return list(pages)
    blocks = [
        block
        for number, (page, fits) in enumerate(zip(pages, usable, strict=True))
        if fits
        for block in _blocks(number, page, body)
    ]
    if sum(ARTICLE.match(line.text) is not None for line in lines) >= ARTICLES:
        levels = _titles_of_law(blocks, lines, body)
    elif _landscape(lines):
        levels = _slides(blocks, body)
    else:
        levels = _levels(blocks, lines, body)
    out = list(pages)
    for number in {block.page for block in levels}:
        own = {b.first: (b, level) for b, level in levels.items() if b.page == number}
        out[number] = _written(pages[number], own)
    return out


def _fits(page: PageReading) -> bool:
    """True if the page has one `TextLine` for each line with text."""
    return bool(page.lines) and sum(map(bool, page.text.split("\n"))) == len(page.lines)


def _is_row(line: TextLine) -> bool:
    return line.text.startswith("|")


def _body_size(lines: Sequence[TextLine]) -> float:
    """Size of most letters, in points; 0 without text."""
    sizes: Counter[float] = Counter()
    for line in lines:
        if not _is_row(line):
            sizes[round(line.size * 2) / 2] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _blocks(number: int, page: PageReading, body: float) -> Iterator[LineBlock]:
    """Lines that can be headings, with those joined that continue one another."""
    gaps = _gaps(page)
    index = 0
    after_heading = True
    while index < len(page.lines):
        first = index
        group = [page.lines[index]]
        index += 1
        if not _can_be_heading(group[0].text):
            after_heading = False
            continue
        special = group[0].bold or group[0].size >= LARGER * body
        while special and index < len(page.lines) and index not in gaps:
            if not _continues(group, page.lines[index]):
                break
            group.append(page.lines[index])
            index += 1
        block = LineBlock(number, first, tuple(group), first in gaps or after_heading)
        after_heading = True
        if len(block.text) <= LONGEST and not _ends_sentence(block.text):
            yield block


def _gaps(page: PageReading) -> set[int]:
    """Indices of the lines with text at the top of the page or after an empty line."""
    out, index, gap = set(), 0, True
    for text in page.text.split("\n"):
        if not text:
            gap = True
            continue
        if gap:
            out.add(index)
        index, gap = index + 1, False
    return out


def _can_be_heading(text: str) -> bool:
    """True for text with letters that is no row, item of a list, entry of contents or article."""
    law = ARTICLE.match(text) or CHAPTER.match(text)
    letters = sum(1 + ("가" <= c <= "힣") for c in text if c.isalpha())
    listed = MARK.match(text) or LEADER.search(text)
    return not (law or text.startswith("|") or letters < 3 or listed)


def _ends_sentence(text: str) -> bool:
    return bool(SENTENCE_END.search(text)) and not text.endswith("?")


def _continues(group: list[TextLine], line: TextLine) -> bool:
    """True if the line is the rest of the heading: the same type, right below."""
    last = group[-1]
    alike = last.bold == line.bold and abs(last.size - line.size) < 0.5
    near = 0 <= last.bottom - line.bottom < 2.2 * max(last.size, 1.0)
    return alike and near and not NUMBER.match(line.text) and not MARK.match(line.text)


def _landscape(lines: Sequence[TextLine]) -> bool:
    return max(line.right for line in lines) > LANDSCAPE * max(line.top for line in lines)


def _titles_of_law(
    blocks: list[LineBlock], lines: Sequence[TextLine], body: float
) -> dict[LineBlock, int]:
    """Titles larger than every chapter and article, if there are two or more."""
    largest = max(
        line.size for line in lines if ARTICLE.match(line.text) or CHAPTER.match(line.text)
    )
    least = max(LARGER * body, SAME * largest)
    titles = {
        block: 1
        for block in blocks
        if block.size >= least and block.page > 0 and not CONTENTS_TITLE.match(block.text)
    }
    return titles if len(titles) > 1 else {}


def _slides(blocks: list[LineBlock], body: float) -> dict[LineBlock, int]:
    """The title of each slide, 1, and other lines in large type, 2."""
    out: dict[LineBlock, int] = {}
    height = max((line.top for block in blocks for line in block.lines), default=0.0)
    for number in sorted({block.page for block in blocks}):
        large = [b for b in blocks if b.page == number and b.size >= LARGER * body]
        if not large:
            continue
        top = [block for block in large if block.lines[0].top >= TOP * height] or large
        title = max(top, key=lambda block: (block.size, -block.first))
        out.update({block: 1 if block is title else 2 for block in large})
    return out


def _levels(
    blocks: list[LineBlock], lines: Sequence[TextLine], body: float
) -> dict[LineBlock, int]:
    """{heading: level}: by size from the largest on, then bold type and capitals."""
    large = [block for block in blocks if block.size >= LARGER * body]
    sizes = _sizes(large)
    marked = {block: _rank(block.size, sizes) for block in large if _rank(block.size, sizes)}
    deepest = max(marked.values(), default=0)
    text = [line for line in lines if not _is_row(line)]
    bold = sum(len(line.text) for line in text if line.bold)
    if bold <= RARE * sum(len(line.text) for line in text):
        level_with_text = [b for b in blocks if body - 0.5 <= b.size < LARGER * body]
        for block in level_with_text:
            if not block.apart:
                continue
            if _bold(block) or (not deepest and _capitals(block.text)):
                number = NUMBER.match(block.text)
                marked[block] = min(6, deepest + 1 + (number[1].count(".") if number else 0))
    return marked if len(marked) > 1 else {}


def _bold(block: LineBlock) -> bool:
    return all(line.bold for line in block.lines)


def _capitals(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return len(letters) >= 4 and all(c.isascii() and c.isupper() for c in letters)


def _sizes(large: list[LineBlock]) -> list[float]:
    """The sizes that have a level, from the largest on.

    The largest has none if it is there once only, on the first page: it is that of the title of
    the whole; so has the next one, if the same is true of it.
    """
    known: list[list[LineBlock]] = []
    for block in sorted(large, key=lambda block: -block.size):
        if known and known[-1][0].size <= SAME * block.size:
            known[-1].append(block)
        else:
            known.append([block])
    while known and len(known[0]) == 1 and known[0][0].page == 0:
        known = known[1:]
    return [same[-1].size for same in known[:LARGE_LEVELS]]


def _rank(size: float, sizes: list[float]) -> int:
    """Level of a size: the number of the first one that is not larger; 0 for larger ones."""
    if sizes and size > SAME * SAME * sizes[0]:
        return 0
    return next((n for n, least in enumerate(sizes, start=1) if size >= least), len(sizes))


def _written(page: PageReading, headings: dict[int, tuple[LineBlock, int]]) -> PageReading:
    """The page with `#` before its headings."""
    text: list[str] = []
    lines: list[TextLine] = []
    index = -1
    skipped = 0
    for row in page.text.split("\n"):
        if not row:
            text.append(row)
            continue
        index += 1
        if skipped:
            skipped -= 1
            continue
        line = page.lines[index]
        if index in headings:
            block, level = headings[index]
            skipped = len(block.lines) - 1
            line = replace(
                line,
                text=f"{'#' * level} {block.text}",
                left=min(part.left for part in block.lines),
                right=max(part.right for part in block.lines),
                bottom=min(part.bottom for part in block.lines),
            )
        text.append(line.text if index in headings else row)
        lines.append(line)
    return replace(page, text="\n".join(text), lines=tuple(lines))
