"""Columns of a page: its lines and boxes in groups, in the order in which columns are read.

A gutter is a white strip with lines on both sides of it and none across it, however short they are.
What crosses it, such as a title, parts the page into zones; in each of them the columns are read
one after the other. Rows of a table without rules, or labels and values, look alike: they stand at
the same heights on both sides, are narrow on one, or never full.

Shape letters: N lines and boxes, C candidates for a gutter; H rows, W columns of pixels, top left
first. True is ink.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import sub

import numpy as np
from numpy.typing import NDArray

from jangin.documents.layout.runs import LEFT, Glyph, GlyphRun
from jangin.documents.layout.shapes import Area

Mask = NDArray[np.bool_]
"""(H, W)."""
Profile = NDArray[np.bool_]
"""One flag per row or per column of pixels."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """Half-open rectangle of pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def touches(self, other: "PixelBox", gap: int) -> bool:
        """True if the two are nearer than `gap` in both directions."""
        return (
            self.top - gap < other.bottom
            and other.top - gap < self.bottom
            and self.left - gap < other.right
            and other.left - gap < self.right
        )

    def joined(self, other: "PixelBox") -> "PixelBox":
        """The smallest box around both."""
        return PixelBox(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


Edges = NDArray[np.float64]
"""(N, 4): left, top, right, bottom; y grows downwards, in any unit."""
Flags = NDArray[np.bool_]
Numbers = NDArray[np.intp]

GUTTER = 0.7
"""Least width of a gutter, in heights of a line."""
NARROW = 0.3
"""The same where a person gave the number of columns, or `CLOSE` lines are on both sides."""
CLOSE = 10
"""Lines on both sides of a gutter that is narrower than usual."""
LINES = 5
"""Lines that both sides of a gutter have at least, in all zones together."""
FEW = 2
"""Lines on both sides from which on it is doubtful whether there is no gutter."""
BELOW_BOX = 3
"""The same where the left edge of a box or table shows the column."""
IN_FRAME = 8
"""The same inside a frame, where drawings such as time lines have words side by side."""
WIDE = 8.0
"""Height of a line times this is the width that a fifth of a column's lines have at least; labels,
numbers and names of places are narrower."""
ZONE = 4
"""Lines on both sides together that a zone has at least; a row alone is read across."""
ALIGNED = 0.25
"""Share of the lines right of a gutter that begin at it; there may be further columns."""
TRIED = 8
"""Candidates that are looked at, those at which most lines begin first."""
NEAR = 3
"""Of these, so many in a width of two heights of a line."""
LEVEL = 0.3
"""Two lines stand at one height if their middles differ by at most this part of a line's height."""
LARGE = 1.2
"""Height of a line, in those of the others, from which on it may be a title."""
TOGETHER = 0.75
"""Share of lines with one at their height from which on the sides may be rows of a table."""
ROWS = 4
"""Paragraphs on each side from which on their heights show rows."""
LEVELLED = 0.85
"""Share of the paragraphs of each side that begin at the height of one of the other, in rows."""
UNEQUAL = 0.3
"""Share of these that have more lines on one side than on the other."""
FULL = 0.15
"""Share of full lines, whose text continues in the next one, that shows running text."""
SPACED = 0.12
"""Share of wider spaces between lines that shows headings and paragraphs: rows are even."""
THIN = 0.35
"""Least height of a line on a picture, in those of the others; rest of rules are lower."""
DEPTH = 3
"""Gutters inside columns are looked for so many times."""


@dataclass(slots=True)
class ColumnSearch:
    """How the columns of a page are found."""

    count: int | None = None
    """Number of columns that a person gave; None to find them."""
    known: list[float] = field(default_factory=list)
    """Right edges of the gutters of earlier pages; fewer lines show such a gutter. Those of this
    page are added."""
    least: int = LINES
    """Lines that both sides of a gutter have at least."""
    crossed: int = 0
    """Lines on both sides of the likeliest gutter that was not taken for one; is added."""


@dataclass(frozen=True, slots=True)
class _Gutter:
    """A candidate: where it ends on the right, and what is on its sides in which zone."""

    x: float
    side: NDArray[np.int8]
    """-1 left, 1 right, 0 across it."""
    zone: Numbers
    zones: tuple[int, ...]
    """Zones with lines on both sides."""
    lines: int
    """Lines that both sides have, in all zones together."""
    weight: int
    """The same squared zone by zone, so that long zones count more than many short ones."""


def in_groups(edges: Edges, is_text: Flags, how: ColumnSearch) -> list[Numbers]:
    """Numbers of the lines and boxes of each column in reading order; one group without gutters.

    `is_text` distinguishes lines from pictures and tables. Inside a group the order is that given.
    """
    everything = np.arange(len(edges), dtype=np.intp)
    if how.count == 1 or np.count_nonzero(is_text) < 2:
        return [everything]
    em = float(np.median((edges[:, 3] - edges[:, 1])[is_text]))
    return _groups(edges, is_text, everything, max(em, 1e-6), how, how.count, 0)


def _groups(
    edges: Edges,
    is_text: Flags,
    own: Numbers,
    em: float,
    how: ColumnSearch,
    count: int | None,
    depth: int,
) -> list[Numbers]:
    if depth > DEPTH or count == 1:
        return [own]
    gutter, cuts = _best(edges[own], is_text[own], em, how, forced=count is not None)
    if gutter is None:
        return [own]
    if not cuts:
        how.known.append(gutter.x)
    out: list[Numbers] = []
    counts = _shared_count(edges[own], gutter, count)
    start = 0
    zones = [*gutter.zones, None]
    for zone in zones:
        stop = int(gutter.zone.max()) + 1 if zone is None else zone
        between = own[(gutter.zone >= start) & (gutter.zone < stop)]
        if len(between):
            out += _groups(edges, is_text, between, em, how, count, depth + 1)
        if zone is not None:
            start = zone + 1
            if cuts:
                inside = own[gutter.zone == zone]
                out += [inside[one] for one in _cell_by_cell(edges[inside], cuts, em)]
                continue
            for side, part in ((-1, counts[0]), (1, counts[1])):
                inside = own[(gutter.zone == zone) & (gutter.side == side)]
                out += _groups(edges, is_text, inside, em, how, part, depth + 1)
    return out


def _shared_count(
    edges: Edges, gutter: _Gutter, count: int | None
) -> tuple[int | None, int | None]:
    """How many of the columns that a person gave are on each side of a gutter."""
    if count is None:
        return None, None
    if count == 2:
        return 1, 1
    widths = [
        float(np.ptp(edges[gutter.side == side][:, [0, 2]])) if (gutter.side == side).any() else 0.0
        for side in (-1, 1)
    ]
    left = round(count * widths[0] / max(sum(widths), 1e-6))
    left = min(max(left, 1), count - 1)
    return left, count - left


def _best(
    edges: Edges, is_text: Flags, em: float, how: ColumnSearch, *, forced: bool
) -> tuple[_Gutter | None, list[float]]:
    """The gutter with most lines on both of its sides that is one; None if there is none.

    Also the left edges of further cells where its sides are cells of rows; else empty.
    """
    boxes = edges[~is_text & (edges[:, 3] - edges[:, 1] > 3 * em)]
    boxes = boxes[boxes[:, 2] - boxes[:, 0] >= WIDE * em, 0]
    fewest = 1 if forced or how.known else min(how.least, BELOW_BOX if len(boxes) else how.least)
    gutters = []
    for width in (NARROW * em,) if forced else (GUTTER * em, NARROW * em):
        own = [
            _zoned(edges, is_text, x, em, width)
            for x in _candidates(edges, is_text, em, fewest, width)
        ]
        is_close = not forced and width < GUTTER * em
        gutters += [one for one in own if not is_close or one.lines >= CLOSE]
    gutters.sort(key=lambda one: -one.weight)
    for gutter in _without_labels(edges, is_text, gutters, em):
        is_known = any(-em / 2 < gutter.x - x < 2 * em for x in how.known)
        is_drawn = bool(((gutter.x - boxes > -em / 2) & (gutter.x - boxes < 2 * em)).any())
        least = 1 if forced or is_known else BELOW_BOX if is_drawn else how.least
        is_known |= is_drawn
        if gutter.lines < least:
            if gutter.lines >= FEW and _is_doubtful(edges, is_text, gutter, em):
                how.crossed = max(how.crossed, gutter.lines)
            continue
        sides = _sides(edges, is_text, gutter, em)
        is_wide = min(_widths(sides, em)) >= WIDE
        if not forced and is_wide and _are_rows(sides, em):
            cells = [one for one in gutters if one.zones == gutter.zones]
            cells = [one for one in cells if _are_rows(_sides(edges, is_text, one, em), em)]
            return gutter, [one.x for one in cells]
        if forced or _is_gutter(sides, gutter, em, is_known=is_known):
            return gutter, []
        if is_wide:
            how.crossed = max(how.crossed, gutter.lines)
    return None, []


def _without_labels(
    edges: Edges, is_text: Flags, gutters: Sequence[_Gutter], em: float
) -> list[_Gutter]:
    """The gutters, those between labels and their text behind the one on the left of the labels."""
    out: list[_Gutter] = []
    for gutter in gutters:
        index_of_first = len(out)
        for index, other in enumerate(out):
            inside = is_text & (edges[:, 0] >= gutter.x - em / 4) & (edges[:, 2] <= other.x)
            beside = is_text & (other.side == 1)
            if inside.any() and beside.any() and 2 * gutter.lines > other.lines:
                labels, text = _lines(edges[inside], em), _lines(edges[beside], em)
                width = float(np.quantile(labels[:, 2] - labels[:, 0], 0.8))
                if width < WIDE * em and _share_apart([labels], [text], em) <= 1 - TOGETHER:
                    index_of_first = min(index_of_first, index)
        out.insert(index_of_first, gutter)
    return out


def _is_doubtful(edges: Edges, is_text: Flags, gutter: _Gutter, em: float) -> bool:
    """True for two wide sides of few lines that do not stand at the same heights."""
    sides = _sides(edges, is_text, gutter, em)
    apart = max(_share_apart(sides[0], sides[1], em), _share_apart(sides[1], sides[0], em))
    return min(_widths(sides, em)) >= WIDE and apart > 1 - TOGETHER


def _candidates(edges: Edges, is_text: Flags, em: float, fewest: int, width: float) -> list[float]:
    """Left edges of lines that may be those of a column, with white of a `width` left of them.

    `fewest`: lines on each side.
    """
    lefts = np.unique(np.round(edges[is_text, 0] * (4 / em)) / (4 / em))
    start, stop = float(edges[:, 0].min()), float(edges[:, 2].max())
    lefts = lefts[(lefts > start + 4 * em) & (lefts < stop - 2 * em)]
    if not len(lefts):
        return []
    near = em / 4
    is_left_CN = edges[None, :, 2] <= lefts[:, None] - width
    is_right_CN = edges[None, :, 0] >= lefts[:, None] - near
    starts_CN = is_right_CN & (edges[None, :, 0] <= lefts[:, None] + 3 * em) & is_text
    left_C = (is_left_CN & is_text).sum(axis=1)
    right_C = (is_right_CN & is_text).sum(axis=1)
    across_C = len(edges) - is_left_CN.sum(axis=1) - is_right_CN.sum(axis=1)
    likely_C = (left_C >= fewest) & (right_C >= fewest)
    starts_C = starts_CN.sum(axis=1)
    likely_C &= starts_C >= ALIGNED * fewest
    likely_C &= across_C <= 4 * np.minimum(left_C, right_C)
    out: list[float] = []
    for x in lefts[likely_C][np.argsort(-starts_C[likely_C], kind="stable")]:
        if sum(abs(x - other) <= em for other in out) < NEAR:
            out.append(float(x))
    return out[:TRIED]


def _zoned(edges: Edges, is_text: Flags, x: float, em: float, width: float) -> _Gutter:
    """The sides and zones of a candidate, a gutter at least as wide as `width`."""
    side = np.zeros(len(edges), dtype=np.int8)
    side[edges[:, 2] <= x - width] = -1
    side[edges[:, 0] >= x - em / 4] = 1
    middle = (edges[:, 1] + edges[:, 3]) / 2
    side[_titles(edges, is_text, side, em)] = 0
    bars = np.sort(middle[side == 0])
    if len(bars):  # parts of a line that crosses belong to it
        side[np.abs(middle[:, None] - bars[None, :]).min(axis=1) <= LEVEL * em] = 0
        bars = np.sort(middle[side == 0])
    zone = 2 * np.searchsorted(bars, middle)
    zone[side == 0] += 1
    zones, lines, weight = [], 0, 0
    for number in np.unique(zone[side != 0]):
        parts = [
            _line_middles(edges[(zone == number) & (side == s) & is_text], em) for s in (-1, 1)
        ]
        if min(map(len, parts)) == 0 or sum(map(len, parts)) < ZONE:
            continue
        zones.append(int(number))
        low = max(part[0] for part in parts) - em / 2
        high = min(part[-1] for part in parts) + em / 2
        inside = [int(((part >= low) & (part <= high)).sum()) for part in parts]
        lines += min(inside)
        weight += min(inside) ** 2
    starts = edges[np.isin(zone, zones) & (side == 1) & is_text, 0]
    if len(starts) and (starts <= x + 3 * em).mean() < ALIGNED:
        return _Gutter(x, side, zone, (), 0, 0)
    return _Gutter(x, side, zone, tuple(zones), lines, weight)


def _titles(edges: Edges, is_text: Flags, side: NDArray[np.int8], em: float) -> list[int]:
    """Numbers of titles over all columns that end before the gutter.

    They are in larger type, or right above a rule across the gutter, and beside them there is a
    space as tall, between lines of the other side, of which the next one is about as high as the
    next one of their own.
    """
    rules = edges[~is_text & (side == 0) & (edges[:, 3] - edges[:, 1] < em / 2), 1]
    is_large = edges[:, 3] - edges[:, 1] > LARGE * em
    is_solid = is_text | (edges[:, 3] - edges[:, 1] >= em / 2)
    above = edges[:, 3][:, None]
    if len(rules):
        is_large |= ((rules >= above - em / 4) & (rules <= above + em)).any(axis=1)
    out = []
    for number in np.flatnonzero(is_large & is_text & (side != 0)):
        top, bottom = edges[number, 1], edges[number, 3]
        others = edges[is_solid & (side == -side[number])]
        is_above = others[:, 1] + others[:, 3] < top + bottom
        before, after = others[is_above, 3], others[~is_above, 1]
        if len(before) and len(after):
            own = edges[is_text & (side == side[number]) & (edges[:, 1] >= bottom - em / 4), 1]
            goes_on = bottom + em / 4 <= after.min() <= own.min(initial=bottom) + 3 * em
            if before.max() <= top - em / 4 and goes_on:
                out.append(int(number))
        elif len(rules) and len(after) and after.min() >= bottom + em / 4:
            out.append(int(number))
    return out


def _line_middles(edges: Edges, em: float) -> NDArray[np.float64]:
    """Middles of the lines, from top to bottom; parts of one line count once."""
    middles = np.sort((edges[:, 1] + edges[:, 3]) / 2)
    if not len(middles):
        return middles
    return middles[np.concatenate(([True], np.diff(middles) > LEVEL * em))]


def _lines(edges: Edges, em: float) -> Edges:
    """(lines, 4): parts at one height joined, from top to bottom."""
    order = np.argsort((edges[:, 1] + edges[:, 3]) / 2, kind="stable")
    edges = edges[order]
    middles = (edges[:, 1] + edges[:, 3]) / 2
    starts = np.flatnonzero(np.concatenate(([True], np.diff(middles) > LEVEL * em)))
    low = np.minimum.reduceat(edges[:, :2], starts)
    high = np.maximum.reduceat(edges[:, 2:], starts)
    return np.concatenate((low, high), axis=1)


def _is_gutter(
    sides: Sequence[Sequence[Edges]], gutter: _Gutter, em: float, *, is_known: bool
) -> bool:
    """True if the sides are running text, and not rows that are read across."""
    widths = _widths(sides, em)
    apart = [_share_apart(sides[0], sides[1], em), _share_apart(sides[1], sides[0], em)]
    narrow = [index for index in (0, 1) if widths[index] < WIDE]
    if narrow:
        return len(narrow) == 1 and _are_notes(sides[narrow[0]], apart[narrow[0]], em)
    if max(apart) > 1 - TOGETHER or (is_known and any(_are_unlike(zones) for zones in sides)):
        return True
    if is_known and gutter.lines < LINES:
        return False
    full = [_share_full(zones, em) for zones in sides]
    if min(full) >= FULL and (gutter.lines >= IN_FRAME or min(full) < 1):
        return True
    return all(_share_spaced(zones) >= SPACED for zones in sides)


def _sides(edges: Edges, is_text: Flags, gutter: _Gutter, em: float) -> list[list[Edges]]:
    """The lines left and right of a gutter, zone by zone."""
    return [
        [
            _lines(edges[(gutter.zone == zone) & (gutter.side == side) & is_text], em)
            for zone in gutter.zones
        ]
        for side in (-1, 1)
    ]


def _widths(sides: Sequence[Sequence[Edges]], em: float) -> list[float]:
    """Width, in heights of a line, that a fifth of the lines of each side have at least."""
    return [
        float(np.quantile(np.concatenate([z[:, 2] - z[:, 0] for z in zones]), 0.8)) / em
        for zones in sides
    ]


def _share_apart(zones: Sequence[Edges], others: Sequence[Edges], em: float) -> float:
    """Share of the lines of one side, where the other has lines, that have none at their height."""
    apart = total = 0
    for lines, beside in zip(zones, others, strict=True):
        middles, there = (lines[:, 1] + lines[:, 3]) / 2, (beside[:, 1] + beside[:, 3]) / 2
        inside = middles[(middles >= there[0] - em) & (middles <= there[-1] + em)]
        if len(inside):
            distance = np.abs(inside[:, None] - there[None, :]).min(axis=1)
            apart += int((distance > LEVEL * em).sum())
            total += len(inside)
    return apart / max(1, total)


def _share_full(zones: Sequence[Edges], em: float) -> float:
    """Share of the lines that end at the right edge and have a next one that begins at the left."""
    right = float(np.quantile(np.concatenate([lines[:, 2] for lines in zones]), 0.95))
    left = float(np.quantile(np.concatenate([lines[:, 0] for lines in zones]), 0.2))
    full = total = 0
    for lines in zones:
        if len(lines) < 2:
            continue
        is_next = (lines[1:, 1] - lines[:-1, 3] < em) & (lines[1:, 0] < left + 3 * em)
        full += int(((lines[:-1, 2] > right - 3 * em) & is_next).sum())
        total += len(lines) - 1
    return full / max(1, total)


def _share_spaced(zones: Sequence[Edges]) -> float:
    """Share of the steps from line to line that are clearly wider than the usual one."""
    steps = np.concatenate([np.diff((lines[:, 1] + lines[:, 3]) / 2) for lines in zones])
    if len(steps) < 3:
        return 0.0
    return float((steps > 1.2 * np.quantile(steps, 0.3)).mean())


def _are_rows(sides: Sequence[Sequence[Edges]], em: float) -> bool:
    """True if both sides are cells of rows without rules.

    Paragraphs begin at the same heights on both sides, though they are not equally long.
    """
    starts, lengths = zip(*(_paragraphs(zones) for zones in sides), strict=True)
    if min(map(len, starts)) < ROWS:
        return False
    level_LR = np.abs(starts[0][:, None] - starts[1][None, :]) <= LEVEL * em
    if min(level_LR.any(axis=0).mean(), level_LR.any(axis=1).mean()) < LEVELLED:
        return False
    left, right = np.nonzero(level_LR)
    return float((lengths[0][left] != lengths[1][right]).mean()) >= UNEQUAL


def _paragraphs(zones: Sequence[Edges]) -> tuple[NDArray[np.float64], Numbers]:
    """(middles of the first lines of paragraphs, their numbers of lines), by the space above."""
    steps = np.concatenate([np.diff((lines[:, 1] + lines[:, 3]) / 2) for lines in zones])
    far = 1.2 * np.quantile(steps, 0.3) if len(steps) else 0.0
    starts, lengths = [], []
    for lines in zones:
        middles = (lines[:, 1] + lines[:, 3]) / 2
        first = np.flatnonzero(np.concatenate(([True], np.diff(middles) > far)))
        starts.append(middles[first])
        lengths.append(np.diff(np.append(first, len(middles))))
    return np.concatenate(starts), np.concatenate(lengths)


def _cell_by_cell(edges: Edges, cuts: Sequence[float], em: float) -> list[Numbers]:
    """Numbers of the lines of each cell, row by row; those of a row of single lines together.

    `cuts`: left edges of the cells but the first.
    """
    cell = np.searchsorted(np.array(sorted(cuts)) - em / 4, edges[:, 0])
    middles = (edges[:, 1] + edges[:, 3]) / 2
    sides = [[_lines(edges[cell == number], em)] for number in np.unique(cell)]
    starts = np.sort(np.concatenate([_paragraphs(zones)[0] for zones in sides]))
    row = np.searchsorted(starts - LEVEL * em, middles)
    out: list[Numbers] = []
    for number in np.unique(row):
        cells = [np.flatnonzero((row == number) & (cell == one)) for one in np.unique(cell)]
        cells = [one for one in cells if len(one)]
        is_single = all(len(_line_middles(edges[one], em)) == 1 for one in cells)
        out += [np.concatenate(cells)] if is_single else cells
    return out


def _are_unlike(zones: Sequence[Edges]) -> bool:
    """True if the lines of a side are of different lengths, as those of paragraphs are."""
    lengths = np.concatenate([lines[:, 2] - lines[:, 0] for lines in zones])
    return float(lengths.max()) > 1.2 * float(lengths.min())


def _are_notes(zones: Sequence[Edges], apart: float, em: float) -> bool:
    """True for a narrow side of several lines together that do not stand beside rows: notes."""
    steps = [np.diff((lines[:, 1] + lines[:, 3]) / 2) for lines in zones]
    count = sum(map(len, zones))
    near = sum(int((step < 2.2 * em).sum()) for step in steps)
    return apart > 0.5 and near >= 0.5 * count


@dataclass(frozen=True, slots=True)
class PictureColumn:
    """A column of a page of pixels."""

    box: PixelBox
    others_HW: Mask
    """Lines, boxes and tables of other columns, of which some are inside `box`."""


def columns(
    occupied_HW: Mask,
    solid_HW: Mask,
    dpi: int,
    how: ColumnSearch,
    rules: Sequence[PixelBox] = (),
) -> list[PictureColumn]:
    """Columns of a page of pixels in reading order; one if there is no gutter.

    Args:
        occupied_HW: ink of letters.
        solid_HW: boxes and tables.
        dpi: resolution.
        how: how they are found; `known` in pixels.
        rules: horizontal rules, which part the zones of columns.

    """
    height, width = occupied_HW.shape
    page = [PictureColumn(PixelBox(0, height, 0, width), np.zeros_like(occupied_HW))]
    step = max(1, dpi // 50)
    texts, lines_HW = _boxes(_pooled(occupied_HW & ~solid_HW, step), dpi // step)
    solids, solids_HW = _boxes(_pooled(solid_HW, step), 0)
    if len(texts) < 2:
        return page
    em = float(np.median([bottom - top for _, top, _, bottom in texts.values()]))
    places = [tuple(step * edge for edge in box) for box in (*texts.values(), *solids.values())]
    places += [(rule.left, rule.top, rule.right, rule.bottom) for rule in rules]
    edges = np.array(places, dtype=np.float64)
    tall = (edges[:, 3] - edges[:, 1]) / step
    is_text = (np.arange(len(edges)) < len(texts)) & (tall >= THIN * em)
    groups = [g[g < len(texts) + len(solids)] for g in in_groups(edges, is_text, how)]
    groups = [g for g in groups if len(g)]
    if len(groups) < 2:
        return page
    owner_of_line, owner_of_solid = (
        np.full(labels.max() + 1, -1) for labels in (lines_HW, solids_HW)
    )
    for number, group in enumerate(groups):
        owner_of_line[[label for index, label in enumerate(texts) if index in group]] = number
        owner_of_solid[
            [label for index, label in enumerate(solids, start=len(texts)) if index in group]
        ] = number
    owners_HW = np.maximum(owner_of_line[lines_HW], owner_of_solid[solids_HW])
    owners_HW = owners_HW.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
    out = []
    for number, group in enumerate(groups):
        left, top = edges[group, :2].min(axis=0)
        right, bottom = edges[group, 2:].max(axis=0)
        box = PixelBox(
            max(0, int(top) - step),
            min(height, int(bottom) + step),
            max(0, int(left) - step),
            min(width, int(right) + step),
        )
        out.append(PictureColumn(box, (owners_HW >= 0) & (owners_HW != number)))
    return out


def _pooled(mask_HW: Mask, step: int) -> Mask:
    """The mask in squares of `step` pixels, True where any pixel is."""
    height, width = mask_HW.shape
    padded = np.pad(mask_HW, ((0, -height % step), (0, -width % step)))
    rows_HW = any_ink(padded.reshape(-1, step, padded.shape[1]), axis=1)
    return any_ink(rows_HW.reshape(len(rows_HW), -1, step), axis=2)


def _boxes(
    mask_HW: Mask, dpi: int
) -> tuple[dict[int, tuple[int, int, int, int]], NDArray[np.int32]]:
    """({label: (left, top, right, bottom)} of lines, the labels); not of specks.

    Letters of a line are nearer than 0.09 inch. With `dpi` 0, of what touches.
    """
    from scipy import ndimage

    joined_HW = mask_HW
    if dpi:
        reach = max(1, round(0.09 * dpi))
        padded = np.pad(mask_HW, ((0, 0), (reach, reach)))
        joined_HW = ndimage.binary_closing(padded, np.ones((1, reach)))[:, reach:-reach]
    labels_HW, _ = ndimage.label(joined_HW, np.ones((3, 3)))
    least = 0.04 * dpi
    boxes = {
        label: (sides.start, rows.start, sides.stop, rows.stop)
        for label, (rows, sides) in enumerate(ndimage.find_objects(labels_HW), start=1)
        if max(rows.stop - rows.start, sides.stop - sides.start) > least
    }
    return boxes, labels_HW


def any_ink(ink: Mask, axis: int) -> Mask:
    """Whether there is ink anywhere along `axis`."""
    return np.asarray(ink.any(axis=axis), dtype=bool)


def extent(present: Profile) -> tuple[int, int] | None:
    """(first True, one past the last True); None if there is no True."""
    where = np.flatnonzero(present)
    return (int(where[0]), int(where[-1]) + 1) if where.size else None


# Columns of pages with a text layer: what is left and right of each gutter, in reading order.


WIDE_GAP = 1.0
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
    groups = in_groups(np.array(edges, dtype=np.float64), is_text, ColumnSearch(columns))
    if len(groups) == 1:
        return lines
    return [parts[number] for group in groups for number in group]


def regions(
    area: Area, runs: Sequence[GlyphRun], units: Sequence[Area], how: ColumnSearch
) -> list[tuple[list[GlyphRun], list[Area]]]:
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
    return left if widest > WIDE_GAP * (shown[0].top - shown[0].bottom) else None
