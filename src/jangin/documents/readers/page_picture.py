"""Pages of documents as pictures for people, and the places of their characters.

PDFs and pictures of pages have such pictures; other formats have no pages of a fixed look.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.documents.layout.placed_text import Box, PlacedWord
from jangin.documents.readers import image, pdf_text
from jangin.documents.readers.reader import UnreadableError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from jangin.documents.ocr.preparation import Grey

FAST_COMPRESSION = 4
"""zlib level: 9 takes three times as long and saves a tenth."""

LARGE = 400_000
"""Bytes above which a page is a scan with noise: 16 levels of each colour show it as well."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Width and height of an upright page, in any unit."""

    width: float
    height: float


def page_png(path: Path, number: int, longer_side: int, turn: int = 0) -> bytes:
    """Page `number` (from 1) as a PNG of at most `longer_side` pixels on each side, upright.

    `turn`: further degrees clockwise, for a scan that is turned on its side.

    Raises: UnreadableError: the file is damaged, or has no such page.
    """
    page = _pdf_page(path, number, longer_side) if _is_pdf(path) else _frame(path, number)
    if turn:
        page = page.rotate(-turn, expand=True)
    page.thumbnail((longer_side, longer_side))
    if page.mode == "RGB" and _is_grey(page):
        page = page.convert("L")
    data = _png(page)
    return data if len(data) <= LARGE else _png(_with_few_levels(page))


def _with_few_levels(page: "Picture") -> "Picture":
    levels = [level & 0xF0 | level >> 4 for level in range(256)]
    return page.point(levels * len(page.getbands()))


def _png(page: "Picture") -> bytes:
    stream = io.BytesIO()
    page.save(stream, "PNG", compress_level=FAST_COMPRESSION)
    return stream.getvalue()


def page_sides(path: Path, number: int) -> Sides:
    """Sides of page `number` (from 1), upright by its file; raises as `page_png`."""
    if not _is_pdf(path):
        return Sides(*_frame(path, number).size)
    with pdf_text.open_pdf(path) as document:
        _check(number, len(document))
        page = document[number - 1]
        rotation = pdf_text.upright_rotation(document, number)
        width, height = page.get_size()
        turned = (rotation - page.get_rotation()) % 180 != 0
        page.close()
    return Sides(height, width) if turned else Sides(width, height)


def page_for_ocr(path: Path, number: int, dpi: int) -> "Grey":
    """The page as the reader gives it to OCR, (H, W) uint8; raises as `page_png`."""
    if not _is_pdf(path):
        with image.opened(path) as picture:
            _check(number, getattr(picture, "n_frames", 1))
            return image.pixels(picture, number - 1, dpi)
    with pdf_text.open_pdf(path) as document:
        _check(number, len(document))
        return pdf_text.render_page(document, number, dpi)


def text_layer(path: Path, number: int) -> list[PlacedWord]:
    """Every character of a PDF page's text layer, in the order of drawing; raises as `page_png`."""
    with pdf_text.open_pdf(path) as document:
        _check(number, len(document))
        content = pdf_text.page_text(document, number).content
    width, height = max(1.0, content.area.right), max(1.0, content.area.top)
    return [
        PlacedWord(
            glyph.character,
            Box(
                glyph.left / width,
                1 - glyph.top / height,
                glyph.right / width,
                1 - glyph.bottom / height,
            ),
            line,
        )
        for line, run in enumerate(content.runs)
        for glyph in run.shown()
    ]


def _is_pdf(path: Path) -> bool:
    """True for a PDF, by its content and not by its name."""
    with path.open("rb") as stream:
        return b"%PDF-" in stream.read(1024)


def _check(number: int, pages: int) -> None:
    if not 1 <= number <= pages:
        raise UnreadableError(f"it has no page {number}.", f"It has pages 1 to {pages}.")


def _pdf_page(path: Path, number: int, longer_side: int) -> "Picture":
    with pdf_text.open_pdf(path) as document:
        _check(number, len(document))
        rotation = pdf_text.upright_rotation(document, number)
        page = document[number - 1]
        page.set_rotation(rotation)
        scale = longer_side / max(1.0, *page.get_size())
        bitmap = page.render(scale=scale)
        picture: Any = bitmap.to_pil().convert("RGB")
        bitmap.close()
        page.close()
    return picture  # type: ignore[no-any-return]  # pypdfium2 has no types


def _frame(path: Path, number: int) -> "Picture":
    with image.opened(path) as picture:
        _check(number, getattr(picture, "n_frames", 1))
        return image.upright(picture, number - 1).convert("RGB")


def _is_grey(page: "Picture") -> bool:
    from PIL import ImageChops

    red, green, blue = page.split()
    return not (
        ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()
    )
