"""Words of a page that it spells otherwise more often, read once more, enlarged.

Tesseract reads 보험 as 보혐 in some lines of small type, and the same line enlarged mostly right.
So lines with a word that looks like a commoner one of the page, and is no word of the language,
are read again; the commoner spelling is taken only where that reading has it.
"""

import re
from collections import Counter
from typing import TYPE_CHECKING

from jangin.documents.ocr.cross_check import Aligned, PartVerdict, letters_of, write
from jangin.documents.ocr.second_reading import Line, read_lines
from jangin.documents.ocr.tesseract import KOREAN
from jangin.documents.ocr.vocabulary import HANGUL, meant_words

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

OFTEN = 6
"""Words of a page that a noun begins from which on others that look like it are read again."""
LARGER = 1.5
"""Scale of that reading."""


def read_rare_spellings(
    image_HW: "Grey", lines: list[Line], dpi: int, languages: tuple[str, ...]
) -> list[Line]:
    """The lines, rare spellings corrected where another reading has the usual one; in place.

    Nothing is done for a page that was not read by the Korean model alone, or without kiwipiepy.
    """
    if languages != (KOREAN,):
        return lines
    words = Counter(word for line in lines for word in HANGUL.findall(line.text))
    meant = meant_words(words, OFTEN)
    rare = [line for line in lines if not meant.keys().isdisjoint(HANGUL.findall(line.text))]
    for line, other in zip(rare, read_lines(image_HW, rare, dpi, languages, LARGER), strict=True):
        if other is None:
            continue
        text = letters_of(line).text
        seen = Aligned(text, letters_of(other).text)
        places = [
            (at, usual)
            for word in set(HANGUL.findall(line.text)) & meant.keys()
            for match in re.finditer(word, text)
            for at, usual in enumerate(meant[word], match.start())
        ]
        for at, usual in places:
            if text[at] != usual and seen.piece(at, at + 1, is_code=False) == usual:
                write(line, PartVerdict(at, at + 1, usual))
    return lines
