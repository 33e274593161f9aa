"""Reader of PDF: per page the text layer where it is trustworthy, OCR where it is not."""

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

from jangin.core.errors import counted
from jangin.core.reasons import Reason
from jangin.documents.layout.pages import lay_out
from jangin.documents.ocr.reader import PageImage, first_language, picture_key
from jangin.documents.ocr.reading import OcrReading
from jangin.documents.readers import pdf_text as pdf
from jangin.documents.readers.pdf_text import PageText
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    with_corrections,
)
from jangin.documents.readers.type_sizes import mark_headings
from jangin.text.language import HANGUL_SYLLABLE
from jangin.text.normalize import clean_text

# Is the text layer of a page trustworthy? Cheap heuristics first, then a comparison with OCR.
#
# A trustworthy document needs no OCR. Of a suspicious one, a few pages are read by OCR and
# compared with the text layer, once in the order drawn and once in the order of position.


BARE_COUNTER = re.compile(
    r"제\s*[조항관장절편호]\s*[(（,.】\]]|제 +[조항관장절편호](?= |$)", re.MULTILINE
)
COUNTER = re.compile(r"제\s*\d+\s*[조항관장절편호]")
BARE_ENGLISH = re.compile(r"\b(?:Article|Section|Chapter|Clause)\s*[(.:]")
ENGLISH = re.compile(r"\b(?:Article|Section|Chapter|Clause)\s*\d")
STRAY_DIGITS = re.compile(r"^[\d .,()-]*\d[\d .,()-]*$", re.MULTILINE)
BAD = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
COMMON_HANGUL = frozenset(
    "이다는을의에가고하지로서은한니를보제도사기인해자여경우시습수있과일대부정또상"
)
"""Syllables that make up a third or more of ordinary Korean text."""
VOWELS = frozenset("aeiouyAEIOUY")

FEW_CHARACTERS = 30
GRAM = 4
MIN_ALL = 0.7
MIN_DIGITS = 0.7
"""Measured: 0.94 to 1.0 on sound prose, 0.56 to 0.85 on sound tables; 0 to 0.53 on pages whose
digits are displaced."""


@dataclass(frozen=True, slots=True)
class OcrAgreement:
    """Shares of what OCR read that the text layer has too, 0 to 1."""

    everything: float
    digits: float
    """Share of the sequences that mix digits and letters, such as `제12조`; 1 if there are few."""

    @property
    def sound(self) -> bool:
        """True if the text layer agrees with the page."""
        return self.everything >= MIN_ALL and self.digits >= MIN_DIGITS

    @property
    def total(self) -> float:
        """Sum of both, for choosing between two orders of the same layer."""
        return self.everything + self.digits


def without_text(page: PageText) -> str:
    """Why a page needs OCR; empty if it has a text layer. The text is stored."""
    count = _characters(page)
    if count == 0 and page.objects:
        return "no text layer"
    if has_few_characters(page):
        return f"only {count} characters in the text layer of a page of pictures"
    return ""


def has_few_characters(page: PageText) -> bool:
    """True for a text layer that may be all that a page of pictures says."""
    return _characters(page) < FEW_CHARACTERS and page.picture_share > 0.3


def _characters(page: PageText) -> int:
    return sum(not character.isspace() for character in page.drawn)


def suspicion(page: PageText) -> str:
    """The first sign that the text layer is wrong; empty if there is none. The text is stored."""
    text = page.drawn
    size = max(1, sum(not character.isspace() for character in text))
    bad = len(BAD.findall(text))
    if bad >= 3 and bad > 0.01 * size:
        return f"{bad} control, replacement or private-use characters"
    if page.disordered >= 2 and page.disordered > 0.1 * page.lines:
        return f"{page.disordered} of {counted(page.lines, 'line')} are not drawn in reading order"
    for bare_pattern, pattern in ((BARE_COUNTER, COUNTER), (BARE_ENGLISH, ENGLISH)):
        bare, numbered = len(bare_pattern.findall(text)), len(pattern.findall(text))
        if bare >= 2 and bare > numbered:
            return f"{bare} article or clause counters lack their number"
    stray = len(STRAY_DIGITS.findall(text))
    if stray >= 5 and stray > 0.25 * page.lines:
        return f"{stray} of {counted(page.lines, 'line')} are stray digits"
    if page.picture_share > 0.7:
        return "the text lies under or over a picture of the whole page"
    return _implausible(text)


def _implausible(text: str) -> str:
    """Letter frequencies that no Korean or English text has: the font's character map is wrong."""
    hangul = HANGUL_SYLLABLE.findall(text)
    if len(hangul) >= 100:
        share = sum(character in COMMON_HANGUL for character in hangul) / len(hangul)
        if share < 0.12:
            return f"common syllables are only {share:.0%} of its Korean letters"
    latin = [character for character in text if character.isascii() and character.isalpha()]
    if len(latin) >= 200 and len(latin) > len(hangul):
        share = sum(character in VOWELS for character in latin) / len(latin)
        if share < 0.2:
            return f"vowels are only {share:.0%} of its Latin letters"
    return ""


def agreement(pairs: Iterable[tuple[str, str]]) -> OcrAgreement:
    """Agreement of (text layer, `Reading.sure` of OCR) over some pages, all together.

    Compares sets of four-letter sequences, so the order of lines does not matter. A line break in
    `sure` marks omitted words.
    """
    expected = present = mixed = mixed_present = 0
    for layer, sure in pairs:
        known = _grams(layer)
        for gram in set().union(*(_grams(part) for part in sure.split("\n"))):
            is_mixed = bool(re.search(r"\d", gram) and re.search(r"[^\W\d]", gram))
            expected += 1
            mixed += is_mixed
            present += gram in known
            mixed_present += is_mixed and gram in known
    return OcrAgreement(
        everything=present / expected if expected else 1.0,
        digits=mixed_present / mixed if mixed >= 8 else 1.0,
    )


def _grams(text: str) -> set[str]:
    letters = "".join(re.findall(r"[^\W_]", text))
    letters = re.sub(r"[①-⑳]", "", letters)
    return {letters[index : index + GRAM] for index in range(len(letters) - GRAM + 1)}


SAMPLES = 3
"""Number of suspicious pages that are compared with OCR."""
WIDESPREAD = 0.2
"""If at least this share of pages is suspicious, a failed sample rejects the whole text layer."""
FOUND_NUMBERS = 0.97
"""Share of a text layer's digits that OCR must find to replace it."""
LEGIBLE = 50.0
"""Minimum confidence at which OCR can contradict a text layer."""
SHOWN = 4
"""Running heads and footers that are named when they are left out."""
BLANK_DPI = 50
"""Resolution for deciding whether a page is blank."""
GUTTER_PAGES = 3
"""Pages before one that show where its gutters may be."""
GUTTER_DPI = 75
"""Resolution for looking at their gutters."""


@dataclass(frozen=True, slots=True)
class Pdf:
    """One open PDF, and the settings for reading it."""

    document: Any
    """A `pypdfium2.PdfDocument`."""
    file: SourceFile
    settings: ReaderSettings
    gutters: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """{page number: its gutters} of the pictures that were looked at."""

    def pictures(self, numbers: Sequence[int]) -> Iterator[PageImage]:
        """Pages for OCR, each rendered when it is requested."""
        for number in numbers:
            columns = self.settings.columns_of(self.file.digest, number)
            key = picture_key(self.file.digest, number, columns)
            yield PageImage(
                key, self._render(number), number, columns, partial(self._gutters_before, number)
            )

    def _render(self, number: int) -> Callable[[], Any]:
        return lambda: pdf.render_page(self.document, number, self.settings.dpi)

    def _gutters_before(self, number: int) -> tuple[float, ...]:
        """Those of the pages before; they depend on the file only, as its readings are kept."""
        from jangin.documents.ocr.page_layout import gutters_of

        pages = range(max(1, number - GUTTER_PAGES), number)
        for page in pages:
            if page not in self.gutters:
                page_HW = pdf.render_page(self.document, page, GUTTER_DPI)
                self.gutters[page] = gutters_of(page_HW, GUTTER_DPI)
        return tuple(sorted({gutter for page in pages for gutter in self.gutters[page]}))

    def read(self, numbers: Sequence[int], languages: tuple[str, ...]) -> dict[int, OcrReading]:
        """{page number: OCR reading}, under a progress bar."""
        if not numbers:
            return {}
        progress = self.settings.progress
        bar = progress.start(f"ocr {self.file.name}", len(numbers))
        done = {}
        try:
            readings = self.settings.ocr_reader(languages).read(list(self.pictures(numbers)))
            for number, reading in zip(numbers, readings, strict=True):
                done[number] = reading
                progress.advance(bar, note=f"page {number}")
        finally:
            progress.stop(bar)
        return done


def read_pdf(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """Text of every page of a PDF.

    Raises: UnreadableError: the file is damaged, protected by a password, or has no text at all;
    MachineError: a page needs OCR, and Tesseract or its language is not installed.
    """
    readings = read_pages(file, settings)
    if any(reading.text.strip() or reading.doubtful for reading in readings):
        return readings
    if settings.ocr == "never":
        raise UnreadableError(Reason("no_text_layer"), "Set load.ocr.type to auto.")
    raise UnreadableError(Reason("no_text_by_ocr"), "Scan it again at 200 dpi or more.")


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's cycle collector off: it would visit every glyph of a document again and again.

    Reading 129 pages took an eighth longer with it. Glyphs are in no cycles.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_pages(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """Every page, even if no page has text; raises as `read_pdf`."""
    with pdf.open_pdf(file.path) as document:
        source = Pdf(document, file, settings)
        with without_collector():
            layers = [
                PageText(number)
                if number in settings.slow_pages
                else pdf.page_text(document, number, settings.columns_of(file.digest, number))
                for number in range(1, len(document) + 1)
            ]
        readings = [
            replace(reading, text=clean_text(reading.text)) for reading in _read(source, layers)
        ]
    _report_removed(file, readings, settings)
    return mark_headings(readings)


def _report_removed(
    file: SourceFile, readings: list[PageReading], settings: ReaderSettings
) -> None:
    """One line on the running heads, footers and side tabs that are not in the text."""
    removed = Counter(re.sub(r"\d+", "0", text) for reading in readings for text in reading.removed)
    if removed:
        often = ", ".join(f"{text!r} ({count})" for text, count in removed.most_common(SHOWN))
        more = f" and {len(removed) - SHOWN} others" if len(removed) > SHOWN else ""
        settings.progress.message(
            f"{file.name}: text that recurs at one place of many pages is left out: {often}{more}"
        )


def _read(source: Pdf, layers: list[pdf.PageText]) -> list[PageReading]:
    """Text layer or OCR, decided page by page."""
    if source.settings.ocr == "never":
        disordered = sum(layer.disordered for layer in layers)
        by_position = disordered > 0.1 * sum(layer.lines for layer in layers)
        return _from_layers(layers, by_position)
    reasons = {layer.number: without_text(layer) for layer in layers}
    inked = _inked(source, [number for number, reason in reasons.items() if reason])
    reasons = {number: reason for number, reason in reasons.items() if number in inked}
    few = {number for number in reasons if has_few_characters(layers[number - 1])}
    if source.settings.ocr == "always":
        reasons = {layer.number: "OCR was asked for" for layer in layers if layer.objects}
        few.clear()
    suspicious = {
        layer.number: why
        for layer in layers
        if layer.number not in reasons and (why := suspicion(layer))
    }
    if not reasons and not suspicious:
        return _from_layers(layers, by_position=False)
    languages = source.settings.ocr_languages or _languages(source, layers, list(reasons))
    by_position, rejected = _compare(source, layers, suspicious, languages)
    reasons.update(rejected)
    readings = source.read(sorted(reasons), languages)
    for number in [
        n for n in rejected if _loses_numbers(layers, readings, n, by_position, suspicious)
    ]:
        del readings[number]
    readings = with_corrections(source.file, source.settings, readings)
    if source.settings.transcriber is not None:
        numbers = sorted(readings)
        improved = source.settings.transcriber.improve(
            source.file.name,
            list(source.pictures(numbers)),
            [readings[number] for number in numbers],
            numbers,
        )
        readings = dict(zip(numbers, improved, strict=True))
    keep = source.settings.keep_doubtful
    return [
        _choose(text, readings.get(number), reasons.get(number, ""), keep, is_few=number in few)
        for number, text in enumerate(_from_layers(layers, by_position), start=1)
    ]


def _loses_numbers(
    layers: list[pdf.PageText],
    readings: dict[int, OcrReading],
    number: int,
    by_position: bool,
    suspicious: dict[int, str],
) -> bool:
    """True if a page's text layer stays, because OCR found fewer figures in it.

    In a document whose text layer is rejected as a whole, that takes a page that agrees with OCR.
    """
    layer, reading = layers[number - 1], readings[number]
    filled = sum(bool(layer.drawn.strip()) for layer in layers)
    is_widespread = len(suspicious) >= WIDESPREAD * filled
    if is_widespread and not _agreement(layers, {number: reading}, by_position).sound:
        return False
    held = sum(character.isdigit() for character in layer.drawn)
    read = sum(character.isdecimal() for character in reading.complete or reading.text)
    return read < FOUND_NUMBERS * held


def _inked(source: Pdf, numbers: list[int]) -> set[int]:
    """Numbers of the pages that are not blank."""
    from jangin.documents.ocr.preparation import has_ink

    return {n for n in numbers if has_ink(pdf.render_page(source.document, n, BLANK_DPI))}


def _compare(
    source: Pdf,
    layers: list[pdf.PageText],
    suspicious: dict[int, str],
    languages: tuple[str, ...],
) -> tuple[bool, dict[int, str]]:
    """(whether to order characters by position, {page: why its text layer is rejected})."""
    if not suspicious:
        return False, {}
    sample = source.read(_spread(sorted(suspicious), layers), languages)
    drawn, seen = _agreement(layers, sample, False), _agreement(layers, sample, True)
    by_position = seen.total > drawn.total
    filled = [layer.number for layer in layers if layer.drawn.strip()]
    if len(suspicious) >= WIDESPREAD * len(filled):
        if (seen if by_position else drawn).sound:
            return by_position, {}
        first = min(suspicious)
        why = f"text layer disagrees with pages {sorted(sample)}; page {first}: {suspicious[first]}"
        return by_position, dict.fromkeys(filled, why)
    sample.update(source.read([n for n in sorted(suspicious) if n not in sample], languages))
    return by_position, {
        number: f"text layer disagrees with the page: {suspicious[number]}"
        for number, reading in sample.items()
        if not _agreement(layers, {number: reading}, by_position).sound
    }


def _agreement(
    layers: list[pdf.PageText], readings: dict[int, OcrReading], by_position: bool
) -> OcrAgreement:
    """How well the text layer agrees with OCR on pages where OCR is confident enough."""
    return agreement(
        (layers[n - 1].seen if by_position else layers[n - 1].drawn, reading.sure)
        for n, reading in readings.items()
        if reading.confidence >= LEGIBLE
    )


def _spread(numbers: list[int], layers: list[pdf.PageText]) -> list[int]:
    """The page with the longest lines from beginning, middle and end: prose compares best."""
    count = min(SAMPLES, len(numbers))
    cuts = [index * len(numbers) // count for index in range(count + 1)]

    def length_of_lines(number: int) -> float:
        layer = layers[number - 1]
        return len(layer.drawn) / max(1, layer.lines)

    return [max(numbers[start:stop], key=length_of_lines) for start, stop in pairwise(cuts)]


def _languages(
    source: Pdf, layers: list[pdf.PageText], without_layer: list[int]
) -> tuple[str, ...]:
    """Tesseract code of the document's language, from its text or from OCR of one page.

    One language reads better than several at once: on Korean pages `kor` loses 0.9 % of the
    characters where `kor+eng` loses 2.6 to 3.3 %.
    """
    text = "".join(layer.drawn for layer in layers)
    hangul = sum("가" <= character <= "힣" for character in text)
    latin = sum(character.isascii() and character.isalpha() for character in text)
    if hangul + latin >= 200 or not without_layer:
        return ("kor",) if hangul > 0.1 * latin else ("eng",)
    page = without_layer[len(without_layer) // 2]
    settings, picture = source.settings, next(iter(source.pictures([page])))
    return first_language(
        settings.ledger, settings.dpi, picture, source.file.name, settings.progress
    )


def _choose(
    text: PageReading, reading: OcrReading | None, reason: str, keep_doubtful: bool, *, is_few: bool
) -> PageReading:
    """OCR where it was needed, unless it found less than twice a text layer of few characters."""
    if reading is None:
        return text
    if is_few and len(reading.complete or reading.text) < 2 * len(text.text):
        return text
    return from_ocr(reading, reason, keep_doubtful)


def from_ocr(reading: OcrReading, reason: str, keep_doubtful: bool) -> PageReading:
    """A page that OCR has read, with or without its doubtful lines."""
    text = (reading.complete or reading.text) if keep_doubtful else reading.text
    if reading.read_by:
        reason = f"{reason}; transcribed by {reading.read_by}"
    counts = (reading.lines, reading.checked)
    return PageReading(
        *(text, "ocr", reading.confidence, reason, reading.doubtful, *counts),
        crossed=reading.crossed,
    )


def _from_layers(layers: list[pdf.PageText], by_position: bool) -> list[PageReading]:
    """The text layers in reading order."""
    with without_collector():
        pages = lay_out([layer.content for layer in layers], by_position=by_position)
    out = []
    for layer, page in zip(layers, pages, strict=True):
        why = ""
        if by_position and layer.seen != layer.drawn:
            why = (
                "text layer put in order by position: "
                f"{counted(layer.disordered, 'line was', 'lines were')} displaced"
            )
        out.append(
            PageReading(
                page.text,
                *("text", None, why),
                lines=page.lines,
                removed=page.removed,
                crossed=page.crossed,
            )
        )
    return out
