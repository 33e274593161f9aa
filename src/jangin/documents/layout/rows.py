"""Runs at the same height as one line of text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jangin.documents.layout.runs import (
    Glyph,
    Run,
    from_left_to_right,
    joined,
    jumps_back,
)
from jangin.documents.layout.shapes import Area
from jangin.documents.layout.text_line import TextLine

SAME_LINE = 0.5
"""Two runs are on one line if they share this part of the smaller one's height."""
COVERED = 0.5
"""A run fits into the gaps of another if at most this part of it is covered by letters."""


@dataclass(slots=True)
class Row:
    """Runs side by side on one line, from left to right once `ordered` was called."""

    runs: list[Run]
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

    def takes(self, run: Run) -> bool:
        """True if the run is on this line; it is added by `add`."""
        shared = min(self.top, run.top) - max(self.bottom, run.bottom)
        return shared >= SAME_LINE * min(self.top - self.bottom, run.height)

    def add(self, run: Run) -> bool:
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


def line_of(text: str, runs: Sequence[Run], area: Area) -> TextLine:
    """A line of text, in the type of the longest of its runs."""
    longest = max(runs, key=lambda run: len(run.glyphs))
    bold = all(run.bold for run in runs)
    return TextLine(text, area.left, area.right, area.bottom, area.top, longest.size, bold)


def _covered(run: Run, other: Run) -> float:
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


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Lines from top to bottom."""
    rows: list[Row] = []
    for run in sorted(runs, key=lambda run: -run.middle):
        for row in reversed(rows[-4:]):
            if row.takes(run) and row.add(run):
                break
        else:
            rows.append(Row([run], run.bottom, run.top, run.left, run.right))
    return sorted(rows, key=lambda row: -row.middle)
