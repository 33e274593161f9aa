"""Text of the pages of one document: reading order, then what only several pages together show."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

from jangin.documents.layout.gutters import ColumnSearch
from jangin.documents.layout.order import SENTENCE_END, Block, Trust, reading_order
from jangin.documents.layout.rows import rows_of
from jangin.documents.layout.runs import GlyphRun, cut_at_gaps, joined
from jangin.documents.layout.shapes import Area, Shapes, TextLine, bounding_box
from jangin.documents.layout.tables import ARTICLE_LINE, Grid, grids, header_rule, merged
from jangin.text.normalize import CONTROL, nfc

# Running heads, footers, page numbers and side tabs: text that recurs at one place of many pages.
#
# Only text at an edge is taken: nothing else of the page lies between it and the edge. What a
# browser prints above and below a page needs no second page.


FEWEST = 3
"""Smallest number of pages on which a text recurs."""
SHARE = 0.1
"""Smallest share of the pages on which a text recurs."""
NEAR = 2
"""A text recurs if it is also on a page at most this far away: left and right pages differ."""
PLACE = 4.0
"""Side, in points, of the squares in which a place is the same."""
MARGIN = 0.12
"""Upper and lower part of the page that holds running heads and footers where only two pages show
what recurs."""
DEEPEST = 4
"""Lines from the top and from the bottom that may be running heads and footers."""
LONGEST = 80
ARTICLE = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*[(（\[【]")

BROWSER_EDGE = 30.0
"""Chromium prints date, title, address and page number this near to the edges of the page (20 to 24
points), nearer than the headers of office documents are."""
BROWSER_SIZE = 8.5
"""Largest type of them in points (8)."""
MOMENT = re.compile(
    r"\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}[.,]{0,2} ?\D{0,6}\d{1,2}:\d\d(?::\d\d)? ?\D{0,6}"
)
ADDRESS = re.compile(r"(?:https?|file|about|data|blob|chrome-extension):\S+")
PAGE_OF = re.compile(r"\d+/\d+")

Key = tuple[str, str, int, int]


def running(pages: Sequence[tuple[Area, list[GlyphRun], list[Grid]]]) -> list[list[GlyphRun]]:
    """For each page (area, runs cut at wide gaps, grids) its runs that are no part of the text.

    A page that has nothing else keeps them.
    """
    edges = [list(_edge_rows(area, runs)) for area, runs, _ in pages]
    keys = [
        {id(run): list(_keys(run)) for run in {id(r): r for _, row in rows for r in row}.values()}
        for rows in edges
    ]
    seen: dict[Key, list[int]] = defaultdict(list)
    for number, own in enumerate(keys):
        for key in chain.from_iterable(own.values()):
            seen[key].append(number)
    often = 2 if len(pages) == 2 else max(FEWEST, int(len(pages) * SHARE))
    peeled: list[list[GlyphRun]] = []
    for number, (rows, own, (area, runs, tables)) in enumerate(
        zip(edges, keys, pages, strict=True)
    ):

        def pages_with(run: GlyphRun, own: dict[int, list[Key]] = own, number: int = number) -> int:
            counts = [len(seen[key]) for key in own[id(run)] if _is_near(seen[key], number)]
            return max(counts, default=0)

        counts = {id(run): pages_with(run) for _, row in rows for run in row}
        recurring = {one for one, count in counts.items() if count >= often}
        if len(pages) == 2:
            recurring &= _in_margins(area, runs)
        for grid in tables:
            if any(_inside(run, grid) for run in runs if id(run) in recurring):
                inside = [id(run) for run in runs if _inside(run, grid)]
                if not recurring.issuperset(inside):
                    recurring -= set(inside)
        peeled.append(list(_peeled(rows, recurring)))
    if len(pages) == 2:
        peeled = _on_both(peeled, keys)
    out = []
    for gone, (area, runs, _) in zip(peeled, pages, strict=True):
        taken = {id(run) for run in gone}
        gone += [run for run in _of_browser(area, runs) if id(run) not in taken]
        out.append(gone if len(gone) < len(runs) else [])
    return out


def _on_both(
    peeled: list[list[GlyphRun]], keys: list[dict[int, list[Key]]]
) -> list[list[GlyphRun]]:
    """What is at the edge of both pages; on one of them, a line of text is like a line below it."""
    first, second = (
        {key for run in runs for key in own[id(run)]}
        for runs, own in zip(peeled, keys, strict=True)
    )
    return [
        [run for run in runs if not other.isdisjoint(own[id(run)])]
        for runs, own, other in zip(peeled, keys, (second, first), strict=True)
    ]


def _of_browser(area: Area, runs: list[GlyphRun]) -> list[GlyphRun]:
    """What Chromium prints in the margins: date and title above, address and page number below.

    Nothing unless all of them but the title are there, each in its corner of the page.
    """
    small = [run for run in runs if run.size <= BROWSER_SIZE and not run.bold and not run.turned]
    above = [run for run in small if run.middle > area.top - BROWSER_EDGE]
    below = [run for run in small if run.middle < area.bottom + BROWSER_EDGE]
    at_edges = sum(
        not area.bottom + BROWSER_EDGE <= run.middle <= area.top - BROWSER_EDGE for run in runs
    )
    if not above or len(below) != 2 or len(above) + len(below) != at_edges:
        return []
    moment = min(above, key=lambda run: run.left)
    address, number = sorted(below, key=lambda run: run.left)
    in_corners = (
        max(moment.left, address.left) < area.left + BROWSER_EDGE
        and number.right > area.right - BROWSER_EDGE
        and len(rows_of(above)) == len(rows_of(below)) == 1
    )
    patterns = ((moment, MOMENT), (address, ADDRESS), (number, PAGE_OF))
    if in_corners and all(shape.fullmatch(joined(run.glyphs)) for run, shape in patterns):
        return above + below
    return []


def _inside(run: GlyphRun, grid: Grid) -> bool:
    return len(grid.cells) + len(grid.cells[0]) > 2 and grid.area.holds(
        (run.left + run.right) / 2, run.middle
    )


def _in_margins(area: Area, runs: list[GlyphRun]) -> set[int]:
    """Ids of the runs above and below the text that are in no larger type than it.

    A title may recur on two pages, too, such as the two copies of a form.
    """
    glyphs = sum(len(run.glyphs) for run in runs)
    usual = count = 0.0
    for run in sorted(runs, key=lambda one: one.size):
        usual, count = run.size, count + len(run.glyphs)
        if count >= glyphs / 2:
            break
    depth = MARGIN * (area.top - area.bottom)
    return {
        id(run)
        for run in runs
        if not run.bold
        and run.size <= usual + 0.1
        and not area.bottom + depth < run.middle < area.top - depth
    }


def _is_near(numbers: list[int], number: int) -> bool:
    return any(0 < abs(other - number) <= NEAR for other in numbers)


def _keys(run: GlyphRun) -> Iterator[Key]:
    """What a text is, but for its digits, and where it begins, ends and has its middle."""
    text = joined(run.glyphs)
    if len(text) > LONGEST or ARTICLE.match(text):
        return
    shape = re.sub(r"\d+", "0", text.replace(" ", ""))
    for side, x in (("l", run.left), ("r", run.right), ("m", (run.left + run.right) / 2)):
        for shift in (0.0, PLACE / 2):
            y = int((run.middle + shift) // PLACE)
            yield f"{side}{shift}", shape, int((x + shift) // PLACE), y


def _edge_rows(area: Area, runs: list[GlyphRun]) -> Iterator[tuple[str, list[GlyphRun]]]:
    """(edge, runs) line by line from the upper and the lower edge, and all beside the text."""
    wide = [run for run in runs if run.right - run.left > (area.right - area.left) / 4]
    if len(wide) >= FEWEST:
        left, right = min(run.left for run in wide) - 1, max(run.right for run in wide) + 1
        beside = [run for run in runs if run.right <= left or run.left >= right]
        if beside:
            yield "side", beside
        aside = {id(run) for run in beside}
        runs = [run for run in runs if id(run) not in aside]
    rows = rows_of(runs)
    for row in rows[:DEEPEST]:
        yield "top", row.runs
    for row in rows[: -DEEPEST - 1 : -1]:
        yield "bottom", row.runs


def _peeled(rows: list[tuple[str, list[GlyphRun]]], recurring: set[int]) -> Iterator[GlyphRun]:
    """The recurring runs up to the first line of each edge that has other text."""
    taken: set[int] = set()
    closed: set[str] = set()
    for edge, row in rows:
        if edge in closed:
            continue
        text = [run for run in row if id(run) not in recurring]
        apart = [run for run in row if id(run) in recurring and id(run) not in taken]
        while edge != "side" and (
            near := [r for r in apart if any(_is_next_to(r, t) for t in text)]
        ):
            text += near
            apart = [run for run in apart if run not in near]
        taken.update(id(run) for run in apart)
        yield from apart
        if edge != "side" and text:
            closed.add(edge)


def _is_next_to(run: GlyphRun, other: GlyphRun) -> bool:
    """True if a run on the same line is too near to be a page number beside a title."""
    reach = 2 * other.height
    return run.left < other.right + reach and run.right > other.left - reach


# Footnotes: from the foot of their page to the end of the section that they belong to.


MARK = re.compile(r"(\d{1,2}|[*†‡§]|주)\s*[.)]?\s*\S")
SMALL = 0.93
"""Largest size of footnotes, as a share of the size of the text."""
LARGE = 1.1
"""Smallest size of a heading, as a share of the size of the text."""
ABOVE = 16.0
"""The rule above footnotes is at most this many points over the first line."""


def move_footnotes(pages: list[list[Block]], rules: Sequence[list[Area]]) -> None:
    """Move the footnotes of each page, in place.

    They go before the next heading after their reference; where none follows on the page, to its
    end, unless a sentence continues on the next page: then to the end of the section on the next.
    """
    waiting: list[Block] = []
    for number, blocks in enumerate(pages):
        size = _body_size(blocks)
        notes = _taken(blocks, rules[number], size)
        for note in waiting:
            _insert(blocks, note, 0, size)
        waiting = []
        for note in notes:
            at = _reference(blocks, note)
            is_last = number == len(pages) - 1
            if not _insert(blocks, note, at, size, only_before_heading=not is_last):
                if _ends_inside_sentence(blocks):
                    waiting.append(note)
                else:
                    blocks.append(note)


def _body_size(blocks: list[Block]) -> float:
    """The font size of most letters."""
    sizes: Counter[float] = Counter()
    for block in blocks:
        for line in block.lines:
            sizes[line.size] += len(line.text)
    return max(sizes, key=lambda size: sizes[size]) if sizes else 0.0


def _taken(blocks: list[Block], rules: list[Area], size: float) -> list[Block]:
    """The footnotes of a page, taken out of its blocks: with a mark, or amid a sentence."""
    notes: list[Block] = []
    for block in list(blocks):
        if block.xs:
            continue
        for index, line in enumerate(block.lines):
            tail = block.lines[index:]
            if (
                (MARK.match(line.text) or (index and _goes_on(block.lines[index - 1])))
                and all(one.size <= SMALL * size for one in tail)
                and any(_is_over(rule, line) for rule in rules)
            ):
                notes.append(Block(tail, bounding_box(tail)))
                block.lines = block.lines[:index]
                break
        if not block.lines:
            blocks.remove(block)
    return notes


def _is_over(rule: Area, line: TextLine) -> bool:
    """True if a short rule is right above the line, from its left margin on."""
    return (
        0 <= rule.bottom - line.top + 4 <= ABOVE
        and abs(rule.left - line.left) < 2 * line.size + 10
        and rule.right - rule.left < 250
    )


def _reference(blocks: list[Block], note: Block) -> int:
    """Number of the first line of the page that refers to the footnote; the last without one."""
    lines = [line for block in blocks for line in block.lines]
    if (written := MARK.match(note.lines[0].text)) is None:
        return len(lines)
    pattern = re.compile(rf"[^\W\d][)\]”’\"'.,]*\s?{re.escape(written[1])}(?!\d)")
    return next((i for i, line in enumerate(lines) if pattern.search(line.text)), len(lines))


def _insert(
    blocks: list[Block], note: Block, start: int, size: float, *, only_before_heading: bool = False
) -> bool:
    """Put a footnote before the first heading after line `start`, else at the end of the page."""
    count = 0
    for index, block in enumerate(blocks):
        for number, line in enumerate(block.lines):
            count += 1
            if (count - 1 <= start and start) or block.xs or not _is_heading(line, size):
                continue
            before, after = block.lines[:number], block.lines[number:]
            parts = [Block(part, bounding_box(part)) for part in (before, after) if part]
            parts.insert(len(parts) - 1, note)
            blocks[index : index + 1] = parts
            return True
    if only_before_heading:
        return False
    blocks.append(note)
    return True


def _is_heading(line: TextLine, size: float) -> bool:
    larger = line.size >= LARGE * size or (line.bold and not SENTENCE_END.search(line.text))
    return bool(ARTICLE_LINE.match(line.text)) or larger


def _ends_inside_sentence(blocks: list[Block]) -> bool:
    last = next((b.lines[-1] for b in reversed(blocks) if b.lines and not b.xs), None)
    return last is not None and _goes_on(last)


def _goes_on(line: TextLine) -> bool:
    """True if a line does not end a sentence."""
    return bool(line.text) and not SENTENCE_END.search(line.text)


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
    runs: list[GlyphRun] = field(default_factory=list)
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
        columns = ColumnSearch(page.columns, known)
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


def _draws_spaces(runs: Iterable[GlyphRun]) -> bool:
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
