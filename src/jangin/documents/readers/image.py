"""Reader of pictures of pages: PNG, JPEG, TIFF of several pages, BMP, WebP; all through OCR."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.reasons import Reason
from jangin.documents.ocr.reader import PageImage, first_language, picture_key
from jangin.documents.readers.pdf import from_ocr
from jangin.documents.readers.pdf_text import MOST_PIXELS
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    with_corrections,
)
from jangin.text.normalize import clean_text

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from jangin.documents.ocr.preparation import Grey

PAGE_INCHES = 11.7
"""Longer side of an A4 page, which a large picture without a resolution of its own is taken for."""
PAGE_PIXELS = 1200
"""Longer side from which on a picture is taken for a whole page."""
SCREEN_DPI = 96
"""Resolution that a smaller picture is taken to have."""
PLAUSIBLE_DPI = (120, 1200)
"""Resolutions of scanners; cameras and screens write 72 or 96 for pages of any size."""


def read_image(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """Text of every page of a picture.

    Raises: UnreadableError: the file is damaged, or OCR is switched off; MachineError: Tesseract or
    its language is not installed.
    """
    if settings.ocr == "never":
        raise UnreadableError(Reason("picture_ocr_off"), "Set load.ocr.type to auto.")
    with opened(file.path) as picture:
        count = getattr(picture, "n_frames", 1)
        pages = [
            PageImage(
                picture_key(file.digest, number, columns),
                _render(picture, number, settings.dpi),
                number + 1,
                columns,
            )
            for number in range(count)
            for columns in [settings.columns_of(file.digest, number + 1)]
        ]
        languages = settings.ocr_languages
        if not languages:
            languages = first_language(
                settings.ledger, settings.dpi, pages[count // 2], file.name, settings.progress
            )
        scans = list(settings.ocr_reader(languages).read(pages))
        numbers = range(1, count + 1)
        by_page = with_corrections(file, settings, dict(zip(numbers, scans, strict=True)))
        scans = [by_page[number] for number in numbers]
        if settings.transcriber is not None:
            scans = settings.transcriber.improve(file.name, pages, scans, numbers)
        readings = [from_ocr(scan, "a picture", settings.keep_doubtful) for scan in scans]
    if not any(reading.text.strip() or reading.doubtful for reading in readings):
        raise UnreadableError(
            Reason("picture_no_text"),
            "Take it out of the folder, or scan it again at 200 dpi or more.",
        )
    return [_cleaned(reading) for reading in readings]


def _cleaned(reading: PageReading) -> PageReading:
    return replace(reading, text=clean_text(reading.text))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open picture; raises `UnreadableError` where it, or one of its pages, is damaged."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(Reason("no_picture"), "Save or scan it again.") from error


def _render(picture: Any, frame: int, dpi: int) -> "Callable[[], Grey]":
    return lambda: pixels(picture, frame, dpi)


def upright(picture: Any, frame: int) -> "Picture":
    """One page of an open picture, upright by its EXIF data, on white paper."""
    from PIL import Image, ImageOps

    picture.seek(frame)
    page: Picture = ImageOps.exif_transpose(picture)
    if page.mode in ("RGBA", "LA", "PA") or "transparency" in page.info:
        page = page.convert("RGBA")
        page = Image.alpha_composite(Image.new("RGBA", page.size, "white"), page)
    return page


def pixels(picture: Any, frame: int, dpi: int) -> "Grey":
    """One page of an open picture as (H, W) uint8 at about `dpi`, upright, on white paper."""
    import numpy as np
    from PIL import Image

    page = upright(picture, frame).convert("L")
    scale = dpi / _resolution(picture, max(page.size))
    scale = min(scale, (MOST_PIXELS / (page.width * page.height)) ** 0.5)
    if not 0.9 < scale < 1.1:
        size = (max(1, round(page.width * scale)), max(1, round(page.height * scale)))
        page = page.resize(size, Image.Resampling.LANCZOS)
    return np.array(page, dtype=np.uint8)


def _resolution(picture: Any, longer_side: int) -> float:
    """Dots per inch of the page that the picture shows."""
    stated = float((picture.info.get("dpi") or (0, 0))[0] or 0)
    if PLAUSIBLE_DPI[0] <= stated <= PLAUSIBLE_DPI[1]:
        return stated
    return longer_side / PAGE_INCHES if longer_side >= PAGE_PIXELS else SCREEN_DPI
