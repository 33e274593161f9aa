"""Poor lines of a page read again: their part of the page in another segmentation mode.

Mode 6 takes a page for one block of text of one size. It reads large type and what is beside a
drawing as rubbish of low confidence, which mode 4 often reads well. The bands of the page that hold
poor lines are stacked into one image and read once more; one without a blank row inside, which mode
6 took for several lines, is read as one line. A band keeps the better reading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from jangin.documents.ocr.preparation import INK_BELOW
from jangin.documents.ocr.second_reading import Line
from jangin.text.normalize import drop_spaces

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

POOR_LINE = 70.0
"""Confidence below which a line is poor."""
COLUMN = 4
"""Mode for text of several sizes."""
LONG = 8
"""Characters from which on two equal readings of a line confirm each other."""
SAME = 0.9
"""Similarity of two readings that are the same but for a sign or two."""
LINE = 7
"""Mode for one line."""


@dataclass(frozen=True, slots=True)
class Band:
    """Poor lines one after another, and the rows of pixels that they fill."""

    start: int
    """Number of the first of these lines."""
    stop: int
    top: int
    bottom: int


def read_poor_lines(
    image_HW: "Grey", lines: Sequence[Line], dpi: int, read: Callable[["Grey", int], list[Line]]
) -> list[Line]:
    """Replace lines of a band where `read`, called with its image and a mode, is more confident."""
    out = list(lines)
    bands = _bands(image_HW, lines, dpi)
    single = [band for band in bands if _is_one_line(image_HW, band)]
    readings = {band: read(_stacked(image_HW, [band], dpi)[0], LINE) for band in single}
    shifts = {band: dpi // 4 - band.top for band in single}
    rest = [band for band in bands if band not in readings]
    if rest:
        stack_HW, tops = _stacked(image_HW, rest, dpi)
        column = read(stack_HW, COLUMN)
        shifts |= {band: top - band.top for band, top in zip(rest, tops, strict=True)}
        readings |= dict.fromkeys(rest, column)
    for band in reversed(bands):
        own = [
            _moved(line, -shifts[band])
            for line in readings[band]
            if band.top <= (line.top + line.bottom) / 2 - shifts[band] < band.bottom
        ]
        _confirm(out[band.start : band.stop], own)
        if _is_better(own, out[band.start : band.stop]):
            out[band.start : band.stop] = own
    return out


def _confirm(old: Sequence[Line], new: Sequence[Line]) -> None:
    """Mark the lines that read nearly the same in both lists; a drawing does not."""
    for line in old:
        for other in new:
            signs = (drop_spaces(line.text), drop_spaces(other.text))
            if len(signs[0]) >= LONG and SequenceMatcher(None, *signs).ratio() >= SAME:
                line.confirmed = other.confirmed = True


def _stacked(image_HW: "Grey", bands: list[Band], dpi: int) -> "tuple[Grey, list[int]]":
    """(the bands one above another, the first row of each)."""
    margin = dpi // 4
    rows = [np.full((margin, image_HW.shape[1]), 255, dtype=np.uint8)]
    tops, y = [], margin
    for band in bands:
        tops.append(y)
        rows += [image_HW[band.top : band.bottom], rows[0]]
        y += band.bottom - band.top + margin
    return np.concatenate(rows), tops


def _is_one_line(image_HW: "Grey", band: Band) -> bool:
    """True if several lines were found in a band that has no blank row inside."""
    inked_H = (image_HW[band.top : band.bottom] < INK_BELOW).any(axis=1)
    rows = np.flatnonzero(inked_H)
    return band.stop - band.start > 1 and len(rows) > 0 and len(rows) == rows[-1] - rows[0] + 1


def _bands(image_HW: "Grey", lines: Sequence[Line], dpi: int) -> list[Band]:
    """Bands of poor lines and of lines at the same height beside them in the list."""
    is_inked_H = np.asarray((image_HW < INK_BELOW).any(axis=1), dtype=bool)
    bands: list[Band] = []
    start = 0
    while start < len(lines):
        stop = start
        while stop < len(lines) and lines[stop].confidence < POOR_LINE:
            stop += 1
        if stop == start:
            start += 1
            continue
        first = start
        while first > (bands[-1].stop if bands else 0) and _level(lines[first - 1], lines[first]):
            first -= 1
        while stop < len(lines) and _level(lines[stop], lines[stop - 1]):
            stop += 1
        top = min(line.top for line in lines[first:stop])
        bottom = max(line.bottom for line in lines[first:stop])
        others = [*lines[:first], *lines[stop:]]
        if not any(line.top < bottom - 2 and line.bottom > top + 2 for line in others):
            above = max((line.bottom for line in others if line.bottom <= top + 2), default=0)
            below = min((line.top for line in others if line.top >= bottom - 2), default=10**9)
            rows = range(top, max(above, top - dpi, 0), -1)
            top = next((y for y in rows if not is_inked_H[y]), top)
            rows = range(bottom, min(below, bottom + dpi, len(is_inked_H)))
            bottom = next((y for y in rows if not is_inked_H[y]), bottom)
            bands.append(Band(first, stop, top, bottom))
        start = stop
    return bands


def _level(line: Line, other: Line) -> bool:
    """True if two lines share half of the height of the lower one."""
    shared = min(line.bottom, other.bottom) - max(line.top, other.top)
    return shared > 0.5 * min(line.bottom - line.top, other.bottom - other.top)


def _moved(line: Line, rows: int) -> Line:
    return Line(
        [replace(word, top=word.top + rows) for word in line.words], line.texts, line.spaces
    )


def _is_better(new: list[Line], old: list[Line]) -> bool:
    """True if the new reading is no poor one and surer of more characters."""
    length = sum(line.length for line in new)
    mean = sum(line.length * line.confidence for line in new) / max(1, length)
    return mean >= POOR_LINE and _weight(new) > _weight(old)


def _weight(lines: list[Line]) -> float:
    return sum(line.length * (line.confidence - 50) for line in lines)
