"""Columns of pages with a text layer: what is left and right of each gutter, in reading order."""

from collections.abc import Sequence
from operator import sub

import numpy as np

from jangin.documents.layout.gutters import Columns, in_groups
from jangin.documents.layout.runs import LEFT, Glyph, Run
from jangin.documents.layout.shapes import Area

WIDE = 1.0
"""A gap inside a line may be a gutter if it is wider than this many line heights."""
ENOUGH = 8
"""Lines with such a gap; fewer need not be put in order."""


def in_column_order(
    lines: list[list[Glyph]], height: float, columns: int | None = None
) -> list[list[Glyph]]:
    """The lines as they are drawn, column after column where at least `ENOUGH` cross a gutter.

    `height` is that of the page, in points; `columns` as of `PageContent`.
    """
    gaps = [_widest_gap(line) for line in lines]
    if columns == 1 or sum(gap is not None for gap in gaps) < ENOUGH:
        return lines
    parts: list[list[Glyph]] = []
    for line, gap in zip(lines, gaps, strict=True):
        left = [g for g in line if gap is None or g.left < gap]
        right = [g for g in line if gap is not None and g.left >= gap]
        parts += [part for part in (left, right) if any(not g[0].isspace() for g in part)]
    edges = []
    for part in parts:
        shown = [g for g in part if not g[0].isspace()]
        edges.append(
            (
                min(g.left for g in shown),
                height - max(g.top for g in shown),
                max(g.right for g in shown),
                height - min(g.bottom for g in shown),
            )
        )
    is_text = np.ones(len(parts), dtype=bool)
    groups = in_groups(np.array(edges, dtype=np.float64), is_text, Columns(columns))
    if len(groups) == 1:
        return lines
    return [parts[number] for group in groups for number in group]


def regions(
    area: Area, runs: Sequence[Run], units: Sequence[Area], how: Columns
) -> list[tuple[list[Run], list[Area]]]:
    """(runs, boxes and tables) of each column in reading order; one if there is no gutter."""
    boxes = [(run.left, area.top - run.top, run.right, area.top - run.bottom) for run in runs]
    boxes += [(one.left, area.top - one.top, one.right, area.top - one.bottom) for one in units]
    is_text = np.array([not run.turned for run in runs] + [False] * len(units), dtype=bool)
    edges = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    groups = in_groups(edges, is_text, how)
    if len(groups) == 1:
        return [(list(runs), list(units))]
    return [
        (
            [runs[number] for number in group if number < len(runs)],
            [units[number - len(runs)] for number in group if number >= len(runs)],
        )
        for group in groups
    ]


def _widest_gap(line: list[Glyph]) -> float | None:
    """Right end of the widest gap of a line; None if it is narrower than `WIDE`."""
    shown = [g for g in line if not g[0].isspace()]
    shown.sort(key=LEFT)
    if len(shown) < 2:
        return None
    rights = [g[2] for g in shown[:-1]]
    lefts = [g[1] for g in shown[1:]]
    widest, left = max(zip(map(sub, lefts, rights), lefts, strict=True))
    return left if widest > WIDE * (shown[0].top - shown[0].bottom) else None
