"""OCR of one page image: preparation, attempts, and the text with its confidence."""

import re
from statistics import median
from typing import TYPE_CHECKING

from jangin.documents.ocr.circled_numbers import erase_circles
from jangin.documents.ocr.page_layout import has_ink, unfold
from jangin.documents.ocr.reading import MODES, SURE, OcrReading
from jangin.documents.ocr.tesseract import Word, lines_of, recognize, words_of

if TYPE_CHECKING:
    from jangin.documents.ocr.page_layout import Box, Grey

GOOD_CONFIDENCE = 75.0
"""Mean word confidence from which on a page is not read again in another mode."""


def read_page(page_HW: "Grey", dpi: int, languages: tuple[str, ...]) -> OcrReading:
    """OCR result of one page, (H, W) uint8; tries another mode if the confidence is low.

    Raises: MachineError: Tesseract fails.
    """
    if not has_ink(page_HW):
        return OcrReading("", 100.0, 0.0)
    unfolded_HW = unfold(page_HW, dpi)
    circles = erase_circles(unfolded_HW, dpi)
    tries: list[OcrReading] = []
    for mode in MODES:
        output = recognize(unfolded_HW, dpi, languages, mode)
        tries.append(_assemble(words_of(output), circles, lines_of(output)))
        if tries[-1].confidence >= GOOD_CONFIDENCE:
            break
    return max(tries, key=lambda reading: reading.weight)


def _spaces_after(line: list[Word], plain: dict[str, str]) -> list[str]:
    """The space or empty string after each word of a line."""
    row = plain.get("".join(word.text for word in line))
    if row is None:
        return [" "] * len(line)
    spaces, at = [], 0
    for word in line:
        at += len(word.text)
        spaces.append(" " if row[at : at + 1].isspace() else "")
        at += len(spaces[-1])
    return spaces


def _assemble(words: list[Word], circles: "list[Box]", plain: dict[str, str]) -> OcrReading:
    """The reading of a page: words in lines, an empty line at a wide gap, circles restored."""
    lines: dict[tuple[int, int, int], list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    pitch = median([max(w.height for w in line) for line in lines.values()]) if lines else 0
    out: list[str] = []
    sure: list[str] = []
    bottom = None
    for line in lines.values():
        top = min(word.top for word in line)
        if bottom is not None and top - bottom > 1.2 * pitch:
            out.append("")
        texts = [_circled(word, circles) for word in line]
        spaces = _spaces_after(line, plain)
        out.append("".join(text + space for text, space in zip(texts, spaces, strict=True)).strip())
        sure.extend(
            text if word.confidence >= SURE else "\n"
            for word, text in zip(line, texts, strict=True)
        )
        bottom = max(word.top + word.height for word in line)
    characters = sum(len(word.text) for word in words)
    total = sum(len(word.text) * word.confidence for word in words)
    confidence = total / characters if characters else 0.0
    weight = sum(len(word.text) * (word.confidence - 50) for word in words)
    return OcrReading("\n".join(out), round(confidence, 2), round(weight, 2), " ".join(sure))


def _circled(word: Word, circles: "list[Box]") -> str:
    """The word, with its leading number circled if a circle was erased there."""
    match = re.match(r"\d{1,2}", word.text)
    if match is None or not 1 <= int(match[0]) <= 20:
        return word.text
    middle = word.top + word.height / 2
    for circle in circles:
        if circle.top < middle < circle.bottom and abs(circle.left - word.left) < (
            circle.right - circle.left
        ):
            return chr(0x245F + int(match[0])) + word.text[match.end() :]
    return word.text
