"""Columns of pages with a text layer: cut at the gutter, column after column."""

from collections.abc import Sequence
from itertools import pairwise
from operator import sub

from jangin.documents.layout.rows import rows_of
from jangin.documents.layout.runs import LEFT, Glyph, Run
from jangin.documents.layout.shapes import Area

WIDE = 1.0
"""A gap inside a line may be a gutter if it is wider than this many line heights."""
ENOUGH = 8
"""Minimum number of lines across a gutter; fewer are the rows of a small table."""


def in_column_order(
    lines: list[list[Glyph]], width: float, height: float, columns: int | None = None
) -> list[list[Glyph]]:
    """The lines in reading order; unchanged unless at least `ENOUGH` of them cross a gutter.

    `width` and `height` are those of the page, in points; `columns` as of `PageContent`.
    """
    if columns == 1:
        return lines
    crossing = [gap for line in lines if (gap := _widest_gap(line)) is not None]
    if len(crossing) < ENOUGH:
        return lines
    page = Area(0, 0, width, height)
    inked = [
        (left, bottom, right, top)
        for line in lines
        for character, left, right, bottom, top in line
        if not character.isspace()
    ]
    boxes = _columns(page, inked, crossing)
    if len(boxes) == 1:
        return lines
    out: list[list[list[Glyph]]] = [[] for _ in boxes]
    for line in lines:
        parts: dict[int, list[Glyph]] = {}
        for glyph in line:
            home = _home(boxes, (glyph.left + glyph.right) / 2, (glyph.top + glyph.bottom) / 2)
            parts.setdefault(home, []).append(glyph)
        for home, part in parts.items():
            out[home].append(part)
    return [line for column in out for line in column]


def regions(
    area: Area,
    runs: Sequence[Run],
    units: Sequence[Area],
    columns: int | None = None,
    depth: int = 0,
) -> list[tuple[list[Run], list[Area]]]:
    """(runs, boxes and tables) of each column in reading order; one if there is no gutter.

    `columns` as of `PageContent`.
    """
    if columns == 1:
        return [(list(runs), list(units))]
    crossing = []
    for row in rows_of(runs):
        row.runs.sort(key=lambda run: run.left)
        gaps = [(b.left - a.right, a.right, b.left) for a, b in pairwise(row.runs)]
        if gaps and max(gaps)[0] > WIDE * (row.top - row.bottom):
            crossing.append(max(gaps)[1:])
    if len(crossing) < ENOUGH or depth > 2:
        return [(list(runs), list(units))]
    inked = [
        Area(run.left, run.bottom + 0.2 * run.height, run.right, run.top - 0.2 * run.height)
        for run in runs
    ]
    boxes = _columns(area, [*inked, *units], crossing)
    if len(boxes) == 1:
        return [(list(runs), list(units))]
    parts: list[tuple[list[Run], list[Area]]] = [([], []) for _ in boxes]
    for run in runs:
        parts[_home(boxes, (run.left + run.right) / 2, run.middle)][0].append(run)
    for unit in units:
        middle = ((unit.left + unit.right) / 2, (unit.bottom + unit.top) / 2)
        parts[_home(boxes, *middle)][1].append(unit)
    out = []
    for box, (own, inside) in zip(boxes, parts, strict=True):
        if box.right - box.left < 0.9 * (area.right - area.left):
            out.extend(regions(box, own, inside, depth=depth + 1))
        else:
            out.append((own, inside))
    return out


def _columns(
    area: Area,
    inked: Sequence[tuple[float, float, float, float]],
    crossing: Sequence[tuple[float, float]],
) -> list[Area]:
    """Columns in reading order; the area itself if fewer than `ENOUGH` lines cross a gutter."""
    import numpy as np

    from jangin.documents.layout.gutters import columns

    height, width = area.top - area.bottom, area.right - area.left
    page_HW = np.zeros((int(height) + 1, int(width) + 1), dtype=bool)
    for left, bottom, right, top in inked:
        upper, lower = int(area.top - top), int(area.top - bottom)
        start, stop = int(left - area.left), int(right - area.left) + 1
        page_HW[max(0, upper) : max(0, lower), max(0, start) : max(0, stop)] = True
    boxes = columns(page_HW, 72)
    gutters = [box.left + area.left for box in boxes if box.left > 0]
    if sum(left <= x <= right for left, right in crossing for x in gutters) < ENOUGH:
        return [area]
    return [
        Area(area.left + box.left, area.top - box.bottom, area.left + box.right, area.top - box.top)
        for box in boxes
    ]


def _home(boxes: Sequence[Area], x: float, y: float) -> int:
    """Index of the column at a point; the last one if there is none."""
    return next(
        (
            index
            for index, box in enumerate(boxes)
            if box.left <= x < box.right and box.bottom < y <= box.top
        ),
        len(boxes) - 1,
    )


def _widest_gap(line: list[Glyph]) -> tuple[float, float] | None:
    """Left and right end of the widest gap of a line; None if it is narrower than `WIDE`."""
    shown = [g for g in line if not g[0].isspace()]
    shown.sort(key=LEFT)
    if len(shown) < 2:
        return None
    rights = [g[2] for g in shown[:-1]]
    lefts = [g[1] for g in shown[1:]]
    widest, left, right = max(zip(map(sub, lefts, rights), rights, lefts, strict=True))
    return (left, right) if widest > WIDE * (shown[0].top - shown[0].bottom) else None
