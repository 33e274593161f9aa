"""OCR of one page image: attempts, the best of them, and the lines to be set aside.

A page is read unfolded into one column (`page_layout`). Only where that leaves lines of low
confidence is it read in other ways too: as it is, turned upright, in other segmentation modes.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jangin.documents.layout.gutters import PixelBox
from jangin.documents.layout.picture_tables import PictureCell, header_line, table_rows
from jangin.documents.ocr.codes import read_codes
from jangin.documents.ocr.cross_check import cross_check
from jangin.documents.ocr.missing_syllables import restore_syllables
from jangin.documents.ocr.page_layout import UNKNOWN, KnownColumns, Strip, Unfolded, unfold
from jangin.documents.ocr.preparation import INK_BELOW, Grey, has_ink, prepare
from jangin.documents.ocr.rare_spellings import read_rare_spellings
from jangin.documents.ocr.reading import MODES, SURE, DoubtfulLine, OcrReading
from jangin.documents.ocr.second_reading import LATIN, Line, read_again, read_in_both, spaces_after
from jangin.documents.ocr.tesseract import KOREAN, Word, lines_of, orientation, recognize, words_of
from jangin.text.normalize import drop_spaces

if TYPE_CHECKING:
    from jangin.documents.layout.gutters import PixelBox
    from jangin.documents.ocr.preparation import Grey


# Restore circled numbers such as ①, which Tesseract's Korean model cannot output.


def erase_circles(image_HW: Grey, dpi: int) -> list[PixelBox]:
    """Boxes of circles around numbers; erases them and enlarges the numbers.

    `image_HW` (uint8, 0 ink to 255 paper) is changed in place. A circle is a thin closed curve,
    as wide as high and as high as a letter, whose pixels are all about one radius from its centre.
    """
    labels_HW, _ = ndimage.label(image_HW < INK_BELOW + 40, structure=np.ones((3, 3)))
    rings = []
    for label, (rows, across) in enumerate(ndimage.find_objects(labels_HW), start=1):
        height, width = rows.stop - rows.start, across.stop - across.start
        if not (dpi // 12 <= height <= dpi // 4 and abs(height - width) <= 0.15 * height):
            continue
        crop_HW = image_HW[rows, across]
        ring_HW = labels_HW[rows, across] == label
        if not _is_ring(ring_HW) or not _holds_ink((crop_HW < INK_BELOW + 40) & ~ring_HW):
            continue
        crop_HW[labels_HW[rows, across] == label] = 255
        crop_HW[:] = _enlarged(crop_HW)
        rings.append(PixelBox(rows.start, rows.stop, across.start, across.stop))
    return rings


def _is_ring(ink_HW: NDArray[np.bool_]) -> bool:
    height, width = ink_HW.shape
    y, x = np.nonzero(ink_HW)
    radius = np.hypot((y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width) * 2
    turns = np.arctan2(y - (height - 1) / 2, x - (width - 1) / 2)
    covered = np.unique(np.floor((turns + np.pi) / (2 * np.pi) * 23.99)).size
    return bool(np.quantile(radius, 0.1) > 0.72 and covered >= 22)


def _holds_ink(other_HW: NDArray[np.bool_]) -> bool:
    """True if something as large as a digit is inside; a ring without ink is the letter ㅇ."""
    height, width = other_HW.shape
    inner_HW = other_HW[height // 5 : height - height // 5, width // 5 : width - width // 5]
    rows = np.flatnonzero(inner_HW.any(axis=1))
    return bool(rows.size and rows[-1] - rows[0] >= 0.3 * height)


def _enlarged(crop_HW: Grey) -> Grey:
    """The content of the circle, scaled to 85 % of the circle's size."""
    ink_HW = crop_HW < INK_BELOW + 40
    if not ink_HW.any():
        return crop_HW
    rows, across = np.flatnonzero(ink_HW.any(axis=1)), np.flatnonzero(ink_HW.any(axis=0))
    inner = crop_HW[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1].astype(np.float64)
    height, width = crop_HW.shape
    scale = min(0.85 * height / inner.shape[0], 0.85 * width / inner.shape[1])
    large = np.clip(ndimage.zoom(inner, scale, order=1, mode="nearest"), 0, 255).astype(np.uint8)
    out = np.full(crop_HW.shape, 255, dtype=np.uint8)
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    out[top : top + large.shape[0], left : left + large.shape[1]] = large
    return out


# Poor lines of a page read again: their part of the page in another segmentation mode.
#
# Mode 6 takes a page for one block of text of one size. It reads large type and what is beside a
# drawing as rubbish of low confidence, which mode 4 often reads well. The bands of the page that
# hold poor lines are stacked into one image and read once more; one without a blank row inside,
# which mode 6 took for several lines, is read as one line. A band keeps the better reading.


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
    return mean >= POOR_LINE and _lines_weight(new) > _lines_weight(old)


def _lines_weight(lines: list[Line]) -> float:
    return sum(line.length * (line.confidence - 50) for line in lines)


GOOD_CONFIDENCE = 75.0
"""Mean word confidence from which on a page is not turned or read in another mode."""
UPRIGHT = 60.0
"""The same below which a page may lie in a direction that Tesseract does not name. Measured: 10 to
54 where it lies on its side or its head, 69 and more where it is upright."""
LINES_SEEN = 1.5
"""How much sharper lines are across the page than down it, from which on that is how they lie.
Measured: 1.8 and more on whole pages, turned ones included; 0.6 on two short lines."""
FEW_HANGUL = 0.3
"""Share of Hangul below which a page that was read as Korean is tried in other languages."""
SOME_HANGUL = 0.05
"""Share of Hangul from which on a page is not one in Latin letters alone."""
POOR_SHARE = 0.02
"""Share of the characters that may be in poor lines; more call for reading the page as it is,
without unfolding it."""
CLEARLY_BETTER = 1.0
"""Mean confidence by which the page as it is must exceed the unfolded page, whose pieces are in
order."""
FAR_BETTER = 10.0
"""The same where the unfolded page has columns or tables, which the page as it is mixes."""
AS_MUCH = 0.98
"""Share of the unfolded page's sure characters that it must hold: mode 6 can lose a table."""
LONG_ROW = 4
"""Lines of a row of a table for each doubtful one from which on the row stays in the text."""
LEGIBLE_LINE = 50.0
"""Confidence below which a line is set aside. Measured: 41 and more on lines of text with codes
that were misread, 0 to 50 on drawings."""
LEGIBLE_IF_CONFIRMED = 35.0
"""The same where two segmentation modes read the line alike."""
LEGIBLE_ON_POOR_PAGE = 80.0
"""The same on a page whose mean is below `LEGIBLE_LINE`: right lines are rare exceptions there."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of Tesseract over one image of a page."""

    image_HW: "Grey"
    languages: tuple[str, ...]
    lines: list[Line]
    strips: tuple[Strip, ...] = ()
    """Where the image has cells of tables."""
    crossed: int = 0
    """Lines across what may be a gutter."""

    def mean(self) -> float:
        """Mean word confidence, weighted by length; 0 without words."""
        return self.total(0) / max(1, sum(line.length for line in self.lines))

    def total(self, offset: float) -> float:
        """Sum of (confidence - offset) over all characters."""
        return sum(line.length * (line.confidence - offset) for line in self.lines)

    @property
    def hangul(self) -> float:
        """Share of its letters that are Hangul; 1 if there are hardly any letters."""
        letters = [c for line in self.lines for c in line.text if c.isalpha()]
        return sum("가" <= c <= "힣" for c in letters) / len(letters) if len(letters) > 20 else 1.0

    @property
    def poor(self) -> float:
        """Share of the characters in lines of low confidence, 0 to 1."""
        count = sum(line.length for line in self.lines if line.confidence < POOR_LINE)
        return count / max(1, sum(line.length for line in self.lines))


def read_page(
    page_HW: "Grey",
    dpi: int,
    languages: tuple[str, ...],
    others: tuple[str, ...] = (),
    columns: KnownColumns = UNKNOWN,
) -> OcrReading:
    """OCR result of one page, (H, W) uint8; the more attempts, the lower the confidence.

    `others` are languages to try, one by one, where a page does not seem to be in `languages`;
    `columns` is what is known of its columns.

    Raises: MachineError: Tesseract fails.
    """
    if not has_ink(page_HW):
        return OcrReading("", 100.0, 0.0)
    best = _best(page_HW, dpi, (languages, *((code,) for code in others)), columns)
    for mode in MODES[1:]:
        if best.mean() >= GOOD_CONFIDENCE:
            break
        other = _attempt(
            Unfolded(best.image_HW, best.strips, best.crossed), dpi, best.languages, mode
        )
        best = max(best, other, key=_weight)
    best = replace(best, lines=_without_poor_lines(best, dpi))
    firsts = [line.text for line in best.lines]
    lines = read_again(best.image_HW, best.lines, dpi, best.languages)
    lines = read_in_both(best.image_HW, lines, dpi, best.languages)
    lines = restore_syllables(lines, best.languages)
    lines = read_rare_spellings(best.image_HW, lines, dpi, best.languages)
    checked = cross_check(best.image_HW, lines, firsts, dpi, best.languages)
    read_codes(best.image_HW, lines, best.languages)
    return replace(_reading(best, lines), lines=len(lines), checked=checked)


def _without_poor_lines(best: Attempt, dpi: int) -> list[Line]:
    def read(image_HW: "Grey", mode: int) -> list[Line]:
        output = recognize(image_HW, dpi, best.languages, mode)
        return _lines(words_of(output), [], lines_of(output))

    return read_poor_lines(best.image_HW, best.lines, dpi, read)


def _best(
    page_HW: "Grey", dpi: int, choices: tuple[tuple[str, ...], ...], columns: KnownColumns
) -> Attempt:
    """The page in the first language; turned upright or in another one if that reads better.

    Tesseract takes small type for type that is upside down, and a line or two for anything. So a
    direction that it names is tried, and another one where none is legible.
    """
    first, upright_HW = _upright(page_HW, dpi, choices[0], columns), page_HW
    turn = orientation(page_HW, dpi) if first.mean() < GOOD_CONFIDENCE else 0
    if turn:
        other = _upright(_turned(page_HW, turn), dpi, choices[0], columns)
        if _weight(other) > _weight(first):
            first, upright_HW = other, _turned(page_HW, turn)
    best = _in_best_language(upright_HW, dpi, first, choices[1:], columns)
    if best.mean() >= UPRIGHT:
        return best
    for degrees in turns_by_lines(page_HW):
        if (
            _upright(_turned(_part(page_HW, dpi), degrees), dpi, choices[0], columns).mean()
            >= UPRIGHT
        ):
            upright_HW = _turned(page_HW, degrees)
            other = _upright(upright_HW, dpi, choices[0], columns)
            other = _in_best_language(upright_HW, dpi, other, choices[1:], columns)
            return max(best, other, key=Attempt.mean)
    return best


def _weight(attempt: Attempt) -> float:
    return attempt.total(50)


def _turned(page_HW: "Grey", degrees: int) -> "Grey":
    """The page turned clockwise."""
    return np.ascontiguousarray(np.rot90(page_HW, -degrees // 90))


def turns_by_lines(page_HW: "Grey") -> tuple[int, ...]:
    """Degrees by which a page that is not upright may be turned clockwise, by how its lines lie."""
    across, down = (np.square(np.diff(page_HW.mean(axis=axis))).mean() for axis in (1, 0))
    if across >= LINES_SEEN * down:
        return (180,)
    return (90, 270) if down >= 2 * LINES_SEEN * across else (180, 90, 270)


def _part(page_HW: "Grey", dpi: int) -> "Grey":
    """The middle third of the lines of a page, or all of it where there are few."""
    lies_down = turns_by_lines(page_HW) == (90, 270)
    lines_HW = page_HW.T if lies_down else page_HW
    rows = np.flatnonzero((lines_HW < INK_BELOW).any(axis=1))
    if len(rows) < 3 * dpi:
        return page_HW
    part_HW = lines_HW[rows[len(rows) // 3] : rows[2 * len(rows) // 3]]
    return np.ascontiguousarray(part_HW.T if lies_down else part_HW)


def _in_best_language(
    page_HW: "Grey",
    dpi: int,
    first: Attempt,
    others: tuple[tuple[str, ...], ...],
    columns: KnownColumns,
) -> Attempt:
    """The attempt `first`, or that in another language where the page does not seem to be in it."""
    is_foreign = first.languages[0] == KOREAN and first.hangul < FEW_HANGUL
    if first.mean() >= GOOD_CONFIDENCE and not is_foreign:
        return first
    best = first
    for languages in others:
        best = max(best, _upright(page_HW, dpi, languages, columns), key=_weight)
    return first if _is_mixed(first, best, dpi) else best


def _is_mixed(first: Attempt, best: Attempt, dpi: int) -> bool:
    """True if a page that scores higher with the Latin model also has Hangul."""
    if first.languages[0] != KOREAN or best.languages != (LATIN,):
        return False
    both = _attempt(Unfolded(best.image_HW), dpi, (*first.languages, LATIN), MODES[0])
    return both.hangul >= SOME_HANGUL and both.mean() >= best.mean()


def _upright(
    page_HW: "Grey", dpi: int, languages: tuple[str, ...], columns: KnownColumns
) -> Attempt:
    """The page unfolded; where that has poor lines, the better of unfolded and as it is."""
    sheet = prepare(page_HW, dpi)
    page = unfold(sheet, dpi, columns)
    unfolded = _attempt(page, dpi, languages, MODES[0])
    if unfolded.poor <= POOR_SHARE:
        return unfolded
    whole = _attempt(Unfolded(sheet.clean_HW), dpi, languages, MODES[0])
    margin = FAR_BETTER if page.strips or page.gutters else CLEARLY_BETTER
    is_surer = whole.mean() >= unfolded.mean() + margin
    return whole if is_surer and whole.total(50) >= AS_MUCH * unfolded.total(50) else unfolded


def _attempt(page: Unfolded, dpi: int, languages: tuple[str, ...], mode: int) -> Attempt:
    image_HW = page.image_HW.copy()
    circles = erase_circles(image_HW, dpi)
    output = recognize(image_HW, dpi, languages, mode)
    lines = _lines(words_of(output), circles, lines_of(output))
    return Attempt(image_HW, languages, lines, page.strips, page.crossed)


def _lines(words: list[Word], circles: "list[PixelBox]", plain: dict[str, str]) -> list[Line]:
    """Words in lines, with their spaces; circles restored."""
    rows: dict[tuple[int, int, int], list[Word]] = {}
    for word in words:
        rows.setdefault(word.line, []).append(word)
    return [
        Line(row, [_circled(word, circles) for word in row], spaces_after(row, plain))
        for row in rows.values()
    ]


def _circled(word: Word, circles: "list[PixelBox]") -> str:
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


@dataclass(frozen=True, slots=True)
class _Shown:
    """A line of the text: one of the page, or a row of a table."""

    text: str
    top: int
    bottom: int
    doubt: DoubtfulLine | None = None
    is_header_rule: bool = False


def _reading(attempt: Attempt, lines: list[Line]) -> OcrReading:
    """Lines in order, an empty line at a wide gap, around tables, or where a line is left out."""
    pitch = median([line.height for line in lines]) if lines else 0
    kept: list[str] = []
    complete: list[str] = []
    sure = [
        text if word.confidence >= SURE else "\n"
        for line in lines
        for word, text in zip(line.words, line.texts, strict=True)
    ]
    doubtful: list[DoubtfulLine] = []
    before: _Shown | None = None
    for line in _shown(lines, attempt):
        in_table = line.text.startswith("| ") or line.is_header_rule
        was_table = before is not None and before.text.startswith("|")
        wide = before is not None and line.top - before.bottom > 1.2 * pitch
        gap = before is not None and (in_table != was_table or (wide and not in_table))
        complete += ["", line.text] if gap else [line.text]
        if line.doubt is not None:
            doubtful.append(replace(line.doubt, number=len(complete) - 1))
            gap = gap or not (in_table or line.doubt.is_kept)
        if gap and kept and kept[-1]:
            kept.append("")
        is_in = line.doubt is None or line.doubt.is_kept
        if is_in and not (line.is_header_rule and before and _is_out(before.doubt)):
            kept.append(line.text if line.doubt is None else line.doubt.kept)
        before = line
    return OcrReading(
        "\n".join(kept).strip(),
        round(attempt.mean(), 2),
        round(attempt.total(50), 2),
        " ".join(sure),
        tuple(doubtful),
        "\n".join(complete) if doubtful else "",
        crossed=attempt.crossed,
    )


def _shown(lines: list[Line], attempt: Attempt) -> Iterator[_Shown]:
    """The lines, those in cells of one table as its rows."""
    page_confidence = attempt.mean()
    cells = [_cell(line, attempt.strips) for line in lines]
    for cell, group in groupby(zip(lines, cells, strict=True), key=lambda pair: _table(pair[1])):
        own = list(group)
        rows = []
        if cell is not None:
            rows = table_rows([(one, line.text) for line, one in own if one is not None])
        if not rows:
            for line, _ in own:
                yield _Shown(line.text, line.top, line.bottom, _doubt(line, page_confidence))
            continue
        bottom = own[-1][0].bottom
        for index, (text, numbers) in enumerate(rows):
            sizes = Counter(own[number][1] for number in numbers)
            doubts = [
                _doubt(own[number][0], page_confidence, is_alone=sizes[own[number][1]] == 1)
                for number in numbers
            ]
            left = {n for n, one in zip(numbers, doubts, strict=True) if _is_out(one)}
            rest = table_rows(
                [(c, "" if n in left else line.text) for n, (line, c) in enumerate(own) if c]
            )
            doubt = _doubt_of_row(text, doubts, rest[index][0])
            yield _Shown(text, own[0][0].top, bottom, doubt)
            if index == 0:
                yield _Shown(header_line(text), bottom, bottom, is_header_rule=True)


def _table(cell: PictureCell | None) -> "PixelBox | None":
    return None if cell is None else cell.table


def _cell(line: Line, strips: tuple[Strip, ...]) -> PictureCell | None:
    """The cell that a line of an unfolded page is in."""
    middle = (line.top + line.bottom) / 2
    index = bisect_right(strips, middle, key=lambda strip: strip.top) - 1
    return strips[index].cell if index >= 0 and middle < strips[index].bottom else None


def _is_out(doubt: DoubtfulLine | None) -> bool:
    return doubt is not None and not doubt.is_kept


def _doubt_of_row(text: str, doubts: list[DoubtfulLine | None], rest: str) -> DoubtfulLine | None:
    """Why a row of a table is doubtful: one of its lines is.

    Of a row of many lines, of which few are doubtful, `rest` stays in the text.
    """
    own = [one for one in doubts if one is not None]
    if not own:
        return None
    first = min(own, key=lambda one: one.confidence)
    second = "; ".join(one.second for one in own if one.second)
    is_long = len(doubts) >= LONG_ROW * len(own) and first.doubt == "readings differ"
    is_kept = is_long or all(one.is_kept for one in own)
    rest = rest if is_kept and rest != text else ""
    return replace(first, text=text, second=second, is_kept=is_kept, rest=rest)


def _doubt(line: Line, page_confidence: float, *, is_alone: bool = True) -> DoubtfulLine | None:
    """Why the line is not part of the text; None if it is.

    A line of one or two letters must be surer, as marks of a drawing are read as such, unless it
    is one of several lines of a cell.
    """
    confidence = round(line.confidence, 1)
    poor_page = page_confidence < LEGIBLE_LINE
    letters = sum(character.isalnum() for character in line.text)
    least = LEGIBLE_LINE if letters > 2 or not is_alone else POOR_LINE
    limit = LEGIBLE_ON_POOR_PAGE if poor_page else least
    if line.confirmed:
        limit = LEGIBLE_IF_CONFIRMED
    if confidence < limit:
        return DoubtfulLine(line.text, "", confidence, "illegible")
    if line.doubts:
        second = "; ".join(doubt.second for doubt in line.doubts)
        is_mild = all(doubt.is_mild for doubt in line.doubts)
        return DoubtfulLine(line.text, second, confidence, "readings differ", is_kept=is_mild)
    return None
