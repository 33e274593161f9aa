"""Words of a scanned page with their boxes on its picture; for looking at, not for reading.

The reader stacks columns and cells into one image, in which the place of a word is lost. Here the
page is read as it is, once: what is misread is matched with the reader's text by similarity.

Shape letters: H rows, W columns of pixels, top left first; grey levels 0 (ink) to 255 (paper).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jangin.documents.ocr.page import GOOD_CONFIDENCE, UPRIGHT, turns_by_lines
from jangin.documents.ocr.page_layout import without_rules
from jangin.documents.ocr.preparation import has_ink, prepare
from jangin.documents.ocr.tesseract import Word, orientation, recognize, words_of
from jangin.documents.readers.page_picture import Box, PlacedWord

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey, Sheet

METHOD = 2
"""Increase it when the same image gives other words or boxes."""
ONE_BLOCK = 6
"""Tesseract's page segmentation mode that loses no Korean lines."""


@dataclass(frozen=True, slots=True)
class PlacedScan:
    """Words of a scanned page in reading order of Tesseract."""

    turn: int
    """Degrees, 0, 90, 180 or 270, by which the scan is turned clockwise to be upright."""
    words: tuple[PlacedWord, ...]
    """Boxes are those on the upright page."""


def placed_scan(page_HW: "Grey", dpi: int, languages: tuple[str, ...]) -> PlacedScan:
    """The words of one page, (H, W) uint8; turned upright where it reads badly as it is.

    Raises: MachineError: Tesseract fails.
    """
    if not has_ink(page_HW):
        return PlacedScan(0, ())
    words, confidence = _words(page_HW, dpi, languages)
    named = orientation(page_HW, dpi) if confidence < GOOD_CONFIDENCE else 0
    best = 0
    others = () if confidence >= UPRIGHT else turns_by_lines(page_HW)
    for turn in dict.fromkeys((named, *others)):
        if turn == 0 or confidence >= GOOD_CONFIDENCE:
            continue
        turned_HW = np.ascontiguousarray(np.rot90(page_HW, -turn // 90))
        turned, other = _words(turned_HW, dpi, languages)
        if other > confidence and (turn == named or other >= UPRIGHT):
            best, words, confidence = turn, turned, other
    return PlacedScan(best, words)


def _words(
    page_HW: "Grey", dpi: int, languages: tuple[str, ...]
) -> tuple[tuple[PlacedWord, ...], float]:
    """(words, mean confidence weighted by length, 0 to 100)."""
    sheet = prepare(page_HW, dpi)
    words = words_of(recognize(without_rules(sheet, dpi), dpi, languages, ONE_BLOCK))
    lines = {line: number for number, line in enumerate(dict.fromkeys(w.line for w in words))}
    length = sum(len(word.text) for word in words)
    confidence = sum(word.confidence * len(word.text) for word in words) / max(1, length)
    return tuple(PlacedWord(w.text, _box(w, sheet), lines[w.line]) for w in words), confidence


def _box(word: Word, sheet: "Sheet") -> Box:
    """The box on the page before it was deskewed."""
    height, width = sheet.page_HW.shape
    sine, cosine = math.sin(math.radians(sheet.skew)), math.cos(math.radians(sheet.skew))
    # The middle of a word is turned back with the page; its size changes by less than a pixel.
    x = word.left + word.width / 2 - width / 2
    y = word.top + word.height / 2 - height / 2
    middle_x, middle_y = cosine * x - sine * y + width / 2, sine * x + cosine * y + height / 2
    left, top = middle_x - word.width / 2, middle_y - word.height / 2
    return Box(
        max(0.0, left / width),
        max(0.0, top / height),
        min(1.0, (left + word.width) / width),
        min(1.0, (top + word.height) / height),
    )
