"""Reader of PDF: per page the text layer where it is trustworthy, OCR where it is not."""

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

from jangin.core.errors import counted
from jangin.documents.layout.pages import lay_out
from jangin.documents.ocr.languages import first_language
from jangin.documents.ocr.reader import PageImage, picture_key
from jangin.documents.ocr.reading import OcrReading
from jangin.documents.readers import pdf_text as pdf
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    with_corrections,
)
from jangin.documents.readers.text_layer import OcrAgreement, agreement, suspicion, without_text
from jangin.documents.readers.type_sizes import mark_headings
from jangin.text.normalize import clean_text

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
        raise UnreadableError(
            "it has no text layer, and OCR is switched off.", "Set load.ocr.type to auto."
        )
    raise UnreadableError("it has no text, even by OCR.", "Scan it again at 200 dpi or more.")


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
                pdf.page_text(document, number, settings.columns_of(file.digest, number))
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
    if source.settings.ocr == "always":
        reasons = {layer.number: "OCR was asked for" for layer in layers if layer.objects}
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
        _choose(text, readings.get(number), reasons.get(number, ""), keep)
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
    text: PageReading, reading: OcrReading | None, reason: str, keep_doubtful: bool
) -> PageReading:
    """OCR where it was needed, unless it found less than twice a text layer of few characters."""
    if reading is None:
        return text
    if reason.startswith("only") and len(reading.complete or reading.text) < 2 * len(text.text):
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
