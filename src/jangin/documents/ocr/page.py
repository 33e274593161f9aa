"""OCR of one page image: attempts, the best of them, and the lines to be set aside.

A page is read unfolded into one column (`page_layout`). Only where that leaves lines of low
confidence is it read in other ways too: as it is, turned upright, in other segmentation modes.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from jangin.documents.layout.picture_tables import PictureCell, header_line, table_rows
from jangin.documents.ocr.both_languages import read_in_both, spaces_after
from jangin.documents.ocr.circled_numbers import erase_circles
from jangin.documents.ocr.codes import read_codes
from jangin.documents.ocr.cross_check import cross_check
from jangin.documents.ocr.missing_syllables import restore_syllables
from jangin.documents.ocr.page_layout import UNKNOWN, KnownColumns, Strip, Unfolded, unfold
from jangin.documents.ocr.poor_lines import POOR_LINE, read_poor_lines
from jangin.documents.ocr.preparation import INK_BELOW, has_ink, prepare
from jangin.documents.ocr.rare_spellings import read_rare_spellings
from jangin.documents.ocr.reading import MODES, SURE, DoubtfulLine, OcrReading
from jangin.documents.ocr.second_reading import LATIN, Line, read_again
from jangin.documents.ocr.tesseract import Word, lines_of, orientation, recognize, words_of

if TYPE_CHECKING:
    from jangin.documents.layout.gutters import Box
    from jangin.documents.ocr.preparation import Grey

GOOD_CONFIDENCE = 75.0
"""Mean word confidence from which on a page is not turned or read in another mode."""
UPRIGHT = 60.0
"""The same below which a page may lie in a direction that Tesseract does not name. Measured: 10 to
54 where it lies on its side or its head, 69 and more where it is upright."""
LINES_SEEN = 1.5
"""How much sharper lines are across the page than down it, from which on that is how they lie.
Measured: 1.8 and more on whole pages, turned ones included; 0.6 on two short lines."""
KOREAN = "kor"
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


def _lines(words: list[Word], circles: "list[Box]", plain: dict[str, str]) -> list[Line]:
    """Words in lines, with their spaces; circles restored."""
    rows: dict[tuple[int, int, int], list[Word]] = {}
    for word in words:
        rows.setdefault(word.line, []).append(word)
    return [
        Line(row, [_circled(word, circles) for word in row], spaces_after(row, plain))
        for row in rows.values()
    ]


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


def _table(cell: PictureCell | None) -> "Box | None":
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
        second = "; ".join(text for _, text in line.doubts)
        is_mild = line.mild == len(line.doubts)
        return DoubtfulLine(line.text, second, confidence, "readings differ", is_kept=is_mild)
    return None
