"""Text layer and rendered images of PDF pages, through pypdfium2.

pdfium is not thread-safe: use everything here in the thread that opened the file only. While a
file is open in one thread, another one that opens a file waits.
"""

import ctypes
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.reasons import Reason
from jangin.documents.layout.gutters import in_column_order
from jangin.documents.layout.pages import PageContent
from jangin.documents.layout.runs import (
    Glyph,
    GlyphRun,
    from_left_to_right,
    joined,
    jumps_back,
    run_of,
)
from jangin.documents.layout.shapes import Area, Turn, shapes_of
from jangin.documents.readers.page_limit import on_page
from jangin.documents.readers.reader import UnreadableError, damaged
from jangin.text.normalize import nfc

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jangin.documents.ocr.preparation import Grey


# The characters of a PDF's text layer with their boxes, line by line.
#
# A call into pdfium through ctypes costs more than what it does there, so the text of a page is
# taken at once, boxes are written into one array, and lines are cut by numpy.


Line = tuple[list[Glyph], list[int]]
"""(glyphs, their numbers on the text page)."""


def glyph_lines(text_page: Any, count: int, turn: Turn) -> Iterator[Line]:
    """Lines of a text page of `count` characters as pdfium separates them.

    They are cut also where pdfium misses a return to the left margin. A space that the PDF does
    not draw is a glyph without width.
    """
    import numpy as np

    indices, codes = _characters(text_page, count)
    if not indices:
        return
    code_C = np.array(codes, dtype=np.uint32)
    box_C4 = _boxes(text_page, count)[indices]
    if turn is not Area:
        box_C4 = np.stack(turn(*box_C4.T), axis=1)
    break_C = (code_C == 10) | (code_C == 13)
    blank_C = code_C == 32
    blank_C[blank_C] = [_is_generated(text_page, indices[i]) for i in np.flatnonzero(blank_C)]
    box_C4[blank_C, 2] = box_C4[blank_C, 0]
    cut_C = break_C.copy()
    cut_C[_returns(box_C4, ~(break_C | blank_C), np.cumsum(break_C))] = True
    left_C, bottom_C, right_C, top_C = box_C4.T.tolist()
    new = partial(tuple.__new__, Glyph)
    glyphs: list[Glyph] = list(
        map(new, zip(map(chr, codes), left_C, right_C, bottom_C, top_C, strict=True))
    )
    start = 0
    for cut in [*np.flatnonzero(cut_C).tolist(), len(glyphs)]:
        if cut > start:
            yield glyphs[start:cut], indices[start:cut]
        start = cut + 1 if cut < len(glyphs) and break_C[cut] else cut


def _characters(text_page: Any, count: int) -> tuple[list[int], list[int]]:
    """(number on the text page, code point) of each character."""
    import pypdfium2.raw as pdfium

    units = (ctypes.c_ushort * (count + 1))()
    written = pdfium.FPDFText_GetText(text_page, 0, count, units) - 1
    codes = list(units[:count])
    if written == count and not any(0xD800 <= code < 0xE000 for code in codes):
        return list(range(count)), codes
    indices, points = [], []
    high = 0
    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(text_page, index)
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD
            high = 0
        indices.append(index)
        points.append(code)
    return indices, points


def _boxes(text_page: Any, count: int) -> "NDArray[np.float64]":
    """(left, bottom, right, top) of each character, in the coordinates of the file."""
    import numpy as np
    import pypdfium2.raw as pdfium

    boxes_C4 = np.zeros((count, 4), dtype=np.float32)
    start, step = boxes_C4.ctypes.data, boxes_C4.strides[0]
    page = ctypes.cast(text_page, ctypes.c_void_p).value
    # A prototype of plain addresses halves the cost of a call.
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    function = ctypes.cast(pdfium.FPDFText_GetLooseCharBox, ctypes.c_void_p)
    box_of = prototype(function.value or 0)
    pointers = range(start, start + count * step, step)
    for _ in map(box_of, repeat(page), range(count), pointers):
        pass  # each call writes one row of the array
    # FS_RECTF is left, top, right, bottom.
    return boxes_C4[:, [0, 3, 2, 1]].astype(np.float64)


def _is_generated(text_page: Any, index: int) -> bool:
    import pypdfium2.raw as pdfium

    return bool(pdfium.FPDFText_IsGenerated(text_page, index) == 1)


def _returns(
    box_C4: "NDArray[np.float64]", drawn_C: "NDArray[np.bool_]", line_C: "NDArray[np.int64]"
) -> "NDArray[np.int64]":
    """Numbers of the characters that are on another line than the one drawn before them.

    A superscript is on the same line. `line_C`: the line by pdfium's own line breaks.
    """
    import numpy as np

    drawn_D = np.flatnonzero(drawn_C)
    last_D4, box_D4 = box_C4[drawn_D[:-1]], box_C4[drawn_D[1:]]
    height_D = np.maximum(box_D4[:, 3] - box_D4[:, 1], 1.0)
    step_D = np.abs(box_D4[:, 1] - last_D4[:, 1])
    back_D = box_D4[:, 0] < last_D4[:, 0] - height_D
    apart_D = (step_D > 0.9 * height_D) | (back_D & (step_D > 0.5 * height_D))
    same_D = line_C[drawn_D[:-1]] == line_C[drawn_D[1:]]
    return np.asarray(drawn_D[1:][apart_D & same_D])


BOLD_NAME = re.compile(rb"bold|black|heavy", re.IGNORECASE)
FORCE_BOLD = 1 << 18
"""Flag of a PDF font descriptor."""
MOST_PIXELS = 40_000_000
"""Larger pages (posters, plans) are rendered at a lower resolution, to bound memory."""


_PDFIUM = threading.RLock()
"""Held while a file is open: pdfium crashes where two threads call it."""


@dataclass(frozen=True, slots=True)
class PageText:
    """Text layer of one page, in two orders, with figures about its layout."""

    number: int
    """From 1."""
    drawn: str = ""
    """Text in the order in which the file draws it."""
    seen: str = ""
    """Text with the characters of each line sorted from left to right."""
    lines: int = 0
    disordered: int = 0
    """Number of lines whose characters are not drawn from left to right."""
    objects: int = 0
    """Number of images, paths, texts and forms on the page."""
    picture_share: float = 0.0
    """Share of the page that its images cover, 0 to 1."""
    content: PageContent = field(default_factory=PageContent)


@contextmanager
def open_pdf(path: Path) -> Iterator[Any]:
    """An open `pypdfium2.PdfDocument`.

    Raises: UnreadableError: the file or one of its pages is damaged, or needs a password.
    """
    with _PDFIUM:
        yield from _opened(path)


def _opened(path: Path) -> Iterator[Any]:
    import pypdfium2

    try:
        with on_page(0):
            document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableError(
                Reason("password"),
                "Save a copy without the password and put that in its place.",
            ) from error
        raise damaged(
            "no PDF reader structure was found.",
            "Export or download it again.",
        ) from error
    try:
        yield document
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(Reason("damaged_page"), "Export or download it again.") from error
    finally:
        document.close()


def render_page(document: Any, number: int, dpi: int) -> "Grey":
    """Image of page `number` (from 1), (H, W) uint8: 0 black to 255 white."""
    import numpy as np

    with on_page(number):
        page = document[number - 1]
        width, height = page.get_size()
        scale = min(dpi / 72, (MOST_PIXELS / max(1.0, width * height)) ** 0.5)
        bitmap = page.render(scale=scale, grayscale=True)
    pixels = np.array(bitmap.to_numpy(), dtype=np.uint8)
    bitmap.close()
    page.close()
    return pixels if pixels.ndim == 2 else pixels[:, :, 0].copy()


def upright_rotation(document: Any, number: int) -> int:
    """Clockwise degrees by which page `number` (from 1) is shown so that its text is upright."""
    with on_page(number):
        page = document[number - 1]
        text_page = page.get_textpage()
        try:
            return _rotation(text_page.raw, text_page.count_chars(), page.get_rotation())
        finally:
            text_page.close()
            page.close()


def page_text(document: Any, number: int, columns: int | None = None) -> PageText:
    """The text layer of page `number` (from 1); `columns` as of `PageContent`."""
    with on_page(number):
        return _page_text(document, number, columns)


def _page_text(document: Any, number: int, columns: int | None) -> PageText:
    page = document[number - 1]
    given = page.get_rotation()
    text_page = page.get_textpage()
    try:
        rotation = _rotation(text_page.raw, text_page.count_chars(), given)
        if rotation != given:
            page.set_rotation(rotation)
            text_page.close()
            text_page = page.get_textpage()
        area, turn = _upright(page.get_bbox(), rotation)
        lines = list(glyph_lines(text_page.raw, text_page.count_chars(), turn))
        runs = list(_runs(text_page.raw, lines, rotation))
        shapes = shapes_of(page, turn, area)
        page.set_rotation(given)
    finally:
        text_page.close()
        page.close()
    drawn = in_column_order([line for line, _ in lines], area.top, columns)
    merged = _merged(drawn)
    back = [jumps_back(line) for line in merged]
    text = _page(drawn)
    seen = text
    if len(merged) < len(drawn) or any(back):
        seen = _page(
            [
                from_left_to_right(line) if jumped else line
                for line, jumped in zip(merged, back, strict=True)
            ]
        )
    return PageText(
        number=number,
        drawn=text,
        seen=seen,
        lines=len(drawn),
        disordered=len(drawn) - len(merged) + sum(back),
        objects=shapes.count,
        picture_share=_share(shapes.pictures, area),
        content=PageContent(area, runs, shapes, columns),
    )


def _rotation(text_page: Any, count: int, given: int) -> int:
    """Clockwise degrees by which to show the page so that most of its text is upright."""
    import pypdfium2.raw as pdfium

    angles: Counter[int] = Counter()
    for index in range(0, count, max(1, count // 64)):
        if pdfium.FPDFText_GetUnicode(text_page, index) > 32:
            angle = pdfium.FPDFText_GetCharAngle(text_page, index)
            angles[round(math.degrees(angle) / 90) * -90 % 360] += 1
    if not angles:
        return given
    ((rotation, most),) = angles.most_common(1)
    return rotation if most > angles[given] else given


def _upright(box: tuple[float, float, float, float], rotation: int) -> tuple[Area, Turn]:
    """(the page when it is upright, the function that moves rectangles there)."""
    left, bottom, right, top = box
    width, height = right - left, top - bottom
    if rotation == 0 and left == bottom == 0:
        return Area(0, 0, width, height), Area
    turns: dict[int, Turn] = {
        0: lambda x0, y0, x1, y1: Area(x0 - left, y0 - bottom, x1 - left, y1 - bottom),
        90: lambda x0, y0, x1, y1: Area(y0 - bottom, right - x1, y1 - bottom, right - x0),
        180: lambda x0, y0, x1, y1: Area(right - x1, top - y1, right - x0, top - y0),
        270: lambda x0, y0, x1, y1: Area(top - y1, x0 - left, top - y0, x1 - left),
    }
    if rotation in (90, 270):
        width, height = height, width
    return Area(0, 0, width, height), turns[rotation]


def _merged(lines: list[list[Glyph]]) -> list[list[Glyph]]:
    """Lines, with fragments that were drawn separately moved into the line that surrounds them.

    Columns are not joined: a fragment belongs to a line only if it is between the line's ends.
    """
    out: list[list[Glyph]] = [list(line) for line in lines]
    bottoms = [line[0].bottom for line in out]
    reach = [0.3 * max(line[0].top - line[0].bottom, 1.0) for line in out]
    for index in sorted(range(len(out)), key=lambda i: len(lines[i])):
        fragment = [g for g in out[index] if g.right > g.left]
        if not fragment:
            continue
        low = fragment[0].bottom
        level = [i for i, bottom in enumerate(bottoms) if abs(low - bottom) <= reach[i]]
        home = next(
            (i for i in level if i != index and out[i] and _lies_within(fragment, out[i])),
            None,
        )
        if home is not None:
            out[home].extend(fragment)
            out[index] = []
    return [line for line in out if line]


def _lies_within(fragment: list[Glyph], line: list[Glyph]) -> bool:
    """True if the fragment, at the same height as a longer line, fills a gap of it."""
    if len(line) < len(fragment):
        return False
    height = max(line[0].top - line[0].bottom, 1.0)
    left, right = min(g.left for g in fragment), max(g.right for g in fragment)
    if left < min(g.left for g in line) - height or right > max(g.right for g in line) + height:
        return False
    covered = sum(
        max(0.0, min(right, g.right) - max(left, g.left)) for g in line if not g.character.isspace()
    )
    return covered < 0.3 * (right - left)


def _runs(
    text_page: Any, lines: list[tuple[list[Glyph], list[int]]], rotation: int
) -> Iterator[GlyphRun]:
    """Lines with the type they are set in; lines at another angle than the page last."""
    turned: dict[int, list[tuple[Glyph, int]]] = {}
    fonts: dict[int, bool] = {}
    for line, numbers in lines:
        shown = [n for n, g in zip(numbers, line, strict=True) if not g.character.isspace()]
        if not shown:
            continue
        angle = _angle(text_page, shown[0], rotation)
        if angle == _angle(text_page, shown[-1], rotation) == 0:
            size, bold = _type_of(text_page, (shown[0], shown[len(shown) // 2], shown[-1]), fonts)
            if run := run_of(line, size, bold):
                yield run
            continue
        for glyph, index in zip(line, numbers, strict=True):
            angle = _angle(text_page, index, rotation)
            turned.setdefault(angle, []).append((glyph, index))
    for angle, glyphs in turned.items():
        yield from _turned_runs(text_page, glyphs, angle)


def _angle(text_page: Any, index: int, rotation: int) -> int:
    """Degrees by which a character is turned clockwise on the upright page, 0 to 359."""
    import pypdfium2.raw as pdfium

    degrees = math.degrees(pdfium.FPDFText_GetCharAngle(text_page, index)) + rotation
    return 0 if abs((degrees + 180) % 360 - 180) < 3 else round(degrees) % 360


def _turned_runs(text_page: Any, glyphs: list[tuple[Glyph, int]], angle: int) -> Iterator[GlyphRun]:
    """Runs of characters that are turned by `angle`, each read in its own direction."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    size, bold = _type_of(text_page, (glyphs[0][1], glyphs[-1][1]), {})
    rows: list[list[tuple[Glyph, Glyph]]] = []
    flat = []
    for glyph, _ in glyphs:
        if glyph.character.isspace():
            continue
        x, y = (glyph.left + glyph.right) / 2, (glyph.bottom + glyph.top) / 2
        along, above = x * cosine - y * sine, x * sine + y * cosine
        width, height = glyph.right - glyph.left, glyph.top - glyph.bottom
        if abs(cosine) > abs(sine):
            half = (width - size * abs(sine)) / abs(cosine) / 2
        else:
            half = (height - size * abs(cosine)) / abs(sine) / 2
        half = max(half, 0.1 * size)
        own = Glyph(glyph.character, along - half, along + half, above - size / 2, above + size / 2)
        flat.append((own, glyph))
    for own, glyph in sorted(flat, key=lambda pair: (-pair[0].bottom, pair[0].left)):
        if rows and rows[-1][0][0].bottom - own.bottom < 0.5 * size:
            rows[-1].append((own, glyph))
        else:
            rows.append([(own, glyph)])
    for row in rows:
        row.sort(key=lambda pair: pair[0].left)
        start = 0
        for end in range(1, len(row) + 1):
            if end < len(row) and row[end][0].left - row[end - 1][0].right < 3 * size:
                continue
            part = row[start:end]
            start = end
            yield GlyphRun(
                [own for own, _ in part],
                min(glyph.left for _, glyph in part),
                max(glyph.right for _, glyph in part),
                min(glyph.bottom for _, glyph in part),
                max(glyph.top for _, glyph in part),
                size,
                bold,
                turned=True,
            )


def _type_of(
    text_page: Any, indices: tuple[int, ...], fonts: dict[int, bool]
) -> tuple[float, bool]:
    """(font size of the middle one in points on the page, whether all of them are bold).

    `fonts`: whether the fonts of the open page are bold, by their address; is added to.
    """
    import pypdfium2.raw as pdfium

    middle = indices[len(indices) // 2]
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(text_page, middle, matrix)
    size = pdfium.FPDFText_GetFontSize(text_page, middle) * math.hypot(matrix.c, matrix.d)
    return round(size, 1), all(_is_bold(text_page, index, fonts) for index in indices)


def _is_bold(text_page: Any, index: int, fonts: dict[int, bool]) -> bool:
    """By the font, or because the outline of the character is stroked too."""
    import pypdfium2.raw as pdfium

    drawn = pdfium.FPDFText_GetTextObject(text_page, index)
    if not drawn:
        return _is_bold_font(text_page, index)
    font = pdfium.FPDFTextObj_GetFont(drawn)
    key = ctypes.cast(font, ctypes.c_void_p).value or 0
    if not key or key not in fonts:
        fonts[key] = _is_bold_font(text_page, index)
    return fonts[key] or bool(
        pdfium.FPDFTextObj_GetTextRenderMode(drawn) == pdfium.FPDF_TEXTRENDERMODE_FILL_STROKE
    )


def _is_bold_font(text_page: Any, index: int) -> bool:
    """By its name, weight or flags."""
    import pypdfium2.raw as pdfium

    name = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(text_page, index, name, 128, flags)
    if flags.value & FORCE_BOLD or BOLD_NAME.search(name.value):
        return True
    return bool(pdfium.FPDFText_GetFontWeight(text_page, index) >= 600)


def _page(lines: list[list[Glyph]]) -> str:
    """Text of the lines, NFC, with an empty line at each gap as large as between paragraphs."""
    bottoms = [min(glyph.bottom for glyph in line) for line in lines]
    steps = sorted(a - b for a, b in pairwise(bottoms) if a - b > 1)
    pitch = steps[len(steps) // 2] if steps else 0.0
    rows: list[str] = []
    for index, line in enumerate(lines):
        if index and bottoms[index - 1] - bottoms[index] > 1.5 * pitch > 0:
            rows.append("")
        rows.append(joined(line))
    return nfc("\n".join(rows))


def _share(pictures: list[Area], page: Area) -> float:
    """Share of the page that pictures cover, 0 to 1."""
    area = sum(
        max(0.0, min(right, page.right) - max(left, 0)) * max(0.0, min(top, page.top) - max(low, 0))
        for left, low, right, top in pictures
    )
    return min(1.0, area / max(1.0, page.right * page.top))
