"""Ruled tables on a picture of a page: cells by their boxes, their lines as rows of Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jangin.documents.layout.gutters import Box

FILLED = 0.7
"""Share of the box around all cells that they fill in a table; boxes side by side fill less."""
LONG_CELL = 900
"""Characters from which on a cell is text in a frame, and the grid no table."""
LONGEST_REPEATED = 200
"""Characters of a cell over several rows that is written in each of them."""


@dataclass(frozen=True, slots=True)
class PictureCell:
    """A cell of a table; rows and columns are counted from 0."""

    table: Box
    row: int
    column: int
    rows: int = 1
    """Number of rows that it covers."""


def cells_of(boxes: Sequence[Box], dpi: int) -> list[PictureCell]:
    """The cell of each box of a table; empty where the boxes are no table of rows and columns."""
    tops = _edges((box.top for box in boxes), dpi // 10)
    lefts = _edges((box.left for box in boxes), dpi // 10)
    if len(tops) < 2 or len(lefts) < 2 or len(boxes) < 4:
        return []
    table = boxes[0]
    for box in boxes:
        table = table.joined(box)
    if sum(map(_size, boxes)) < FILLED * _size(table):
        return []
    out = []
    for box in boxes:
        row = _nearest(tops, box.top)
        below = [number for number, top in enumerate(tops) if top < box.bottom - dpi // 20]
        out.append(PictureCell(table, row, _nearest(lefts, box.left), max(1, len(below) - row)))
    return out


def _size(box: Box) -> int:
    return (box.bottom - box.top) * (box.right - box.left)


def _edges(positions: Iterable[int], near: int) -> list[int]:
    """Positions in order, with those that are nearer than `near` as one."""
    out: list[int] = []
    for position in sorted(positions):
        if not out or position - out[-1] > near:
            out.append(position)
    return out


def _nearest(edges: Sequence[int], position: int) -> int:
    return min(range(len(edges)), key=lambda number: abs(edges[number] - position))


def table_rows(cells: Sequence[tuple[PictureCell, str]]) -> list[tuple[str, list[int]]]:
    """(row of Markdown, numbers of the entries of `cells` in it) of each row of one table.

    Entries of the same cell are its lines. A cell over several rows is in each of them, unless it
    is long. Empty where the entries are no table: one column has text, or a cell is long.
    """
    columns = sorted({cell.column for cell, _ in cells})
    fields: dict[int, dict[int, list[int]]] = {}
    for number, (cell, _) in enumerate(cells):
        fields.setdefault(cell.row, {}).setdefault(cell.column, []).append(number)
    lengths = [
        sum(len(cells[number][1]) for number in numbers)
        for row in fields.values()
        for numbers in row.values()
    ]
    if len(columns) < 2 or len(fields) < 2 or max(lengths) > LONG_CELL:
        return []
    for row in sorted(fields):
        for column, numbers in list(fields[row].items()):
            cell = cells[numbers[0]][0]
            if cell.row == row and sum(len(cells[n][1]) for n in numbers) <= LONGEST_REPEATED:
                for below in range(row + 1, row + cell.rows):
                    if below in fields:
                        fields[below].setdefault(column, numbers)
    out = []
    for _, row_fields in sorted(fields.items()):
        own = (row_fields.get(column, ()) for column in columns)
        texts = [" ".join(cells[number][1] for number in numbers) for numbers in own]
        line = "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
        out.append((line, sorted(n for numbers in row_fields.values() for n in numbers)))
    return out


def header_line(row: str) -> str:
    """The line below the header of a Markdown table."""
    return "|" + " --- |" * (row.replace("\\|", "").count("|") - 1)
