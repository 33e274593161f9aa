"""Reorder text-layer lines of multi-column pages: cut at the gutter, column after column."""

from dataclasses import dataclass
from itertools import pairwise

WIDE = 1.0
"""A gap inside a line may be a gutter if it is wider than this many line heights."""
ENOUGH = 8
"""Minimum number of lines across a gutter; fewer are the rows of a small table."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """One character and its box on the page, in points; y grows upwards."""

    character: str
    left: float
    right: float
    bottom: float
    top: float


def in_column_order(lines: list[list[Glyph]], width: float, height: float) -> list[list[Glyph]]:
    """The lines in reading order; unchanged unless at least `ENOUGH` of them cross a gutter.

    `width` and `height` are those of the page, in points.
    """
    crossing = [gap for line in lines if (gap := _widest_gap(line)) is not None]
    if len(crossing) < ENOUGH:
        return lines
    import numpy as np

    from jangin.documents.ocr.page_layout import columns

    page_HW = np.zeros((int(height) + 1, int(width) + 1), dtype=bool)
    for line in lines:
        for glyph in line:
            if not glyph.character.isspace():
                top, bottom = int(height - glyph.top), int(height - glyph.bottom)
                page_HW[max(0, top) : bottom, max(0, int(glyph.left)) : int(glyph.right) + 1] = True
    boxes = columns(page_HW, 72)
    gutters = [box.left for box in boxes if box.left > 0]
    across = sum(left <= x <= right for left, right in crossing for x in gutters)
    if across < ENOUGH:
        return lines
    out: list[list[list[Glyph]]] = [[] for _ in boxes]
    for line in lines:
        parts: dict[int, list[Glyph]] = {}
        for glyph in line:
            middle, y = (glyph.left + glyph.right) / 2, height - (glyph.top + glyph.bottom) / 2
            home = next(
                (
                    index
                    for index, box in enumerate(boxes)
                    if box.left <= middle < box.right and box.top <= y < box.bottom
                ),
                len(boxes) - 1,
            )
            parts.setdefault(home, []).append(glyph)
        for home, part in parts.items():
            out[home].append(part)
    return [line for column in out for line in column]


def _widest_gap(line: list[Glyph]) -> tuple[float, float] | None:
    """Left and right end of the widest gap of a line; None if it is narrower than `WIDE`."""
    shown = sorted((g for g in line if not g.character.isspace()), key=lambda glyph: glyph.left)
    gaps = [(b.left - a.right, a.right, b.left) for a, b in pairwise(shown)]
    if not gaps:
        return None
    widest, left, right = max(gaps)
    return (left, right) if widest > WIDE * (shown[0].top - shown[0].bottom) else None
