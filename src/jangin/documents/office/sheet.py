"""A worksheet as text: its name as heading, its areas as Markdown tables with their header rows."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jangin.documents.readers.markdown import Cell, heading, table
from jangin.text.normalize import collapse_spaces

MOST_COVERED = 300_000
"""Fields of merged cells that are followed."""
Grid = dict[int, dict[int, "Value"]]
"""{row: {column: value}}, both from 0; empty cells are not in it."""


@dataclass(frozen=True, slots=True)
class Value:
    """One cell as it is displayed."""

    text: str
    is_number: bool = False
    """True for numbers, dates and truth values, which are no header."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A merged range, last row and column included."""

    top: int
    left: int
    bottom: int
    right: int


def sheet_text(name: str, grid: Grid, merges: Sequence[Merge]) -> str:
    """Markdown of one worksheet; empty if no cell of it is filled.

    Empty rows part areas. An area whose first row holds a number continues the table above.
    """
    blocks = [_area(rows, merges) for rows in _areas(grid)]
    text = "\n\n".join(block for block in blocks if block)
    return f"{heading(1, name)}\n\n{text}" if text else ""


def _areas(grid: Grid) -> Iterator[Grid]:
    """Runs of rows without an empty one between them."""
    area: Grid = {}
    columns: set[int] = set()
    last = -2
    for number in sorted(grid):
        row = {column: value for column, value in grid[number].items() if value.text.strip()}
        if not row:
            continue
        if area and number > last + 1 and not _continues(row, columns, area):
            yield area
            area, columns = {}, set()
        area[number] = row
        columns |= set(row)
        last = number
    if area:
        yield area


def _continues(row: Mapping[int, Value], columns: set[int], area: Grid) -> bool:
    """True if a row after a gap belongs to the table above it."""
    inside = len(area) > 1 and set(row) <= columns
    return inside and any(value.is_number for value in row.values())


def _area(grid: Grid, merges: Sequence[Merge]) -> str:
    rows = sorted(grid)
    spans = {(one.top, one.left): one for one in merges if rows[0] <= one.top <= rows[-1]}
    covered = _covered(grid, spans)
    columns = sorted({column for row in grid.values() for column in row} | {c for _, c in covered})
    cells = []
    for row in rows:
        line = []
        for column in columns:
            if (row, column) in covered:
                continue
            value = grid[row].get(column)
            span = spans.get((row, column))
            height, width = 1, 1
            if span is not None and value is not None:
                height = len(_between(rows, span.top, span.bottom))
                width = len(_between(columns, span.left, span.right))
            line.append(Cell("" if value is None else collapse_spaces(value.text), height, width))
        cells.append(line)
    return table(cells)


def _covered(grid: Grid, spans: Mapping[tuple[int, int], Merge]) -> set[tuple[int, int]]:
    """Cells of the area that are covered by a merged cell whose first cell is another one.

    A merged cell is as wide as the filled columns of the area that it spans: `A1:XFD1` costs
    nothing. Columns that hold nothing but merged cells are not shown.
    """
    rows = sorted(grid)
    used = sorted({column for row in grid.values() for column in row})
    covered: set[tuple[int, int]] = set()
    for (top, left), span in spans.items():
        if left not in grid.get(top, {}) or len(covered) > MOST_COVERED:
            continue
        inside = _between(used, span.left, span.right)
        for row in _between(rows, span.top, span.bottom):
            covered.update((row, column) for column in inside if (row, column) != (top, left))
    return covered


def _between(numbers: Sequence[int], low: int, high: int) -> Sequence[int]:
    """Those of ascending numbers that are in a range, its ends included."""
    return numbers[bisect_left(numbers, low) : bisect_right(numbers, high)]
