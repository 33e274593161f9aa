"""Text runs: glyphs that a PDF draws one after another on one line, with their type."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

WIDE = 1.5
"""A run is cut where the gap between two glyphs is wider than this many line heights."""


class Glyph(NamedTuple):
    """One character and its box on the page, in points; y grows upwards."""

    character: str
    left: float
    right: float
    """Equal to `left` for a space that the PDF does not draw."""
    bottom: float
    top: float


LEFT = itemgetter(Glyph._fields.index("left"))
"""Of a glyph: as a key of `sorted` it is faster than `attrgetter`."""


@dataclass(slots=True)
class GlyphRun:
    """Glyphs in the order in which they are drawn, their box, and the type they are set in."""

    glyphs: list[Glyph]
    left: float
    right: float
    bottom: float
    top: float
    size: float = 0.0
    """Font size in points, as shown on the page."""
    bold: bool = False
    turned: bool = False
    """True if it does not run from left to right on the upright page; its glyphs are in the order
    in which they are read."""
    height: float = field(init=False)
    """Height of the line in points, at least 1."""
    middle: float = field(init=False)
    """Height of its middle on the page."""

    _shown: list[Glyph] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what is asked often."""
        self.height = max(self.top - self.bottom, 1.0)
        self.middle = (self.top + self.bottom) / 2

    def shown(self) -> list[Glyph]:
        """The glyphs that a reader sees."""
        if self._shown is None:
            self._shown = shown_of(self.glyphs)
        return self._shown

    def part(self, glyphs: list[Glyph]) -> "GlyphRun | None":
        """Some of its glyphs as a run of their own; None if they are spaces only."""
        shown = shown_of(glyphs)
        if not shown:
            return None
        _, left, right, bottom, top = zip(*shown, strict=True)
        return GlyphRun(
            glyphs,
            min(left),
            max(right),
            min(bottom),
            max(top),
            self.size,
            self.bold,
            self.turned,
        )


def shown_of(glyphs: Iterable[Glyph]) -> list[Glyph]:
    """The glyphs that a reader sees."""
    return [g for g in glyphs if g[2] > g[1] and not g[0].isspace()]


def run_of(
    glyphs: list[Glyph], size: float, bold: bool, *, turned: bool = False
) -> GlyphRun | None:
    """A run of these glyphs; None if they are spaces only."""
    return GlyphRun([], 0, 0, 0, 0, size, bold, turned).part(glyphs)


def cut_at_gaps(run: GlyphRun) -> Iterator[GlyphRun]:
    """The run in pieces, cut where two glyphs are far apart: columns, cells, tabs.

    Also where it goes back to the left, as broken files do that draw the digits of a line first.
    """
    if run.turned:
        yield run
        return
    height = run.height
    widest = WIDE * height
    part: list[Glyph] = []
    edge = run.left
    for glyph in run.glyphs:
        if glyph.right > glyph.left and not glyph.character.isspace():
            far = glyph.left - edge > widest or glyph.left < edge - height
            if far and (piece := run.part(part)):
                yield piece
                part = []
            edge = glyph.right
        part.append(glyph)
    if piece := run.part(part):
        yield piece


def words(run: GlyphRun) -> Iterator[list[Glyph]]:
    """The glyphs word by word, each with the spaces after it."""
    narrow = 0.15 * run.height
    word: list[Glyph] = []
    edge = run.left
    spaced = False
    for glyph in run.glyphs:
        space = glyph.character.isspace()
        if word and not space and (spaced or glyph.left - edge > narrow):
            yield word
            word = []
        word.append(glyph)
        spaced = space
        if not space:
            edge = glyph.right
    yield word


def middle_of(glyphs: Sequence[Glyph]) -> float:
    """Middle of the glyphs along the line."""
    shown = [g for g in glyphs if not g.character.isspace()] or glyphs
    return (min(g.left for g in shown) + max(g.right for g in shown)) / 2


def joined(glyphs: Iterable[Glyph]) -> str:
    """Text of one line, with a space at each gap wider than a quarter of its height."""
    out: list[str] = []
    edge: float | None = None
    last = ""
    for character, left, right, low, high in glyphs:
        space = character.isspace()
        if (
            edge is not None
            and right > left
            and not space
            and last != " "
            and left - edge > 0.25 * (high - low)
        ):
            out.append(" ")
        if not space:
            out.append(character)
            last = character
        elif last and last != " ":
            out.append(" ")
            last = " "
        if right > left:
            edge = right
    return "".join(out).strip()


def jumps_back(glyphs: Sequence[Glyph]) -> bool:
    """True if a visible character begins to the left of the one drawn before it."""
    lefts = [g.left for g in shown_of(glyphs)]
    return any(after < before - 1 for before, after in pairwise(lefts))


def from_left_to_right(glyphs: Sequence[Glyph]) -> list[Glyph]:
    """The drawn glyphs sorted by position."""
    return sorted((g for g in glyphs if g[2] > g[1]), key=LEFT)
