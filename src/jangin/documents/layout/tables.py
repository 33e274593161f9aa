"""Ruled tables: grids of rules, their cells, and the rows as Markdown."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jangin.documents.layout.rows import LayoutRow, line_of, rows_of
from jangin.documents.layout.runs import Glyph, GlyphRun, joined, middle_of, words
from jangin.documents.layout.shapes import Area, Shapes, TextLine

SNAP = 3.0
"""Rules nearer than this, in points, are one, and rules that miss each other by less meet."""
NARROW = 6.0
"""Rows and columns narrower than this are double rules."""
LONGEST_REPEATED = 200
"""Glyphs of a cell over several rows that is written in each of them."""
ARTICLE_LINE = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*[(（\[【]")
ENUMERATOR = re.compile(r"(?:\(?\d{1,2}[).]|\(?[가-하][).]|[①-⑳•·○●▶*-])\s*")
VALUE = re.compile(r"[\d.,~%xX×+\-–/\s]*\d[\d.,~%xX×+\-–/\s]*[%원만억천백일회년월개세점명건배]*")


@dataclass(frozen=True, slots=True)
class Grid:
    """Rules that meet: a table, or a frame if it has one cell only."""

    area: Area
    xs: tuple[float, ...]
    """Edges of the columns, from left to right."""
    ys: tuple[float, ...]
    """Edges of the rows, from top to bottom."""
    cells: tuple[tuple[int, ...], ...]
    """[row][column] -> number of the cell; a merged cell has its number several times."""

    def cell(self, x: float, y: float) -> int:
        """Number of the cell at a point inside the grid."""
        column = min(max(bisect_right(self.xs, x) - 1, 0), len(self.xs) - 2)
        row = min(max(bisect_right([-edge for edge in self.ys], -y) - 1, 0), len(self.ys) - 2)
        return self.cells[row][column]

    def corner(self, cell: int) -> tuple[int, int]:
        """(row, column) of the upper left corner of a cell."""
        return next((row, line.index(cell)) for row, line in enumerate(self.cells) if cell in line)

    def rows_of(self, cell: int) -> list[int]:
        """Numbers of the rows that a cell covers, from top to bottom."""
        return [row for row, line in enumerate(self.cells) if cell in line]


Rule = tuple[float, float, float]
"""(position across its direction, start, end along it)."""


def grids(shapes: Shapes) -> list[Grid]:
    """Every grid of a page, the smallest first."""
    across = [((r.bottom + r.top) / 2, r.left, r.right) for r in shapes.across]
    down = [((r.left + r.right) / 2, r.bottom, r.top) for r in shapes.down]
    for frame in shapes.frames:
        across += [(frame.bottom, frame.left, frame.right), (frame.top, frame.left, frame.right)]
        down += [(frame.left, frame.bottom, frame.top), (frame.right, frame.bottom, frame.top)]
    across, down = merged(across), merged(down)
    out = []
    for rows, columns in _meeting(across, down):
        if (grid := _grid(rows, columns)) is not None:
            out.append(grid)
    return sorted(out, key=lambda grid: _size(grid.area))


def _size(area: Area) -> float:
    return (area.right - area.left) * (area.top - area.bottom)


def merged(rules: list[Rule]) -> list[Rule]:
    """Rules with those joined that continue or cover one another."""
    out: list[Rule] = []
    for at, start, end in sorted(rules):
        near = (i for i in range(len(out) - 1, -1, -1) if at - out[i][0] <= SNAP)
        met = [i for i in near if start <= out[i][2] + SNAP and end >= out[i][1] - SNAP]
        if met:
            there, first, last = out[met[0]]
            out[met[0]] = (there, min(first, start), max(last, end))
        else:
            out.append((at, start, end))
    return out


def _meeting(across: list[Rule], down: list[Rule]) -> list[tuple[list[Rule], list[Rule]]]:
    """Groups of rules that are connected by crossing or touching each other."""
    parent = list(range(len(across) + len(down)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for i, (y, left, right) in enumerate(across):
        for j, (x, bottom, top) in enumerate(down, start=len(across)):
            if left - SNAP <= x <= right + SNAP and bottom - SNAP <= y <= top + SNAP:
                parent[root(i)] = root(j)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = defaultdict(lambda: ([], []))
    for i, rule in enumerate(across):
        groups[root(i)][0].append(rule)
    for j, rule in enumerate(down, start=len(across)):
        groups[root(j)][1].append(rule)
    return [(rows, columns) for rows, columns in groups.values() if len(rows) > 1 and columns]


def _edges(positions: Iterable[float]) -> list[float]:
    """Positions in order, with those that are nearer than `NARROW` as one."""
    out: list[float] = []
    for position in sorted(positions):
        if not out or position - out[-1] > NARROW:
            out.append(position)
    return out


def _grid(rows: list[Rule], columns: list[Rule]) -> Grid | None:
    """The cells between the rules; open sides are closed at the ends of the rules."""
    ends = [end for _, left, right in rows for end in (left, right)]
    tips = [tip for _, bottom, top in columns for tip in (bottom, top)]
    xs = _edges([x for x, _, _ in columns] + [min(ends), max(ends)])
    ys = _edges([y for y, _, _ in rows] + [min(tips), max(tips)])[::-1]
    if len(xs) < 2 or len(ys) < 2:
        return None
    numbers = [[row * (len(xs) - 1) + i for i in range(len(xs) - 1)] for row in range(len(ys) - 1)]

    def merge(old: int, new: int) -> None:
        for line in numbers:
            line[:] = [new if number == old else number for number in line]

    for row, (upper, lower) in enumerate(pairwise(ys)):
        for column, (left, right) in enumerate(pairwise(xs)):
            if column and not _drawn(columns, left, (upper + lower) / 2):
                merge(numbers[row][column], numbers[row][column - 1])
            if row and not _drawn(rows, upper, (left + right) / 2):
                merge(numbers[row][column], numbers[row - 1][column])
    _cut_corners(numbers)
    area = Area(xs[0], ys[-1], xs[-1], ys[0])
    return Grid(area, tuple(xs), tuple(ys), tuple(tuple(line) for line in numbers))


def _cut_corners(numbers: list[list[int]]) -> None:
    """Number the parts of cells that are no rectangles, such as those around a nested table.

    A part is the rows in which the cell covers the same columns.
    """
    columns: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for row, line in enumerate(numbers):
        for column, number in enumerate(line):
            columns[number].setdefault(row, []).append(column)
    following = max(columns) + 1
    for rows in columns.values():
        for above, row in pairwise(sorted(rows)):
            if rows[row] == rows[above]:
                number = numbers[above][rows[above][0]]
            else:
                number, following = following, following + 1
            for column in rows[row]:
                numbers[row][column] = number


def _drawn(rules: list[Rule], position: float, point: float) -> bool:
    """True if some rule at this position passes the point."""
    return any(
        abs(at - position) <= NARROW and start - SNAP <= point <= end + SNAP
        for at, start, end in rules
    )


def in_cells(grid: Grid, runs: Iterable[GlyphRun]) -> dict[int, list[GlyphRun]]:
    """{cell: its runs}; a run that crosses a rule is cut there, between words.

    An article heading that is drawn over rules is not: it is in the cell in which it begins.
    """
    cells: dict[int, list[GlyphRun]] = defaultdict(list)
    for run in runs:
        first, last = grid.cell(run.left + 0.5, run.middle), grid.cell(run.right - 0.5, run.middle)
        if run.turned or first == last:
            cells[grid.cell((run.left + run.right) / 2, run.middle)].append(run)
            continue
        if ARTICLE_LINE.match(joined(run.glyphs).lstrip()):
            cells[first].append(run)
            continue
        parts: dict[int, list[Glyph]] = defaultdict(list)
        for word in words(run):
            parts[grid.cell(middle_of(word), run.middle)].extend(word)
        for cell, glyphs in parts.items():
            if part := run.part(glyphs):
                cells[cell].append(part)
    return cells


def headings_in(grid: Grid, cells: dict[int, list[GlyphRun]]) -> list[int]:
    """Cells, from top to bottom, that hold an article over all columns and have none beside them.

    Such a line is drawn into the table; it heads what is below it.
    """
    covered = {cell: set(grid.rows_of(cell)) for cell in cells}
    out = []
    for cell, runs in cells.items():
        upper = max(runs, key=lambda run: (run.middle, -run.left))
        row, column = grid.corner(cell)
        stop = column + grid.cells[row].count(cell)
        is_over = stop == len(grid.xs) - 1 or upper.right > grid.xs[stop] + 1
        if (
            column == 0
            and is_over
            and ARTICLE_LINE.match(joined(upper.glyphs).lstrip())
            and not any(other != cell and rows & covered[cell] for other, rows in covered.items())
        ):
            out.append(cell)
    return sorted(out, key=grid.corner)


def table_lines(
    grid: Grid, cells: dict[int, list[GlyphRun]], *, by_position: bool, spaced: bool
) -> list[TextLine]:
    """Rows of Markdown, without the line below the header.

    A cell over several rows is in each of them, unless it is long; one over several columns only in
    its first. `spaced`: the file draws the spaces at line ends, so that lines without one are
    joined without.
    """
    rows: dict[int, dict[int, list[LayoutRow]]] = defaultdict(dict)
    above: dict[int, dict[int, list[LayoutRow]]] = defaultdict(dict)
    for cell, runs in cells.items():
        row, column = grid.corner(cell)
        rows[row][column] = rows_of(runs)
        if sum(len(run.glyphs) for run in runs) <= LONGEST_REPEATED:
            for other in grid.rows_of(cell)[1:]:
                above[other][column] = rows[row][column]
    used = sorted({column for columns in rows.values() for column in columns})
    out = []
    for number, columns in sorted(rows.items()):
        for part in _aligned(columns):
            fields = {**above[number], **part}
            texts = [
                _cell_text(fields.get(column, []), by_position=by_position, spaced=spaced)
                for column in used
            ]
            lines = [line for cell in part.values() for line in cell]
            area = Area(
                grid.xs[0],
                min(line.bottom for line in lines),
                grid.xs[-1],
                max(line.top for line in lines),
            )
            runs = [run for line in lines for run in line.runs]
            out.append(line_of("| " + " | ".join(texts) + " |", runs, area))
    return out


def header_rule(line: TextLine) -> TextLine:
    """The line below the header of a Markdown table."""
    columns = len(re.findall(r"(?<!\\)\|", line.text)) - 1
    text = "|" + " --- |" * columns
    return TextLine(
        text, line.left, line.right, line.bottom, line.bottom, line.size, bold=line.bold
    )


def _cell_text(rows: Sequence[LayoutRow], *, by_position: bool, spaced: bool) -> str:
    """Lines of a cell as one, with `|` escaped.

    Only a line that is full can break inside a word.
    """
    text = ""
    full = max((row.right for row in rows), default=0.0)
    before: LayoutRow | None = None
    for row in rows:
        part = row.line(by_position=by_position).text.replace("|", "\\|")
        broken = (
            spaced
            and before is not None
            and not before.ends_with_space
            and before.right > full - 1.5 * (before.top - before.bottom)
        )
        if broken and _is_hangul(text[-1:]) and _is_hangul(part[:1]):
            text += part
        else:
            text += f" {part}" if text else part
        before = row
    return text


def _is_hangul(character: str) -> bool:
    return "가" <= character <= "힣"


def _aligned(columns: dict[int, list[LayoutRow]]) -> list[dict[int, list[LayoutRow]]]:
    """One ruled row as the rows that a reader sees: lists of several columns, line by line.

    It is cut only where each part begins with an enumerator and has one line of every other
    column, or where all columns have lines at the same heights and one of them only values.
    """
    first = min(columns)
    lines = columns[first]
    others = {column: cell for column, cell in columns.items() if column != first}
    if not others or len(lines) < 2 or any(len(cell) < 2 for cell in others.values()):
        return [columns]
    starts = [i for i, row in enumerate(lines) if ENUMERATOR.match(_plain(row))]
    if len(starts) < 2 or starts[0] != 0:
        level = all(
            len(cell) == len(lines)
            and all(abs(a.middle - b.middle) < 3 for a, b in zip(cell, lines, strict=True))
            for cell in others.values()
        )
        values = any(all(VALUE.fullmatch(_plain(r)) for r in cell) for cell in others.values())
        if not (level and values):
            return [columns]
        starts = list(range(len(lines)))
    parts: list[dict[int, list[LayoutRow]]] = []
    for start, stop in pairwise([*starts, len(lines)]):
        top = lines[start].top + 1 if start else float("inf")
        bottom = lines[stop].top + 1 if stop < len(lines) else float("-inf")
        part = {first: lines[start:stop]}
        for column, cell in others.items():
            part[column] = [row for row in cell if bottom <= row.middle < top]
            if len(part[column]) != 1:
                return [columns]
        parts.append(part)
    return parts


def _plain(row: LayoutRow) -> str:
    return row.line(by_position=False).text
