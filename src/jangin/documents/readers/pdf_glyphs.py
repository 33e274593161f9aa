"""The characters of a PDF's text layer with their boxes, line by line.

A call into pdfium through ctypes costs more than what it does there, so the text of a page is taken
at once, boxes are written into one array, and lines are cut by numpy.
"""

import ctypes
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from jangin.documents.layout.runs import Glyph
from jangin.documents.layout.shapes import Area, Turn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
