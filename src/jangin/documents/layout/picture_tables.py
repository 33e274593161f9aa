"""Ruled tables on a picture of a page: cells by their boxes, their lines as rows of Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from jangin.documents.layout.gutters import Mask, PixelBox, Profile, any_ink

FILLED = 0.7
"""Share of the box around all cells that they fill in a table; boxes side by side fill less."""
LONG_CELL = 900
"""Characters from which on a cell is text in a frame, and the grid no table."""
LONGEST_REPEATED = 200
"""Characters of a cell over several rows that is written in each of them."""


@dataclass(frozen=True, slots=True)
class PictureCell:
    """A cell of a table; rows and columns are counted from 0."""

    table: PixelBox
    row: int
    column: int
    rows: int = 1
    """Number of rows that it covers."""


def cells_of(boxes: Sequence[PixelBox], dpi: int) -> list[PictureCell]:
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


def _size(box: PixelBox) -> int:
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


# Tables on a picture that have no rules at their sides: the lines that would close their grids.
#
# A table here is three or more rules of one length, one below another. Its columns are found by
# the rules between them or, without these, by gutters that are white from its first rule to its
# last.
#
# Shape letters: H rows, W columns of pixels, top left first. True is a rule, or ink.


RULED = 0.15
"""Share of a side that rules cover where the table is not open there."""
BETWEEN = 0.8
"""Share of the height of a table that a rule between two columns covers."""
LEAST_RULES = 3


def closing_lines(ink_HW: Mask, across_HW: Mask, down_HW: Mask, dpi: int) -> Mask:
    """Lines to add to the rules of a page so that its open tables are grids.

    Args:
        ink_HW: type, without rules.
        across_HW: rules from left to right.
        down_HW: rules from top to bottom.
        dpi: resolution.

    """
    lines_HW = np.zeros(ink_HW.shape, dtype=bool)
    for ladder in _ladders(_segments(across_HW, dpi), dpi):
        for rules, sides, between in _tables(ladder, ink_HW, down_HW, dpi):
            rows = slice(rules[0].top, rules[-1].bottom)
            for x in (*sides, *between):
                lines_HW[rows, x : x + 2] = True
            for rule in rules:
                lines_HW[rule.top : rule.bottom, sides[0] : sides[1] + 2] = True
    return lines_HW


def _tables(
    rules: list[PixelBox], ink_HW: Mask, down_HW: Mask, dpi: int
) -> Iterator[tuple[list[PixelBox], tuple[int, int], tuple[int, ...]]]:
    """(rules, its sides, places of lines between its columns) of each open table of a ladder.

    Where a ladder is no table, it is cut at its widest gap: there may be text between two tables.
    """
    if len(rules) < LEAST_RULES:
        return
    area = rules[0]
    for rule in rules[1:]:
        area = area.joined(rule)
    margin = dpi // 25
    left, right = max(0, area.left - margin), min(ink_HW.shape[1] - 2, area.right + margin)
    rows = slice(area.top, area.bottom)
    is_open = not any(_is_ruled(down_HW, area, x, dpi) for x in (area.left, area.right))
    if is_open and not any(ink_HW[rows, x : x + 2].any() for x in (left, right)):
        between = _separators(ink_HW, down_HW, rules, area, dpi)
        if between is not None:
            if not _has_row_above(ink_HW, rules, (area.left, *between, area.right)):
                yield rules, (left, right), between
            return
    gaps = [below.top - above.bottom for above, below in pairwise(rules)]
    if max(gaps) > 1.2 * min(gaps):
        cut = gaps.index(max(gaps)) + 1
        yield from _tables(rules[:cut], ink_HW, down_HW, dpi)
        yield from _tables(rules[cut:], ink_HW, down_HW, dpi)


def _has_row_above(ink_HW: Mask, rules: list[PixelBox], edges: tuple[int, ...]) -> bool:
    """True if the first row, of the names of the columns, has no rule above it.

    Without it, the table would have a row of values for its header.
    """
    if len(edges) < 3:
        return False
    height = rules[1].top - rules[0].bottom
    strip_HW = ink_HW[max(0, rules[0].top - height) : rules[0].top]
    filled = sum(bool(strip_HW[:, start:stop].any()) for start, stop in pairwise(edges))
    is_white = not any(strip_HW[:, edge - 2 : edge + 2].any() for edge in edges[1:-1])
    return is_white and filled > 1


def _segments(across_HW: Mask, dpi: int) -> list[PixelBox]:
    """Rules of two inches or more, from top to bottom."""
    labels_HW, _ = ndimage.label(across_HW, np.ones((3, 3)))
    boxes = (
        PixelBox(rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(labels_HW)
    )
    long, thin = 2 * dpi, dpi // 12
    return [b for b in boxes if b.right - b.left >= long and b.bottom - b.top <= thin]


def _ladders(rules: list[PixelBox], dpi: int) -> Iterator[list[PixelBox]]:
    """Three or more rules of one length, each at most two inches below the one before."""
    left = list(rules)
    while left:
        ladder = [left.pop(0)]
        for rule in list(left):
            last, near = ladder[-1], dpi // 10
            gap = rule.top - last.bottom
            is_same = abs(rule.left - last.left) <= near and abs(rule.right - last.right) <= near
            if is_same and gap <= 2 * dpi:
                left.remove(rule)
                if gap >= dpi // 12:  # else the second line of a double rule
                    ladder.append(rule)
        if len(ladder) >= LEAST_RULES:
            yield ladder


def _is_ruled(down_HW: Mask, area: PixelBox, x: int, dpi: int) -> bool:
    """True if there are rules at a side of a table: it is a grid, or a part of one."""
    near = dpi // 20
    side_HW = down_HW[area.top : area.bottom, max(0, x - near) : x + near]
    return bool(any_ink(side_HW, axis=1).mean() >= RULED)


def _separators(
    ink_HW: Mask, down_HW: Mask, rules: list[PixelBox], area: PixelBox, dpi: int
) -> tuple[int, ...] | None:
    """Places of the lines to add between columns; None where there are no two columns.

    Empty where rules separate the columns already. Without such rules, a space between two rules is
    a row only if no two columns have several lines in it: these could be rows that no rule parts.
    """
    inside = np.s_[area.top : area.bottom, area.left : area.right]
    near = dpi // 20
    ruled_W = down_HW[inside].mean(axis=0) >= BETWEEN
    if ruled_W[near:-near].any():
        return ()
    gutters = [
        (start, stop)
        for start, stop in _runs(~any_ink(ink_HW[inside], axis=0))
        if start > 0 and stop < area.right - area.left and stop - start >= dpi // 6
    ]
    if not gutters:
        return None
    between = tuple(area.left + (start + stop) // 2 for start, stop in gutters)
    filled = 0
    for above, below in pairwise(rules):
        strip_HW = ink_HW[above.bottom : below.top]
        counts = [
            _lines(any_ink(strip_HW[:, first:last], axis=1), dpi)
            for first, last in pairwise((area.left, *between, area.right))
        ]
        if sum(count > 1 for count in counts) > 1:
            return None
        filled += sum(count > 0 for count in counts) > 1
    return between if filled == len(rules) - 1 else None


def _lines(inked_H: Profile, dpi: int) -> int:
    """Number of lines of type: parts with ink, a hair's breadth apart or more."""
    return len(_runs(ndimage.binary_closing(inked_H, np.ones(max(1, dpi // 50)))))


def _runs(flags: Profile) -> list[tuple[int, int]]:
    """(start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
