"""Segment a page image: stack table cells, shaded boxes and columns in reading order.

Tesseract's own page segmentation either loses text (mode 3) or reads straight across columns
and table cells (mode 6). So the page is cut along its rules, the edges of its shading and its
column gutters, and the pieces are stacked into one tall image, which mode 6 reads correctly in one
process.

Shape letters: H rows, W columns of pixels, top left first; grey levels 0 (ink) to 255 (paper).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jangin.documents.layout.gutters import (
    ColumnSearch,
    PixelBox,
    Profile,
    any_ink,
    columns,
    extent,
)
from jangin.documents.layout.picture_tables import PictureCell, cells_of, closing_lines
from jangin.documents.ocr.preparation import INK_BELOW, TILE, Grey, Mask, Sheet, prepare

SHADE_BELOW = 242
"""Grey level below which a background is shading."""
SHADE_STEP = 4.0
"""Grey levels by which the paper around shading is brighter, at most two tiles away; a shadow of
the binding grows by one or two."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A cell of a table in an unfolded page, by its rows of pixels."""

    top: int
    bottom: int
    cell: PictureCell


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """What is known of a page's columns before it is looked at."""

    count: int | None = None
    """How many a person gave; None to find them."""
    gutters: tuple[float, ...] = ()
    """Right edges of the gutters of pages before it, in shares of the width; fewer lines show
    such a gutter."""


UNKNOWN = KnownColumns()


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A page as one column."""

    image_HW: Grey
    strips: tuple[Strip, ...] = ()
    """Its cells of tables, from top to bottom."""
    crossed: int = 0
    """Lines across what may be a gutter."""
    gutters: tuple[float, ...] = ()
    """Right edges of its gutters, in shares of the width."""


Piece = tuple[Grey, PictureCell | None]
"""A part of a page, and the cell of a table that it is or is part of."""


def unfold(sheet: Sheet, dpi: int, known: KnownColumns = UNKNOWN) -> Unfolded:
    """The page as one column, (H, W) uint8: without rules and shading.

    A page that is one column of plain text is returned as it is: cutting its margins off changes
    a letter here and there.
    """
    across_HW, down_HW = _rules(sheet.clean_HW < INK_BELOW, dpi)
    rules_HW = across_HW | down_HW
    clean_HW = _erased(sheet.clean_HW, rules_HW)
    rules_HW |= closing_lines(clean_HW < INK_BELOW, across_HW, down_HW, dpi)
    barriers_HW = rules_HW | _shade_edges(sheet.page_HW, sheet.background_HW)
    width = sheet.clean_HW.shape[1]
    how = ColumnSearch(known.count, [gutter * width for gutter in known.gutters])
    crops = _cropped(_pieces(clean_HW, barriers_HW, across_HW, dpi, how), dpi)
    is_plain = len(crops) == 1 and not rules_HW.any()
    page = Unfolded(sheet.clean_HW) if is_plain else _stack(crops, dpi)
    gutters = tuple(gutter / width for gutter in how.known[len(known.gutters) :])
    return replace(page, crossed=how.crossed, gutters=gutters)


def gutters_of(page_HW: Grey, dpi: int) -> tuple[float, ...]:
    """Right edges of the gutters of a page, (H, W) uint8, in shares of its width."""
    return unfold(prepare(page_HW, dpi), dpi).gutters


def without_rules(sheet: Sheet, dpi: int) -> Grey:
    """The page as it is, (H, W) uint8, without rules."""
    across_HW, down_HW = _rules(sheet.clean_HW < INK_BELOW, dpi)
    return _erased(sheet.clean_HW, across_HW | down_HW)


def _erased(clean_HW: Grey, rules_HW: Mask) -> Grey:
    clean_HW = clean_HW.copy()
    clean_HW[ndimage.binary_dilation(rules_HW, iterations=2)] = 255
    return clean_HW


def _rules(ink_HW: Mask, dpi: int) -> tuple[Mask, Mask]:
    """(horizontal, vertical) straight lines longer than strokes of letters: 0.5 and 0.4 inch."""
    across_HW = _runs(ndimage.binary_dilation(ink_HW, np.ones((3, 1))), dpi // 2, axis=1)
    down_HW = _runs(ndimage.binary_dilation(ink_HW, np.ones((1, 3))), dpi * 2 // 5, axis=0)
    return across_HW, down_HW


def _runs(ink_HW: Mask, length: int, axis: int) -> Mask:
    """Ink that lies on an unbroken run of at least `length` pixels along `axis`."""
    full = ndimage.uniform_filter1d(ink_HW.astype(np.float32), length, axis=axis) > 0.98
    spread = ndimage.maximum_filter1d(full.view(np.uint8), length, axis=axis).astype(bool)
    return np.asarray(spread & ink_HW, dtype=bool)


def _shade_edges(page_HW: Grey, background_HW: NDArray[np.float64]) -> Mask:
    """Outlines of shaded rectangles at least four tiles wide and two high."""
    shaded = ndimage.binary_opening(background_HW[::TILE, ::TILE] < SHADE_BELOW, np.ones((2, 4)))
    edges_HW = np.zeros(page_HW.shape, dtype=bool)
    tiles = background_HW[::TILE, ::TILE]
    for rows, sides in ndimage.find_objects(ndimage.label(shaded)[0]):
        if not _has_edges(tiles, rows, sides):
            continue
        top, left = max(0, rows.start - 1) * TILE, max(0, sides.start - 1) * TILE
        part = page_HW[top : (rows.stop + 1) * TILE, left : (sides.stop + 1) * TILE] < SHADE_BELOW
        down = extent(np.asarray(part.mean(axis=1) > 0.6))
        across = extent(np.asarray(part.mean(axis=0) > 0.6))
        if down is None or across is None:
            continue
        box_HW = edges_HW[top + down[0] : top + down[1], left + across[0] : left + across[1]]
        box_HW[:2], box_HW[-2:], box_HW[:, :2], box_HW[:, -2:] = True, True, True, True
    return edges_HW


def _has_edges(tiles: NDArray[np.float64], rows: slice, sides: slice) -> bool:
    """True if the paper is brighter just outside; a shadow on the page fades away instead."""
    inside = tiles[rows, sides]
    top, bottom = max(0, rows.start - 2), min(tiles.shape[0], rows.stop + 2)
    left, right = max(0, sides.start - 2), min(tiles.shape[1], sides.stop + 2)
    steps = [
        float(np.median(tiles[line, sides] - inside[edge, :]))
        for line, edge, off in (
            (top, 0, rows.start < 2),
            (bottom - 1, -1, rows.stop + 2 > tiles.shape[0]),
        )
        if not off
    ] + [
        float(np.median(tiles[rows, line] - inside[:, edge]))
        for line, edge, off in (
            (left, 0, sides.start < 2),
            (right - 1, -1, sides.stop + 2 > tiles.shape[1]),
        )
        if not off
    ]
    return not steps or float(np.median(steps)) >= SHADE_STEP


@dataclass(frozen=True, slots=True)
class _Page:
    """A page and the areas that its rules and the edges of its shading enclose."""

    image_HW: Grey
    labels_HW: NDArray[np.int32]
    boxes: dict[int, PixelBox]
    parents: dict[int, int]
    across_HW: Mask
    """Horizontal rules."""
    dpi: int


def _pieces(
    clean_HW: Grey, barriers_HW: Mask, across_HW: Mask, dpi: int, how: ColumnSearch
) -> Iterator[Piece]:
    """Crops in reading order: text between tables, then the table's cells row by row."""
    open_HW = np.pad(~barriers_HW, 2, constant_values=True)[1:-1, 1:-1]
    labels_HW = ndimage.label(open_HW)[0]
    boxes = {
        label: PixelBox(rows.start, rows.stop, sides.start, sides.stop)
        for label, (rows, sides) in enumerate(ndimage.find_objects(labels_HW), start=1)
        if min(rows.stop - rows.start, sides.stop - sides.start) > dpi // 16
    }
    outer = int(labels_HW[0, 0])
    parents = {label: _parent(label, boxes, outer) for label in boxes}
    image_HW, across_HW = (
        np.pad(clean_HW, 1, constant_values=255),
        np.pad(across_HW, 1, constant_values=False),
    )
    page = _Page(image_HW, labels_HW, boxes, parents, across_HW, dpi)
    yield from _region(page, outer, how)


def _parent(label: int, boxes: dict[int, PixelBox], outer: int) -> int:
    """Label of the smallest box that encloses this one; `outer` if there is none."""
    own = boxes[label]
    around = [
        (box.bottom - box.top, other)
        for other, box in boxes.items()
        if other != label
        and box.top < own.top
        and box.bottom > own.bottom
        and box.left < own.left
        and box.right > own.right
    ]
    return min(around)[1] if around else outer


def _region(page: _Page, label: int, how: ColumnSearch) -> Iterator[Piece]:
    """Pieces of one enclosed area and, recursively, of the areas inside it."""
    area = page.boxes[label]
    inside = np.s_[area.top : area.bottom, area.left : area.right]
    is_own_HW = page.labels_HW[inside] == label
    flow_HW = np.where(is_own_HW, page.image_HW[inside], 255).astype(np.uint8)
    cells = {
        number: _moved(page.boxes[number], area)
        for number, parent in page.parents.items()
        if parent == label and number != label
    }
    solid_HW = np.zeros(flow_HW.shape, dtype=bool)
    for box in cells.values():
        solid_HW[box.top : box.bottom, box.left : box.right] = True
    rules = _long_rules(page.across_HW[inside] & ~solid_HW)
    for column in columns(flow_HW < INK_BELOW, solid_HW, page.dpi, how, rules):
        own_HW = np.where(column.others_HW, 255, flow_HW).astype(np.uint8)
        own = {
            number: box
            for number, box in cells.items()
            if box.touches(column.box, 0)
            and not column.others_HW[(box.top + box.bottom) // 2, (box.left + box.right) // 2]
        }
        yield from _column(page, own_HW, column.box, own)


def _column(
    page: _Page, flow_HW: Grey, part: PixelBox, cells: dict[int, PixelBox]
) -> Iterator[Piece]:
    """Pieces of one column: its text with the tables in their places."""
    y = part.top
    inked_H = any_ink(flow_HW[:, part.left : part.right] < INK_BELOW, axis=1)
    for table, members in _tables(cells, page.dpi):
        top = max(y, _blank_row(inked_H, table.top, y, -1))
        bottom = max(top, _blank_row(inked_H, table.bottom, part.bottom, 1))
        yield flow_HW[y:top, part.left : part.right], None
        yield flow_HW[top : table.top, table.left : table.right], None
        yield flow_HW[top:bottom, part.left : table.left], None
        inner = [list(_region(page, member, ColumnSearch())) for member in members]
        yield from _in_table(inner, [cells[member] for member in members], page.dpi)
        yield flow_HW[top:bottom, table.right : part.right], None
        yield flow_HW[table.bottom : bottom, table.left : table.right], None
        y = max(y, bottom)
    yield flow_HW[y : part.bottom, part.left : part.right], None


def _moved(box: PixelBox, area: PixelBox) -> PixelBox:
    """A box of the page as one of an area of it."""
    return PixelBox(
        box.top - area.top, box.bottom - area.top, box.left - area.left, box.right - area.left
    )


def _long_rules(across_HW: Mask) -> list[PixelBox]:
    """Horizontal rules over a third of an area or more."""
    labels_HW, _ = ndimage.label(across_HW, np.ones((3, 3)))
    return [
        PixelBox(rows.start, rows.stop, sides.start, sides.stop)
        for rows, sides in ndimage.find_objects(labels_HW)
        if sides.stop - sides.start > across_HW.shape[1] / 3
    ]


def _in_table(inner: list[list[Piece]], boxes: list[PixelBox], dpi: int) -> Iterator[Piece]:
    """The pieces inside boxes; where these are cells of a table, and hold none, with their cell."""
    holds_table = any(cell is not None for pieces in inner for _, cell in pieces)
    cells = [] if holds_table else cells_of(boxes, dpi)
    for number, pieces in enumerate(inner):
        for piece_HW, cell in pieces:
            yield piece_HW, cells[number] if cells else cell


def _blank_row(inked_H: Profile, row: int, limit: int, step: int) -> int:
    """The row without ink nearest to `row` up to `limit`, so that no line of text beside is cut.

    `step` is -1 to search upwards, 1 downwards; `row` itself if there is no such row.
    """
    blank = np.flatnonzero(~(inked_H[limit:row][::-1] if step < 0 else inked_H[row:limit]))
    return row + step * int(blank[0]) if blank.size else row


def _tables(boxes: dict[int, PixelBox], dpi: int) -> list[tuple[PixelBox, list[int]]]:
    """(box, cells in row order) of tables from top to bottom; touching cells are one table."""
    tables: list[tuple[PixelBox, list[int]]] = []
    for cell in sorted(boxes, key=lambda n: boxes[n].top):
        box, members = boxes[cell], [cell]
        for table in [t for t in tables if t[0].touches(box, dpi // 25)]:
            tables.remove(table)
            box, members = box.joined(table[0]), table[1] + members
        tables.append((box, members))
    tolerance = max(1, dpi // 16)
    return [
        (box, sorted(members, key=lambda n: (boxes[n].top // tolerance, boxes[n].left)))
        for box, members in sorted(tables, key=lambda table: table[0].top)
    ]


def _cropped(pieces: Iterable[Piece], dpi: int) -> list[Piece]:
    """The pieces that have ink, without the margins around it."""
    crops: list[Piece] = []
    for piece_HW, cell in pieces:
        ink_HW = piece_HW < INK_BELOW
        down, across = extent(any_ink(ink_HW, axis=1)), extent(any_ink(ink_HW, axis=0))
        if down and across and min(down[1] - down[0], across[1] - across[0]) > dpi // 40:
            crops.append((piece_HW[down[0] : down[1], across[0] : across[1]], cell))
    return crops


def _stack(crops: list[Piece], dpi: int) -> Unfolded:
    """The crops one above another."""
    margin = dpi // 8
    if not crops:
        return Unfolded(np.full((margin, margin), 255, dtype=np.uint8))
    width = max(crop_HW.shape[1] for crop_HW, _ in crops) + 2 * margin
    rows = [np.full((margin, width), 255, dtype=np.uint8)]
    strips, y = [], margin
    for crop_HW, cell in crops:
        padding = ((0, margin), (margin, width - margin - crop_HW.shape[1]))
        rows.append(np.pad(crop_HW, padding, constant_values=255))
        if cell is not None:
            strips.append(Strip(y, y + crop_HW.shape[0], cell))
        y += rows[-1].shape[0]
    return Unfolded(np.concatenate(rows), tuple(strips))
