"""Runs at the same height as one line of text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from jangin.documents.layout.runs import (
    WIDE,
    Glyph,
    GlyphRun,
    from_left_to_right,
    joined,
    jumps_back,
    words,
)
from jangin.documents.layout.shapes import Area, TextLine

SAME_LINE = 0.5
"""Two runs are on one line if they share this part of the smaller one's height."""
RECURRING = 3
"""Lines with text from the left edge of a cell on; a gap inside a line is at one place once."""
PROSE = 8.0
"""Heights of a line that a cell is wide whose text continues in the next line."""
SENTENCE = 4.0
"""The same of a part of a sentence, which is no number and no label."""
WORDS = 3
"""Words that it has at least."""
FULL = 1 / 3
"""Share of the lines of a column of text that reach its right edge."""
COVERED = 0.5
"""A run fits into the gaps of another if at most this part of it is covered by letters."""


@dataclass(slots=True)
class LayoutRow:
    """Runs side by side on one line, from left to right once `ordered` was called."""

    runs: list[GlyphRun]
    bottom: float
    top: float
    left: float
    right: float
    woven: bool = False
    """True if a run fills gaps of another, so that their glyphs have to be sorted."""

    @property
    def middle(self) -> float:
        """Height of its middle on the page."""
        return (self.top + self.bottom) / 2

    @property
    def area(self) -> Area:
        """Its box on the page."""
        return Area(self.left, self.bottom, self.right, self.top)

    @property
    def ends_with_space(self) -> bool:
        """True if the file draws a space at the end of the line."""
        last = max(self.runs, key=lambda run: run.right).glyphs[-1]
        return last.character == " " and last.right > last.left

    def takes(self, run: GlyphRun) -> bool:
        """True if the run is on this line; it is added by `add`."""
        shared = min(self.top, run.top) - max(self.bottom, run.bottom)
        return shared >= SAME_LINE * min(self.top - self.bottom, run.height)

    def add(self, run: GlyphRun) -> bool:
        """Add a run at the same height; False, and not added, if it lies over letters of it."""
        over = run.left < self.right - 1 and run.right > self.left + 1
        if over and not run.turned:
            for other in self.runs:
                if run.left < other.right - 1 and run.right > other.left + 1:
                    if _covered(run, other) > COVERED:
                        return False
                    self.woven = True
        if run.height > self.top - self.bottom:
            self.bottom, self.top = run.bottom, run.top
        self.left, self.right = min(self.left, run.left), max(self.right, run.right)
        self.runs.append(run)
        return True

    def glyphs(self, *, by_position: bool) -> list[Glyph]:
        """All glyphs in reading order; `by_position` where drawing order cannot be trusted."""
        runs = sorted(self.runs, key=lambda run: run.left)
        glyphs = [glyph for run in runs for glyph in run.glyphs]
        if self.woven or (by_position and jumps_back(glyphs)):
            return from_left_to_right(glyphs)
        return glyphs

    def line(self, *, by_position: bool) -> TextLine:
        """The line as text."""
        if any(run.turned for run in self.runs):
            runs = sorted(self.runs, key=lambda run: run.left)
            text = " ".join(joined(run.glyphs) for run in runs)
        else:
            text = joined(self.glyphs(by_position=by_position))
        return line_of(text, self.runs, self.area)


def line_of(text: str, runs: Sequence[GlyphRun], area: Area) -> TextLine:
    """A line of text, in the type of the longest of its runs."""
    longest = max(runs, key=lambda run: len(run.glyphs))
    bold = all(run.bold for run in runs)
    return TextLine(text, area.left, area.right, area.bottom, area.top, longest.size, bold)


def _covered(run: GlyphRun, other: GlyphRun) -> float:
    """Share of the letters of the shorter run that lie over letters of the longer one."""
    short, long = sorted((run.shown(), other.shown()), key=len)
    left, right = min(g.left for g in short), max(g.right for g in short)
    near = [g for g in long if g.left < right and g.right > left]
    covered = sum(
        min(one.right, g.right) - max(one.left, g.left)
        for one in short
        for g in near
        if g.left < one.right and g.right > one.left
    )
    return covered / max(1.0, sum(glyph.right - glyph.left for glyph in short))


def rows_of(runs: Iterable[GlyphRun]) -> list[LayoutRow]:
    """Lines from top to bottom."""
    rows: list[LayoutRow] = []
    for run in sorted(runs, key=lambda run: -run.middle):
        for row in reversed(rows[-4:]):
            if row.takes(run) and row.add(run):
                break
        else:
            rows.append(LayoutRow([run], run.bottom, run.top, run.left, run.right))
    return sorted(rows, key=lambda row: -row.middle)


def in_cell_order(rows: list[LayoutRow]) -> list[LayoutRow]:
    """The lines with what stands in rows of cells without rules read cell after cell.

    Such a row has text side by side, of which a full line continues below it before the next row
    begins: the second column of a timetable, beside the name of a room in the third one.
    """
    parts = [_cells(row) if len(row.runs) > 1 else [row] for row in rows]
    lefts = np.array([cell.left for cells in parts for cell in cells[1:]])
    if len(lefts) < RECURRING:
        return rows
    out: list[LayoutRow] = []
    start = 0
    while start < len(rows):
        cells = parts[start]
        near = (rows[start].top - rows[start].bottom) / 2
        if any((abs(lefts - cell.left) < near).sum() < RECURRING for cell in cells[1:]):
            cells = []
        below: list[dict[int, LayoutRow]] = []
        stop = start + 1
        while len(cells) > 1 and stop < len(rows):
            homes = _homes(rows[stop], cells, rows[stop - 1])
            if not homes:
                break
            below.append(homes)
            stop += 1
        out += _by_cell(cells, below) or rows[start:stop]
        start = stop
    return out


def mixed(rows: list[LayoutRow]) -> int:
    """Number of lines in which a sentence goes on, with other text beside it that is read into it.

    The number of a line in the margin, or the next cell of a row without rules.
    """
    parts = [_cells(row) if len(row.runs) > 1 else [row] for row in rows]
    every = [cell for cells in parts for cell in cells]
    edges = np.array([(cell.left, cell.right) for cell in every]).reshape(-1, 2)
    count = 0
    for (above, before), (row, cells) in pairwise(zip(rows, parts, strict=True)):
        height = row.top - row.bottom
        is_next = -height / 2 < above.bottom - row.top < 0.8 * height
        if len(cells) > 1 and is_next and not any(map(_ends_a_blank, cells)):
            count += any(_goes_on(part, cell, edges) for part in before for cell in cells)
    return count


def _goes_on(part: LayoutRow, cell: LayoutRow, edges: NDArray[np.float64]) -> bool:
    """True if a sentence of `part` goes on in `cell`, below it in a column of text.

    `edges` (N, 2): left and right of all parts of lines.
    """
    height = cell.top - cell.bottom
    if abs(part.left - cell.left) > height / 2 or part.right - part.left < SENTENCE * height:
        return False
    rights = edges[abs(edges[:, 0] - cell.left) < height / 2, 1]
    full = int((rights > rights.max() - 3 * height).sum())
    is_column = full >= max(RECURRING, FULL * len(rights))
    return is_column and _is_open(part) and part.right + _first_word(cell) > rights.max()


def _ends_a_blank(cell: LayoutRow) -> bool:
    """True after the gap of a form in brackets, such as `(   )`."""
    return cell.line(by_position=False).text.startswith((")", "]"))


def _is_open(row: LayoutRow) -> bool:
    """True for words that may go on in the next line."""
    text = row.line(by_position=False).text
    return text.count(" ") + 1 >= WORDS and (text[-1].isalnum() or text[-1] in ",-")


def _first_word(row: LayoutRow) -> float:
    """Width of the first word of a line."""
    word = next(words(min(row.runs, key=lambda run: run.left)), [])
    return word[-1].right - word[0].left if word else 0.0


def _row(runs: list[GlyphRun]) -> LayoutRow:
    return LayoutRow(
        runs,
        min(run.bottom for run in runs),
        max(run.top for run in runs),
        min(run.left for run in runs),
        max(run.right for run in runs),
    )


def _cells(row: LayoutRow) -> list[LayoutRow]:
    """The parts of a line between wide gaps, from left to right."""
    parts: list[list[GlyphRun]] = []
    edge = float("-inf")
    for run in sorted(row.runs, key=lambda run: run.left):
        if run.left - edge > WIDE * run.height:
            parts.append([])
        parts[-1].append(run)
        edge = max(edge, run.right)
    return [row] if len(parts) == 1 else [_row(part) for part in parts]


def _homes(row: LayoutRow, cells: list[LayoutRow], before: LayoutRow) -> dict[int, LayoutRow]:
    """{number of a cell: its part} of a line that continues some of the cells; else empty."""
    height = row.top - row.bottom
    if before.bottom - row.top >= 0.8 * height:
        return {}
    homes: dict[int, LayoutRow] = {}
    for part in _cells(row):
        number = next(
            (n for n, c in enumerate(cells) if abs(part.left - c.left) < height / 2), None
        )
        if number is None or (
            number + 1 < len(cells) and part.right > cells[number + 1].left - height / 2
        ):
            return {}
        homes[number] = part
    return homes if len(homes) < len(cells) else {}


def _by_cell(cells: list[LayoutRow], below: list[dict[int, LayoutRow]]) -> list[LayoutRow]:
    """The lines of the cells one after another; empty where no full line of text continues."""
    own = [[lines[number] for lines in below if number in lines] for number in range(len(cells))]
    if not any(
        lines and _is_full(cell, lines[0], after)
        for cell, lines, after in zip(cells, own, cells[1:], strict=False)
    ):
        return []
    out: list[LayoutRow] = []
    line: list[GlyphRun] = []
    for cell, lines in zip(cells, own, strict=True):
        line += cell.runs
        if lines:
            out += [_row(line), *lines]
            line = []
    return [*out, _row(line)] if line else out


def _is_full(cell: LayoutRow, following: LayoutRow, after: LayoutRow) -> bool:
    """True if the first word of the following line has no room in a line before the next cell."""
    height = cell.top - cell.bottom
    is_prose = cell.right - cell.left >= PROSE * height
    return is_prose and after.left - cell.right < _first_word(following) + 2.5 * height
