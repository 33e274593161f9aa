"""Text layer and rendered images of PDF pages, through pypdfium2.

pdfium is not thread-safe: use everything here in the thread that opened the file only.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.documents.readers.columns import Glyph, in_column_order
from jangin.documents.readers.reader import UnreadableError
from jangin.text.normalize import nfc

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

MOST_PIXELS = 40_000_000
"""Larger pages (posters, plans) are rendered at a lower resolution, to bound memory."""


@dataclass(frozen=True, slots=True)
class PageText:
    """Text layer of one page, in two orders, with figures about its layout."""

    number: int
    """From 1."""
    drawn: str
    """Text in the order in which the file draws it."""
    seen: str
    """Text with the characters of each line sorted from left to right."""
    lines: int
    disordered: int
    """Number of lines whose characters are not drawn from left to right."""
    objects: int
    """Number of images, paths, texts and forms on the page."""
    picture_share: float
    """Share of the page that its images cover, 0 to 1."""


@contextmanager
def open_pdf(path: Path) -> Iterator[Any]:
    """An open `pypdfium2.PdfDocument`.

    Raises: UnreadableError: the file or one of its pages is damaged, or needs a password.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableError(
                "it is protected by a password.",
                "Save a copy without the password and put that in its place.",
            ) from error
        raise UnreadableError(
            "it is damaged: no PDF reader structure was found.",
            "Export or download it again.",
        ) from error
    try:
        yield document
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(
            "one of its pages is damaged.", "Export or download it again."
        ) from error
    finally:
        document.close()


def render_page(document: Any, number: int, dpi: int) -> "Grey":
    """Image of page `number` (from 1), (H, W) uint8: 0 black to 255 white."""
    import numpy as np

    page = document[number - 1]
    width, height = page.get_size()
    scale = min(dpi / 72, (MOST_PIXELS / max(1.0, width * height)) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=True)
    pixels = np.array(bitmap.to_numpy(), dtype=np.uint8)
    bitmap.close()
    page.close()
    return pixels if pixels.ndim == 2 else pixels[:, :, 0].copy()


def page_text(document: Any, number: int) -> PageText:
    """The text layer of page `number` (from 1)."""
    page = document[number - 1]
    text_page = page.get_textpage()
    try:
        lines = [line for line in _lines(text_page.raw, text_page.count_chars()) if line]
        objects, picture_share = _objects(page)
        lines = in_column_order(lines, *page.get_size())
    finally:
        text_page.close()
        page.close()
    merged = _merged(lines)
    disordered = len(lines) - len(merged)
    seen = []
    for line in merged:
        if _jumps_back(line):
            disordered += 1
            seen.append(sorted((g for g in line if g.right > g.left), key=lambda g: g.left))
        else:
            seen.append(line)
    return PageText(
        number=number,
        drawn=_page(lines),
        seen=_page(seen),
        lines=len(lines),
        disordered=disordered,
        objects=objects,
        picture_share=picture_share,
    )


def _merged(lines: list[list[Glyph]]) -> list[list[Glyph]]:
    """Lines, with fragments that were drawn separately moved into the line that surrounds them.

    Columns are not joined: a fragment belongs to a line only if it is between the line's ends.
    """
    out: list[list[Glyph]] = [list(line) for line in lines]
    for index in sorted(range(len(out)), key=lambda i: len(lines[i])):
        fragment = [g for g in out[index] if g.right > g.left]
        if not fragment:
            continue
        home = next(
            (
                i
                for i, line in enumerate(out)
                if i != index and line and _lies_within(fragment, line)
            ),
            None,
        )
        if home is not None:
            out[home].extend(fragment)
            out[index] = []
    return [line for line in out if line]


def _lies_within(fragment: list[Glyph], line: list[Glyph]) -> bool:
    """True if the fragment fills a gap of a longer line at the same height."""
    first, other = fragment[0], line[0]
    height = max(other.top - other.bottom, 1.0)
    if len(line) < len(fragment) or abs(first.bottom - other.bottom) > 0.3 * height:
        return False
    left, right = min(g.left for g in fragment), max(g.right for g in fragment)
    if left < min(g.left for g in line) - height or right > max(g.right for g in line) + height:
        return False
    covered = sum(
        max(0.0, min(right, g.right) - max(left, g.left)) for g in line if not g.character.isspace()
    )
    return covered < 0.3 * (right - left)


def _lines(text_page: Any, count: int) -> Iterator[list[Glyph]]:
    """Lines as pdfium separates them, cut also where it misses a return to the left margin."""
    import pypdfium2.raw as pdfium

    box = pdfium.FS_RECTF()
    pointer = ctypes.byref(box)
    line: list[Glyph] = []
    last: Glyph | None = None
    high = 0
    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(text_page, index)
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD
            high = 0
        if code in (10, 13):
            yield line
            line, last = [], None
            continue
        pdfium.FPDFText_GetLooseCharBox(text_page, index, pointer)
        if pdfium.FPDFText_IsGenerated(text_page, index) == 1:
            line.append(Glyph(chr(code), box.left, box.left, box.bottom, box.top))
            continue
        glyph = Glyph(chr(code), box.left, box.right, box.bottom, box.top)
        if last is not None and _returns(last, glyph):
            yield line
            line = []
        line.append(glyph)
        last = glyph
    yield line


def _returns(last: Glyph, glyph: Glyph) -> bool:
    """True if `glyph` is on another line than `last`; a superscript is not."""
    height = max(glyph.top - glyph.bottom, 1.0)
    step = abs(glyph.bottom - last.bottom)
    return step > 0.9 * height or (glyph.left < last.left - height and step > 0.5 * height)


def _jumps_back(line: list[Glyph]) -> bool:
    """True if a visible character begins to the left of the one drawn before it."""
    lefts = [g.left for g in line if g.right > g.left and not g.character.isspace()]
    return any(after < before - 1 for before, after in pairwise(lefts))


def _joined(line: list[Glyph]) -> str:
    """Text of the line, with a space at each gap wider than a quarter of its height."""
    out: list[str] = []
    before: Glyph | None = None
    for glyph in line:
        space = glyph.character.isspace()
        if (
            before is not None
            and glyph.right > glyph.left
            and glyph.left - before.right > 0.25 * (glyph.top - glyph.bottom)
            and out[-1] != " "
            and not space
        ):
            out.append(" ")
        if not (space and out and out[-1] == " "):
            out.append(" " if space else glyph.character)
        if glyph.right > glyph.left:
            before = glyph
    return "".join(out).strip()


def _page(lines: list[list[Glyph]]) -> str:
    """Text of the lines, NFC, with an empty line at each gap as large as between paragraphs."""
    bottoms = [min(glyph.bottom for glyph in line) for line in lines]
    steps = sorted(a - b for a, b in pairwise(bottoms) if a - b > 1)
    pitch = steps[len(steps) // 2] if steps else 0.0
    rows: list[str] = []
    for index, line in enumerate(lines):
        if index and bottoms[index - 1] - bottoms[index] > 1.5 * pitch > 0:
            rows.append("")
        rows.append(_joined(line))
    return nfc("\n".join(rows))


def _objects(page: Any) -> tuple[int, float]:
    """(number of objects, share of the page that images cover)."""
    import pypdfium2.raw as pdfium

    width, height = page.get_size()
    area = 0.0
    count = 0
    for item in page.get_objects(max_depth=2):
        count += 1
        if item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = item.get_bounds()
            area += max(0.0, min(right, width) - max(left, 0)) * max(
                0.0, min(top, height) - max(bottom, 0)
            )
    return count, min(1.0, area / max(1.0, width * height))
