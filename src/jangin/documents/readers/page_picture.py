"""Pages of documents as pictures for people, and the places of their characters.

PDFs and pictures of pages have such pictures; other formats have no pages of a fixed look.
"""

import io
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jangin.core.reasons import Reason
from jangin.documents.readers import image, pdf_text
from jangin.documents.readers.page_limit import on_page
from jangin.documents.readers.reader import UnreadableError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from jangin.documents.ocr.preparation import Grey


# Where the text of a page is on its picture: stored text looked up among characters with boxes.
#
# Stored text and page differ: the reader orders columns, writes tables as Markdown, leaves running
# heads out and corrects OCR, so the segments of the stored text (lines, cells of a table) are
# looked up one by one, by their letters and digits only.


SEGMENT = re.compile(r"[^\n|]+")
"""A line, or a cell of a table."""
FEWEST_UNSURE = 6
"""Letters, decomposed, that a segment needs to be looked up with errors."""
SIMILAR = 70.0
"""Similarity, 0 to 100, from which a segment is found in spite of errors of OCR."""

STRAY = 0.1
"""Share of a segment's letters below which what is found on another line is none of it."""


class Box(NamedTuple):
    """A rectangle in shares of the page's width and height, from its top left corner."""

    left: float
    top: float
    right: float
    bottom: float


class PlacedWord(NamedTuple):
    """A word of OCR, or one character of a text layer, on a page."""

    text: str
    box: Box
    line: int
    """Number of its line; a line is as long as one column at most."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment of the stored text; `begins[i]` is where its i-th folded letter is in the text."""

    folded: str
    begins: list[int]


class PlacedText:
    """The stored text of one page, looked up among its placed words."""

    def __init__(self, words: Sequence[PlacedWord], text: str) -> None:
        """Look up every segment of `text`."""
        self._words = words
        folded = [_folded(word.text) for word in words]
        self._sizes = [len(letters) for letters in folded]
        self._page = "".join(folded)
        self._word_of = [number for number, size in enumerate(self._sizes) for _ in range(size)]
        self._segments = list(_segments(text))
        self._spans = self._look_up()

    def boxes(self, start: int, end: int) -> list[Box]:
        """Boxes of `text[start:end]`, one for each line; empty where nothing of it was found."""
        boxes: list[Box] = []
        for segment, span in zip(self._segments, self._spans, strict=True):
            if span is None or segment.begins[-1] < start or segment.begins[0] >= end:
                continue
            first, last = bisect_left(segment.begins, start), bisect_left(segment.begins, end)
            scale = (span[1] - span[0]) / len(segment.folded)
            begin = span[0] + round(first * scale)
            boxes += self._lines(begin, max(begin + 1, span[0] + round(last * scale)))
        return boxes

    def find(self, text: str) -> list[Box]:
        """Boxes of a text that is not part of the stored one, such as a line set aside."""
        boxes: list[Box] = []
        for segment in _segments(text):
            at = self._page.find(segment.folded)
            span = (at, at + len(segment.folded)) if at >= 0 else None
            if span is None and len(segment.folded) >= FEWEST_UNSURE:
                span = self._similar(segment.folded)
            if span is not None:
                boxes += self._lines(*span)
        return boxes

    def _look_up(self) -> list[tuple[int, int] | None]:
        """[(start, end) among the letters of the page], None for a segment that is not there.

        Segments that occur once come first; what occurs more often is next to its neighbour.
        """
        spans: list[tuple[int, int] | None] = [None] * len(self._segments)
        unsure = []
        taken: list[tuple[int, int]] = []
        for number, segment in enumerate(self._segments):
            at = self._page.find(segment.folded)
            if at < 0:
                continue
            if self._page.find(segment.folded, at + 1) < 0:
                spans[number] = at, at + len(segment.folded)
                taken.append((at, at + len(segment.folded)))
            else:
                unsure.append(number)
        for number in unsure:
            spans[number] = self._nearest(number, spans, taken)
            if span := spans[number]:
                taken.append(span)
        for number, segment in enumerate(self._segments):
            if spans[number] is None and len(segment.folded) >= FEWEST_UNSURE:
                spans[number] = self._similar(segment.folded)
        return spans

    def _nearest(
        self,
        number: int,
        spans: Sequence[tuple[int, int] | None],
        taken: Sequence[tuple[int, int]],
    ) -> tuple[int, int] | None:
        """The free occurrence of a segment that is nearest to the end of the segment before it."""
        before = next((span[1] for span in reversed(spans[:number]) if span), None)
        after = next((span[0] for span in spans[number + 1 :] if span), None)
        expected = before if before is not None else after or 0
        folded = self._segments[number].folded
        free = [
            (start, start + len(folded))
            for start in _occurrences(folded, self._page)
            if not any(start < end and first < start + len(folded) for first, end in taken)
        ]
        return min(free, key=lambda span: abs(span[0] - expected), default=None)

    def _similar(self, folded: str) -> tuple[int, int] | None:
        from rapidfuzz import fuzz

        if len(folded) > len(self._page):
            return None
        best = fuzz.partial_ratio_alignment(folded, self._page, score_cutoff=SIMILAR)
        if best is None or best.dest_end <= best.dest_start:
            return None
        return best.dest_start, best.dest_end

    def _lines(self, start: int, end: int) -> Iterator[Box]:
        """Boxes of the words of the page's letters `start` to `end`, one for each line."""
        covered = Counter(self._word_of[start:end])
        by_line: Counter[int] = Counter()
        for number, count in covered.items():
            by_line[self._words[number].line] += count
        # A similar text may begin or end with a syllable of the next line.
        stray = {line for line, count in by_line.items() if count < STRAY * (end - start)}
        numbers = [
            number
            for number, n in covered.items()
            if 2 * n >= self._sizes[number] and self._words[number].line not in stray
        ]
        for line, group in groupby(numbers, key=lambda number: self._words[number].line):
            first, *rest = group
            last = rest[-1] if rest else first
            while last + 1 < len(self._words) and self._is_mark(last + 1, line):
                last += 1
            yield around(self._words[number].box for number in range(first, last + 1))

    def _is_mark(self, number: int, line: int) -> bool:
        """True for punctuation of a line."""
        return self._words[number].line == line and not self._sizes[number]


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of these."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return Box(min(left), min(top), max(right), max(bottom))


def merged_lines(boxes: Sequence[Box]) -> list[Box]:
    """Boxes on one level that touch as one: the cells and runs of a line."""
    out: list[Box] = []
    for box in boxes:
        height = box.bottom - box.top
        for index, other in enumerate(out):
            level = min(box.bottom, other.bottom) - max(box.top, other.top)
            gap = max(box.left, other.left) - min(box.right, other.right)
            if level > 0.5 * min(height, other.bottom - other.top) and gap < 1.5 * height:
                out[index] = around((box, other))
                break
        else:
            out.append(box)
    return out


def merged_blocks(boxes: Sequence[Box]) -> list[Box]:
    """Lines that follow each other in one column as one box: the outline of a passage."""
    out: list[Box] = []
    for box in merged_lines(boxes):
        last = out[-1] if out else None
        if last is not None and _follows(last, box):
            out[-1] = around((last, box))
        else:
            out.append(box)
    return out


def _follows(block: Box, line: Box) -> bool:
    """True if a line is under a block in the same column, or beside its last line."""
    height = line.bottom - line.top
    shared = min(block.right, line.right) - max(block.left, line.left)
    beside = line.top >= block.top - height and line.bottom <= block.bottom + height
    below = -height < line.top - block.bottom < 3 * height
    return beside or (below and shared > 0)


def _folded(text: str) -> str:
    """Letters and digits, decomposed and case folded: one syllable, two or three letters.

    OCR often misreads one letter of a syllable, and some files draw letters one by one.
    """
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def _segments(text: str) -> Iterator[_Segment]:
    for match in SEGMENT.finditer(text):
        letters = [(f, match.start() + i) for i, c in enumerate(match[0]) for f in _folded(c)]
        if letters:
            yield _Segment("".join(f for f, _ in letters), [at for _, at in letters])


def _occurrences(part: str, whole: str) -> Iterator[int]:
    start = whole.find(part)
    while start >= 0:
        yield start
        start = whole.find(part, start + 1)


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
        rotation = pdf_text.upright_rotation(document, number)
        with on_page(number):
            page = document[number - 1]
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
        raise UnreadableError(Reason("no_page", figure=number), f"It has pages 1 to {pages}.")


def _pdf_page(path: Path, number: int, longer_side: int) -> "Picture":
    with pdf_text.open_pdf(path) as document:
        _check(number, len(document))
        rotation = pdf_text.upright_rotation(document, number)
        with on_page(number):
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
