"""Is the text layer of a page trustworthy? Cheap heuristics first, then a comparison with OCR.

A trustworthy document needs no OCR. Of a suspicious one, a few pages are read by OCR and compared
with the text layer, once in the order drawn and once in the order of position.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from jangin.core.errors import counted
from jangin.documents.readers.pdf_text import PageText
from jangin.text.language import HANGUL_SYLLABLE

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
    count = sum(not character.isspace() for character in page.drawn)
    if count == 0 and page.objects:
        return "no text layer"
    if count < FEW_CHARACTERS and page.picture_share > 0.3:
        return f"only {count} characters in the text layer of a page of pictures"
    return ""


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
