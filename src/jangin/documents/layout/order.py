"""Reading order of one page: columns, lines from top to bottom, boxes and tables in their place."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.documents.layout.gutters import FEW, IN_FRAME, ColumnSearch, regions
from jangin.documents.layout.rows import PROSE, LayoutRow, in_cell_order, mixed, rows_of
from jangin.documents.layout.runs import Glyph, GlyphRun, middle_of, words
from jangin.documents.layout.shapes import Area, TextLine, bounding_box
from jangin.documents.layout.tables import (
    ARTICLE_LINE,
    Grid,
    headings_in,
    in_cells,
    table_lines,
)

LONG_CELL = 900
"""A grid with a cell of more characters is a frame around text, not a table."""
SENTENCE_END = re.compile(r"[.!?。][\"'”’)\]」』]*$")


@dataclass(slots=True)
class Block:
    """Lines that stay together: a paragraph or more, or the rows of a table."""

    lines: list[TextLine]
    area: Area
    xs: tuple[float, ...] = ()
    """Edges of the columns of a table; empty for text."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the order of drawing is trusted within a line."""

    by_position: bool = False
    """True to sort the characters of lines that jump back."""
    spaced: bool = False
    """True if the file draws the spaces at line ends."""


def reading_order(
    area: Area,
    runs: Sequence[GlyphRun],
    grids: Sequence[Grid],
    how: Trust,
    columns: ColumnSearch,
    rules: Sequence[Area] = (),
) -> list[Block]:
    """Text and tables of an area in the order in which they are read; runs are cut at wide gaps.

    `grids`: the grids of the area, the smallest first; `columns`: how its columns are found;
    `rules`: horizontal rules, which part the zones of columns.
    """
    outer = [
        grid
        for index, grid in enumerate(grids)
        if not any(other.area.surrounds(grid.area) for other in grids[index + 1 :])
    ]
    inside: list[list[GlyphRun]] = [[] for _ in outer]
    free: list[GlyphRun] = []
    for run in runs:
        for home, part in _shared(run, outer):
            (free if home is None else inside[home]).append(part)
    units: list[tuple[Area, list[Block]]] = []
    drawings: list[Area] = []
    for grid, members in zip(outer, inside, strict=True):
        if _is_inline(members, free):
            free.extend(members)
        elif members:
            nested = [one for one in grids if one is not grid and grid.area.surrounds(one.area)]
            units.append((grid.area, _unit(grid, members, nested, how)))
        else:
            drawings.append(grid.area)
    blocks: list[Block] = []
    solid = [*(unit for unit, _ in units), *drawings, *rules]
    for column, areas in regions(area, free, solid, columns):
        own = [unit for unit in units if unit[0] in areas]
        rows = in_cell_order(rows_of(column))
        if (lines := mixed(rows)) >= FEW:
            columns.crossed = max(columns.crossed, lines)
        asides = _asides(rows)
        own += [(row.area, [_lines(row.runs, how)]) for row in asides]
        blocks.extend(_placed([row for row in rows if row not in asides], own, how))
    return blocks


def _shared(run: GlyphRun, outer: list[Grid]) -> list[tuple[int | None, GlyphRun]]:
    """(index of the grid or None, run): a run that sticks out of a grid is cut at its edge."""
    for index, grid in enumerate(outer):
        area = grid.area
        if not area.bottom <= run.middle <= area.top:
            continue
        if run.right <= area.left + 1 or run.left >= area.right - 1:
            continue
        if run.turned or (run.left >= area.left - 2 and run.right <= area.right + 2):
            return [(index, run)]
        sides: dict[int, list[Glyph]] = {}
        for word in words(run):
            x = middle_of(word)
            sides.setdefault((x > area.left) + (x > area.right), []).extend(word)
        parts = [(side, run.part(glyphs)) for side, glyphs in sorted(sides.items())]
        rest = [one for i, one in enumerate(outer) if i != index]
        out: list[tuple[int | None, GlyphRun]] = []
        for side, part in parts:
            if part is None:
                continue
            if side == 1:
                out.append((index, part))
                continue
            for home, piece in _shared(part, rest):
                out.append((None if home is None else home + (home >= index), piece))
        return out
    return [(None, run)]


def _is_inline(members: list[GlyphRun], free: list[GlyphRun]) -> bool:
    """True if a frame holds a part of one line only, such as a shaded word."""
    rows = rows_of(members)
    if len(rows) != 1:
        return False
    row = rows[0]
    reach = 1.5 * (row.top - row.bottom)
    return any(
        row.takes(run) and run.left < row.right + reach and run.right > row.left - reach
        for run in free
    )


def _unit(grid: Grid, runs: list[GlyphRun], nested: list[Grid], how: Trust) -> list[Block]:
    """A table as one block, or the contents of a frame cell by cell."""
    cells = in_cells(grid, runs)
    places = {cell: grid.corner(cell) for cell in cells}
    columns = {column for _, column in places.values()}
    inner = [one for one in nested if len(one.cells) * len(one.cells[0]) >= 4]
    if len(columns) > 1 and not inner and not any(map(_is_text, cells.values())):
        return _table(grid, cells, how)
    blocks = []
    for cell in sorted(cells, key=lambda one: places[one]):
        own = [
            one
            for one in nested
            if grid.cell((one.area.left + one.area.right) / 2, (one.area.bottom + one.area.top) / 2)
            == cell
        ]
        blocks.extend(
            reading_order(_around(cells[cell]), cells[cell], own, how, ColumnSearch(least=IN_FRAME))
        )
    return blocks


def _table(grid: Grid, cells: dict[int, list[GlyphRun]], how: Trust) -> list[Block]:
    """The rows of a table, with the headings that are drawn into it as text between them."""
    blocks: list[Block] = []
    left = dict(cells)
    for heading in [*headings_in(grid, cells), None]:
        last = len(grid.ys) if heading is None else grid.corner(heading)[0]
        rows = {cell: left.pop(cell) for cell in list(left) if grid.corner(cell)[0] < last}
        if len({grid.corner(cell)[1] for cell in rows}) > 1:
            lines = table_lines(grid, rows, by_position=how.by_position, spaced=how.spaced)
            whole = len(rows) == len(cells)
            area = grid.area if whole else _around([run for runs in rows.values() for run in runs])
            blocks.append(Block(lines, area, grid.xs))
        elif rows:
            blocks.append(_lines([run for runs in rows.values() for run in runs], how))
        if heading is not None:
            blocks.append(_lines(left.pop(heading), how))
    return blocks


def _lines(runs: list[GlyphRun], how: Trust) -> Block:
    lines = [row.line(by_position=how.by_position) for row in rows_of(runs)]
    return Block(lines, bounding_box(lines))


def _around(runs: Sequence[GlyphRun]) -> Area:
    return Area(
        min(run.left for run in runs),
        min(run.bottom for run in runs),
        max(run.right for run in runs),
        max(run.top for run in runs),
    )


def _is_text(runs: list[GlyphRun]) -> bool:
    """True for a cell that holds articles, or more than a row of a table can."""
    if sum(len(run.glyphs) for run in runs) > LONG_CELL:
        return True
    starts = ("".join(g.character for g in run.glyphs[:12]).strip() for run in runs)
    return len(runs) > 2 and any(ARTICLE_LINE.match(start) for start in starts)


def _placed(
    rows: list[LayoutRow], units: list[tuple[Area, list[Block]]], how: Trust
) -> list[Block]:
    """Lines of one column with the boxes and tables after the line that they belong to."""
    places: dict[int, list[tuple[Area, list[Block]]]] = {}
    for unit in sorted(units, key=lambda one: (-round(one[0].top / 6), one[0].left)):
        places.setdefault(_place(rows, unit[0]), []).append(unit)
    out: list[Block] = []
    lines: list[TextLine] = []
    for index in range(len(rows) + 1):
        for _, blocks in places.get(index, ()):
            if lines:
                out.append(Block(lines, bounding_box(lines)))
                lines = []
            out.extend(blocks)
        if index < len(rows):
            line = rows[index].line(by_position=how.by_position)
            if line.text:
                lines.append(line)
    if lines:
        out.append(Block(lines, bounding_box(lines)))
    return out


def _place(rows: list[LayoutRow], unit: Area) -> int:
    """Index of the line before which a box is read.

    A label beside it comes before it if it is on the left, after it if it is on the right. Text
    that flows past it is not interrupted before the end of a sentence.
    """
    start = next((i for i, row in enumerate(rows) if row.middle < unit.top), len(rows))
    stop = next((i for i, row in enumerate(rows) if row.middle < unit.bottom), len(rows))
    beside = rows[start:stop]
    if not beside:
        if not 0 < start < len(rows) or not _goes_on(
            rows[start - 1], rows[start], rows[start].top - rows[start].bottom
        ):
            return start
        beside = rows[start : start + 1]
    height = beside[0].top - beside[0].bottom
    if start and _goes_on(rows[start - 1], beside[0], height):
        first = start - 1
    elif all(row.right <= unit.left + 2 for row in beside):
        first = stop - 1
        if rows[first].right - rows[first].left < PROSE * height:
            return stop
    else:
        return start
    for index in range(first, len(rows) - 1):
        is_end = SENTENCE_END.search(rows[index].line(by_position=False).text)
        if is_end or not _goes_on(rows[index], rows[index + 1], height):
            return index + 1
    return len(rows)


def _asides(rows: list[LayoutRow]) -> list[LayoutRow]:
    """Lines beside a paragraph that goes on below them."""
    return [
        row
        for before, row, after in zip(rows, rows[1:], rows[2:], strict=False)
        if max(before.right, after.right) < row.left
        and _goes_on(before, after, before.top - before.bottom)
    ]


def _goes_on(before: LayoutRow, row: LayoutRow, height: float) -> bool:
    """True if a line is in the paragraph of the one before it, by where they are."""
    return abs(before.left - row.left) < height and before.bottom - row.top < 0.8 * height
