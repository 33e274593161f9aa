"""Rules, frames and pictures that a PDF page draws: what tables and boxes are recognised by."""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

# One line of a page as text, with its place and type.


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a page's text, its position on the page, and the type it is set in."""

    text: str
    left: float
    """In points from the lower left corner of the page as it is read, upright; y grows upwards."""
    right: float
    bottom: float
    top: float
    size: float
    """Font size in points."""
    bold: bool
    """True if the whole line is bold."""


THIN = 3.0
"""Rectangles thinner than this, in points, are rules."""
DASH = 4.0
"""Dots and dashes whose gaps are at most this wide are one rule."""
DOTS = 5
"""Fewest dots of a dotted rule."""
MOST_SEGMENTS = 2000
"""Paths of more segments are drawings."""
SHADES = 5
"""Fewest colours, and rectangles, of a gradient that is drawn as rectangles side by side."""

Matrix = tuple[float, float, float, float, float, float]
UNMOVED: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
Turn = Callable[[float, float, float, float], "Area"]
"""Moves (left, bottom, right, top) from the coordinates of the file to those of the page."""


class Area(NamedTuple):
    """A rectangle on the page, in points; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, x: float, y: float, slack: float = 0.0) -> bool:
        """True if the point is inside, or at most `slack` points outside."""
        return (
            self.left - slack <= x <= self.right + slack
            and self.bottom - slack <= y <= self.top + slack
        )

    def surrounds(self, other: "Area", slack: float = 1.0) -> bool:
        """True if the other rectangle is inside."""
        return self.holds(other.left, other.bottom, slack) and self.holds(
            other.right, other.top, slack
        )


def bounding_box(lines: Sequence[TextLine]) -> Area:
    """The smallest rectangle that holds all lines; there must be one."""
    return Area(
        min(line.left for line in lines),
        min(line.bottom for line in lines),
        max(line.right for line in lines),
        max(line.top for line in lines),
    )


@dataclass(slots=True)
class Shapes:
    """What a page draws besides its text."""

    count: int = 0
    """Images, paths, texts and forms."""
    pictures: list[Area] = field(default_factory=list)
    across: list[Area] = field(default_factory=list)
    """Horizontal rules."""
    down: list[Area] = field(default_factory=list)
    """Vertical rules."""
    frames: list[Area] = field(default_factory=list)
    """Rectangles that are drawn or shaded."""
    dots: list[Area] = field(default_factory=list)
    """Marks smaller than `THIN` in both directions, as dotted rules are made of."""


class _Path(NamedTuple):
    """A path of the page, the matrix of the form that it is in, and its place."""

    item: Any
    matrix: Matrix | None
    area: Area


def shapes_of(page: Any, turn: Turn, page_area: Area) -> Shapes:
    """Rules, frames and pictures of a `pypdfium2.PdfPage`; `turn` makes the page upright."""
    import pypdfium2.raw as pdfium

    shapes = Shapes()
    kind_of, bounds_of = pdfium.FPDFPageObj_GetType, pdfium.FPDFPageObj_GetBounds
    edges = tuple(ctypes.c_float() for _ in range(4))
    pointers = tuple(ctypes.byref(edge) for edge in edges)
    left, bottom, right, top = edges
    paths: list[_Path] = []
    for item, matrix in _objects(page):
        shapes.count += 1
        kind = kind_of(item)
        if kind == pdfium.FPDF_PAGEOBJ_TEXT or not bounds_of(item, *pointers):
            continue
        area = Area(left.value, bottom.value, right.value, top.value)
        if kind == pdfium.FPDF_PAGEOBJ_PATH:
            if matrix is None and area[2] - area[0] < THIN and area[3] - area[1] < THIN:
                shapes.dots.append(area)
            else:
                paths.append(_Path(item, matrix, turn(*_moved(area, matrix))))
        elif kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            shapes.pictures.append(turn(*_moved(area, matrix)))
    for path in _without_gradients(paths, shapes):
        _add_path(shapes, path, turn, page_area)
    shapes.dots = [turn(*dot) for dot in shapes.dots] if len(shapes.dots) >= DOTS else []
    _add_dotted(shapes)
    return shapes


def _objects(page: Any) -> Iterator[tuple[Any, Matrix | None]]:
    """Objects of the page and of its forms, with the matrix of the form."""
    import pypdfium2.raw as pdfium

    for index in range(pdfium.FPDFPage_CountObjects(page.raw)):
        item = pdfium.FPDFPage_GetObject(page.raw, index)
        yield item, None
        if pdfium.FPDFPageObj_GetType(item) == pdfium.FPDF_PAGEOBJ_FORM:
            matrix = _matrix(item)
            for inner in range(pdfium.FPDFFormObj_CountObjects(item)):
                yield pdfium.FPDFFormObj_GetObject(item, inner), matrix


def _matrix(item: Any) -> Matrix:
    import pypdfium2.raw as pdfium

    m = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(item, m)
    return (m.a, m.b, m.c, m.d, m.e, m.f)


def _moved(area: Area, matrix: Matrix | None) -> Area:
    if matrix is None:
        return area
    a, b, c, d, e, f = matrix
    left, bottom, right, top = area
    x0, x1 = sorted((a * left, a * right))
    x2, x3 = sorted((c * bottom, c * top))
    y0, y1 = sorted((b * left, b * right))
    y2, y3 = sorted((d * bottom, d * top))
    return Area(x0 + x2 + e, y0 + y2 + f, x1 + x3 + e, y1 + y3 + f)


def _without_gradients(paths: Sequence[_Path], shapes: Shapes) -> Iterator[_Path]:
    """The paths, except rectangles side by side in many colours: each such row is one frame."""
    start = 0
    for stop in range(1, len(paths) + 1):
        if stop < len(paths) and _is_row([path.area for path in paths[start : stop + 1]][-3:]):
            continue
        row = paths[start:stop]
        if len(row) >= SHADES and len({_fill(path.item) for path in row} - {None}) >= SHADES:
            lefts, bottoms, rights, tops = zip(*(path.area for path in row), strict=True)
            shapes.frames.append(Area(min(lefts), min(bottoms), max(rights), max(tops)))
        else:
            yield from row
        start = stop


def _is_row(areas: Sequence[Area]) -> bool:
    """True if rectangles, two or three, touch one another along one line and are equally high."""
    return any(
        all(
            abs(a[low] - b[low]) < 0.5
            and abs(a[high] - b[high]) < 0.5
            and min(a[2 + along], b[2 + along]) > max(a[along], b[along]) - 0.5
            for a, b in pairwise(areas)
        )
        for along, low, high in ((0, 1, 3), (1, 0, 2))
    )


def _fill(item: Any) -> tuple[int, ...] | None:
    """Colour of a rectangle that is filled and not drawn around; None for other paths."""
    import pypdfium2.raw as pdfium

    fill, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(item, fill, stroke)
    if stroke.value or not fill.value or pdfium.FPDFPath_CountSegments(item) > 5:
        return None
    levels = [ctypes.c_uint() for _ in range(4)]
    pdfium.FPDFPageObj_GetFillColor(item, *levels)
    return tuple(level.value for level in levels)


def _add_path(shapes: Shapes, path: _Path, turn: Turn, page_area: Area) -> None:
    """Sort a path into rules, frames and drawings; drawings are left out."""
    import pypdfium2.raw as pdfium

    item, matrix, area = path
    width, height = area.right - area.left, area.top - area.bottom
    if width < THIN and height < THIN:
        return
    if width < THIN or height < THIN:
        (shapes.down if width < THIN else shapes.across).append(area)
        return
    if page_area.surrounds(area, 5) and area.surrounds(page_area, 15):
        return
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(item, fill, stroke)
    if not stroke.value and (not fill.value or _is_white(item)):
        return
    segments = pdfium.FPDFPath_CountSegments(item)
    if segments <= 5:
        if segments >= 4:
            shapes.frames.append(area)
    elif segments <= MOST_SEGMENTS:
        _add_segments(shapes, item, area, _turned(_matrix(item), matrix, turn))


def _is_white(item: Any) -> bool:
    import pypdfium2.raw as pdfium

    levels = [ctypes.c_uint() for _ in range(4)]
    pdfium.FPDFPageObj_GetFillColor(item, *levels)
    return min(level.value for level in levels[:3]) >= 250 or levels[3].value == 0


def _turned(own: Matrix, matrix: Matrix | None, turn: Turn) -> Turn:
    if own == UNMOVED:
        return turn if matrix is None else lambda *line: turn(*_moved(Area(*line), matrix))
    return lambda *line: turn(*_moved(_moved(Area(*line), own), matrix))


def _add_segments(shapes: Shapes, item: Any, whole: Area, turn: Turn) -> None:
    """Straight lines of a path of many segments; one rectangle with round corners is a frame."""
    import pypdfium2.raw as pdfium

    x, y = ctypes.c_float(), ctypes.c_float()
    before: tuple[float, float] | None = None
    across: list[Area] = []
    down: list[Area] = []
    curves = moves = 0
    for index in range(pdfium.FPDFPath_CountSegments(item)):
        segment = pdfium.FPDFPath_GetPathSegment(item, index)
        kind = pdfium.FPDFPathSegment_GetType(segment)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        moves += kind == pdfium.FPDF_SEGMENT_MOVETO
        curves += kind == pdfium.FPDF_SEGMENT_BEZIERTO
        if kind == pdfium.FPDF_SEGMENT_LINETO and before is not None:
            (x0, x1), (y0, y1) = sorted((before[0], x.value)), sorted((before[1], y.value))
            area = turn(x0, y0, x1, y1)
            if area.top - area.bottom < 1 < area.right - area.left:
                across.append(area)
            elif area.right - area.left < 1 < area.top - area.bottom:
                down.append(area)
        before = (x.value, y.value)
    if moves == 1 and curves in (4, 8, 12, 16) and across and down:
        shapes.frames.append(whole)
    elif moves > 1 or not curves:
        shapes.across.extend(across)
        shapes.down.extend(down)


def _add_dotted(shapes: Shapes) -> None:
    """Rules from rows and columns of five or more dots."""
    rows: dict[int, list[Area]] = defaultdict(list)
    columns: dict[int, list[Area]] = defaultdict(list)
    for dot in shapes.dots:
        rows[round(dot.bottom + dot.top)].append(dot)
        columns[round(dot.left + dot.right)].append(dot)
    for dots in rows.values():
        if len(dots) >= DOTS:
            shapes.across.extend(_chains(sorted(dots), 0))
    for dots in columns.values():
        if len(dots) >= DOTS:
            shapes.down.extend(_chains(sorted(dots, key=lambda dot: dot.bottom), 1))


def _chains(dots: list[Area], low: int) -> Iterator[Area]:
    """Runs of five or more dots that are near each other; `low` is 0 along x, 1 along y."""
    high = low + 2
    start = 0
    for index in range(1, len(dots) + 1):
        if index < len(dots) and dots[index][low] - dots[index - 1][high] <= DASH:
            continue
        chain = dots[start:index]
        start = index
        if len(chain) >= DOTS:
            yield Area(
                min(dot.left for dot in chain),
                min(dot.bottom for dot in chain),
                max(dot.right for dot in chain),
                max(dot.top for dot in chain),
            )
