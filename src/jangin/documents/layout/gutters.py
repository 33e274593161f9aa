"""Columns of a page of pixels: cut at its gutters.

Shape letters: H rows, W columns of pixels, top left first; B bins of rows. True is ink.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""(H, W)."""
Profile = NDArray[np.bool_]
"""One flag per row or per column of pixels."""


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open rectangle of pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def touches(self, other: "Box", gap: int) -> bool:
        """True if the two are nearer than `gap` in both directions."""
        return (
            self.top - gap < other.bottom
            and other.top - gap < self.bottom
            and self.left - gap < other.right
            and other.left - gap < self.right
        )

    def joined(self, other: "Box") -> "Box":
        """The smallest box around both."""
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


def columns(occupied_HW: Mask, dpi: int, count: int | None = None) -> list[Box]:
    """Columns of text in reading order; one box if there is no gutter.

    A gutter is a white strip 0.1 inch wide and 0.8 inch high whose two sides both hold lines
    that fill half of their width or more; so a list, a ragged margin or page numbers behind
    leader dots are not columns. `count`: number of columns that a person gave; None to find them.
    """
    height, width = occupied_HW.shape
    page = [Box(0, height, 0, width)]
    across = extent(any_ink(occupied_HW, axis=0))
    gap, tall = max(4, dpi // 10), dpi * 4 // 5
    if count == 1 or across is None or across[1] - across[0] < 12 * gap or height < tall:
        return page
    bin_height = max(1, dpi // 25)
    bins = -(-height // bin_height)
    padded = np.pad(occupied_HW, ((0, bins * bin_height - height), (0, 0)))
    rows_BW = any_ink(padded.reshape(bins, bin_height, width), axis=1)
    start, stop = across
    best: tuple[int, int, int, int] | None = None
    strips = range(start + (stop - start) // 4, stop - (stop - start) // 4, gap // 2)
    for x, free_B in _free_strips(rows_BW, strips, gap, -(-tall // bin_height)):
        run = _longest_run(free_B)
        top, bottom = _trim(rows_BW, run)
        if (bottom - top) * bin_height < tall or (best and bottom - top <= best[0]):
            continue
        left_BW, right_BW = rows_BW[top:bottom, start:x], rows_BW[top:bottom, x + gap : stop]
        if _is_text(left_BW) and _is_text(right_BW):
            best = (bottom - top, x + gap // 2, top, bottom)
    if best is None:
        return page
    _, x, top, bottom = best
    y0, y1 = top * bin_height, min(height, bottom * bin_height)
    parts = [Box(0, y0, 0, width), Box(y0, y1, 0, x), Box(y0, y1, x, width)]
    below = [
        Box(y1 + box.top, y1 + box.bottom, box.left, box.right)
        for box in columns(occupied_HW[y1:], dpi)
    ]
    return [box for box in parts + below if box.top < box.bottom]


def _free_strips(
    rows_BW: Mask, strips: range, gap: int, least: int
) -> Iterator[tuple[int, Profile]]:
    """(left edge, rows without ink) of the strips of which `least` rows in a row have no ink."""
    if not strips or len(rows_BW) < least:
        return
    rows_WB = np.ascontiguousarray(rows_BW[:, strips.start : strips[-1] + gap].T)
    inked_XB = np.zeros((len(strips), len(rows_BW)), dtype=bool)
    for shift in range(gap):
        inked_XB |= rows_WB[shift :: strips.step][: len(strips)]
    free_XB = ~inked_XB
    count_XB = np.cumsum(free_XB, axis=1, dtype=np.int32)
    count_XB = np.pad(count_XB, ((0, 0), (1, 0)))
    is_tall_X = (count_XB[:, least:] - count_XB[:, :-least] == least).any(axis=1)
    for index in np.flatnonzero(is_tall_X):
        yield strips[index], free_XB[index]


def _longest_run(free_B: Profile) -> tuple[int, int]:
    """(start, stop) of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], free_B.astype(np.int8), [0]))))
    if not edges.size:
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _trim(rows_BW: Mask, run: tuple[int, int]) -> tuple[int, int]:
    """The run without the empty rows at its ends."""
    inked = extent(any_ink(rows_BW[run[0] : run[1]], axis=1))
    return (run[0] + inked[0], run[0] + inked[1]) if inked else (0, 0)


def _is_text(side_BW: Mask) -> bool:
    """True if at least 30 % of the rows have ink, whose median extent is half of the width."""
    inked_BW = side_BW[any_ink(side_BW, axis=1)]
    if len(inked_BW) < 0.3 * len(side_BW) or not inked_BW.shape[1]:
        return False
    first = inked_BW.argmax(axis=1)
    last = inked_BW.shape[1] - inked_BW[:, ::-1].argmax(axis=1)
    return bool(np.median(last - first) >= 0.5 * inked_BW.shape[1])


def any_ink(ink: Mask, axis: int) -> Mask:
    """Whether there is ink anywhere along `axis`."""
    return np.asarray(ink.any(axis=axis), dtype=bool)


def extent(present: Profile) -> tuple[int, int] | None:
    """(first True, one past the last True); None if there is no True."""
    where = np.flatnonzero(present)
    return (int(where[0]), int(where[-1]) + 1) if where.size else None
