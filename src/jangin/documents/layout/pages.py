"""Text of the pages of one document: reading order, then what only several pages together show."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from jangin.documents.layout.footnotes import move_footnotes
from jangin.documents.layout.gutters import Columns
from jangin.documents.layout.order import Block, Trust, reading_order
from jangin.documents.layout.running import running
from jangin.documents.layout.runs import Run, cut_at_gaps, joined
from jangin.documents.layout.shapes import Area, Shapes
from jangin.documents.layout.tables import grids, header_rule, merged
from jangin.documents.layout.text_line import TextLine
from jangin.text.normalize import CONTROL, nfc

SAME_COLUMN = 6.0
"""A table continues on the next page if all of its columns begin at most this far away."""
A4 = Area(0, 0, 595, 842)
PROSE = 20
"""Glyphs of a line that shows whether the file draws spaces at line ends."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """What the text layer of one page draws, in points on the upright page."""

    area: Area = A4
    """The page; its lower left corner is 0, 0."""
    runs: list[Run] = field(default_factory=list)
    """In the order in which the file draws them."""
    shapes: Shapes = field(default_factory=Shapes)
    columns: int | None = None
    """Number of columns that a person gave; None to find them."""


@dataclass(frozen=True, slots=True)
class LaidOutPage:
    """Text of one page in reading order."""

    text: str
    """NFC; an empty line at each gap as large as between paragraphs, and around tables."""
    lines: tuple[TextLine, ...]
    """One for each line that is not empty."""
    removed: tuple[str, ...]
    """Running heads, footers, side tabs and repeated table headers that are not in the text."""
    crossed: int = 0
    """Lines across what may be a gutter."""


def lay_out(pages: Sequence[PageContent], *, by_position: bool) -> list[LaidOutPage]:
    """The pages of one document; `by_position` where drawing order cannot be trusted in lines."""
    cut = [[piece for run in page.runs for piece in cut_at_gaps(run)] for page in pages]
    page_grids = [grids(page.shapes) if page.runs else [] for page in pages]
    contents = list(zip((page.area for page in pages), cut, page_grids, strict=True))
    how = Trust(by_position, _draws_spaces(run for page in pages for run in page.runs))
    heads = running(contents)
    blocks: list[list[Block]] = []
    removed: list[list[str]] = []
    known: list[float] = []
    crossed: list[int] = []
    for page, (area, runs, own), recurring in zip(pages, contents, heads, strict=True):
        gone = {id(run) for run in recurring}
        kept = [run for run in runs if id(run) not in gone]
        columns = Columns(page.columns, known)
        blocks.append(reading_order(area, kept, own, how, columns, _long(page)))
        crossed.append(columns.crossed)
        removed.append([joined(run.glyphs) for run in recurring])
    continued = _continued(blocks, removed)
    move_footnotes(blocks, [page.shapes.across for page in pages])
    out = []
    for own_blocks, furniture, continues, across in zip(
        blocks, removed, continued, crossed, strict=True
    ):
        out.append(replace(_composed(own_blocks, furniture, continues), crossed=across))
    return out


def _long(page: PageContent) -> list[Area]:
    """Horizontal rules over a third of the page or more; those drawn piece by piece are joined."""
    least = (page.area.right - page.area.left) / 3
    across = [((r.bottom + r.top) / 2, r.left, r.right) for r in page.shapes.across]
    return [Area(left, y, right, y) for y, left, right in merged(across) if right - left > least]


def _draws_spaces(runs: Iterable[Run]) -> bool:
    """True if a tenth of the longer lines end with a space."""
    ends: Counter[bool] = Counter()
    for run in runs:
        if len(run.glyphs) >= PROSE:
            last = run.glyphs[-1]
            ends[last.character == " " and last.right > last.left] += 1
    return ends[True] > 0.1 * ends.total()


def _continued(blocks: list[list[Block]], removed: list[list[str]]) -> list[bool]:
    """Whether the first block of each page continues a table of the page before.

    A header that is repeated there is taken out.
    """
    out = [False] * len(blocks)
    header = ""
    for number, (before, page) in enumerate(pairwise(blocks), start=1):
        if not (before and page and _continues(before[-1], page[0])):
            continue
        out[number] = True
        if not (out[number - 1] and len(before) == 1):
            header = before[-1].lines[0].text
        if page[0].lines[0].text == header:
            removed[number].append(header)
            page[0] = Block(page[0].lines[1:], page[0].area, page[0].xs)
    return out


def _continues(before: Block, after: Block) -> bool:
    return len(before.xs) == len(after.xs) > 0 and all(
        abs(a - b) <= SAME_COLUMN for a, b in zip(before.xs, after.xs, strict=True)
    )


def _composed(blocks: list[Block], removed: list[str], continues: bool) -> LaidOutPage:
    """Blocks as text."""
    steps = [
        step
        for block in blocks
        if not block.xs
        for a, b in pairwise(block.lines)
        if (step := a.bottom - b.bottom) > 1
    ]
    gap = 1.5 * sorted(steps)[len(steps) // 2] if steps else float("inf")
    text: list[str] = []
    lines: list[TextLine] = []
    previous: Block | None = None
    for index, block in enumerate(blocks):
        for number, line in enumerate(block.lines):
            if not (clean := nfc(CONTROL.sub("", line.text)).strip()):
                continue
            if lines and _is_apart(
                lines[-1], line, gap, number == 0 and _is_table(previous, block)
            ):
                text.append("")
            text.append(clean)
            lines.append(replace(line, text=clean))
            if block.xs and number == 0 and not (continues and index == 0):
                lines.append(header_rule(lines[-1]))
                text.append(lines[-1].text)
        previous = block
    return LaidOutPage("\n".join(text), tuple(lines), tuple(removed))


def _is_table(*blocks: Block | None) -> bool:
    return any(block is not None and block.xs for block in blocks)


def _is_apart(before: TextLine, line: TextLine, gap: float, table_edge: bool) -> bool:
    """True if an empty line separates the two: around tables, and between paragraphs."""
    in_table = before.text.startswith("| ") and line.text.startswith("| ")
    return table_edge or (before.bottom - line.bottom > gap and not in_table)
