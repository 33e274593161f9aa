"""Latin words, codes and numbers of a Korean page, each read once more by PP-OCR's recogniser.

Tesseract's models for Korean have no Latin letters, and those of both languages take syllables for
letters. A recogniser without Hangul reads a code that is cut out where these do not. A part that it
reads alike is right; what it is sure of is written in place of another reading; the rest stays as
it was judged before.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz.distance import Levenshtein

from jangin.documents.ocr.latin_recognizer import Character, is_installed, recognize_characters
from jangin.documents.ocr.preparation import INK_BELOW
from jangin.documents.ocr.second_reading import (
    OF_SENTENCES,
    ONE_FORM,
    Doubt,
    Line,
    Part,
    trimmed,
)
from jangin.documents.ocr.tesseract import KOREAN, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jangin.documents.ocr.preparation import Grey

HANGUL = re.compile("[가-힣ㄱ-ㅣ]")
LETTER = re.compile("[A-Za-z0-9]")
PLAUSIBLE = re.compile(r"[A-Za-z0-9 .,:;~/()%+&°×²³μΩ℃_@'$#=*-]+")
"""What stands in codes and amounts; Hangul comes out as other characters."""
SURE = 0.85
"""Probability of the least likely character from which on a reading is taken."""
GUESSED = 0.6
"""The same of a sign; a character at the end of a reading that is less probable is none of it."""
ALIKE_LETTERS = re.compile("[O0LI1|]")
STROKES = frozenset("I|l1")
"""What a stroke of a syllable comes out as."""
ZERO = re.compile(r"\b0[A-Z]")
"""A letter O in truth."""
LETTER_OR_ZERO = re.compile(r"0\d")
"""What may be letters in truth, such as 02751 for OZ751, for every recogniser."""
SHORT_END = 3
"""Letters that a syllable comes out as, at most."""
FROM_HANGUL = frozenset("0oOlItu|]1")
"""What a syllable, or a stroke of one, comes out as where it is no Chinese character."""
SIGNS = re.compile(f"[〈〉{OF_SENTENCES}]+")
WIDER = 1.3
"""Widths of its syllables from which on the box of a word holds letters of its neighbour."""
ROOM = 1.1
"""Widths of its syllables that such a word has."""
ALIKE = 0.5
"""Similarity of a word that is part Hangul with the reading that replaces it, 0 to 1."""
WORD = re.compile(r"[A-Z0-9][A-Za-z0-9./-]*[A-Z0-9][A-Za-z0-9./-]*")
"""What replaces a word in Hangul that is in doubt."""
SAME = ONE_FORM | str.maketrans("×", "x")


def read_codes(image_HW: "Grey", lines: list[Line], languages: tuple[str, ...]) -> None:
    """Read the codes of lines again; changes the lines in place.

    Nothing is done for a page that the Korean model has not read alone, or without the recogniser.
    """
    if languages != (KOREAN,) or not is_installed():
        return
    for line in lines:
        for part in reversed(list(_parts(line))):
            _read(image_HW, part)


def _parts(line: Line) -> Iterator[Part]:
    """Runs of words that are, or may be, no Hangul; without signs of a sentence at their ends."""
    doubted = [doubt.word for doubt in line.doubts]
    inside = [
        not HANGUL.search(text) or bool(LETTER.search(text)) or word in doubted
        for word, text in zip(line.words, line.texts, strict=True)
    ]
    for n in range(1, len(inside) - 1):
        is_joined = not (line.spaces[n - 1] or line.spaces[n])
        inside[n] = inside[n] or (is_joined and inside[n - 1] and inside[n + 1])
    for is_inside, group in groupby(range(len(inside)), key=inside.__getitem__):
        part = trimmed(line, group, SIGNS) if is_inside else None
        if part is not None:
            yield part


def _read(image_HW: "Grey", part: Part) -> None:
    own, is_doubted = part.text, _doubted(part)
    if not own.strip():  # its letters were written into the word before it
        return
    is_hangul = HANGUL.search(own) is not None
    if not is_hangul or is_doubted:
        read = _reading(image_HW, part)
        if read and folded(own) == folded(read):
            if not LETTER_OR_ZERO.match(own):
                _settle(part)
            return
        if read and (_replaces(read, own) if is_hangul else _is_better(read, part)):
            _write(part, read)
            return
        if read and not is_hangul and not is_doubted and _is_other(read, part):
            part.line.doubts.append(Doubt(part.words[0], read))
    for piece in reversed(list(_without_hangul(part)) if is_hangul else []):
        _read(image_HW, piece)


def _replaces(read: str, own: str) -> bool:
    """True if a word that is Hangul, or part of it, is a code in truth.

    A syllable is as wide as two letters, so the code is no shorter.
    """
    if not LETTER.search(own):
        return WORD.fullmatch(read) is not None
    own, read = folded(own), folded(read)
    is_alike = Levenshtein.normalized_similarity(own, read) >= ALIKE
    return is_alike and len(read) >= len(own) and not (read[0] in STROKES and read[0] != own[0])


def _is_better(read: str, part: Part) -> bool:
    """True if the recogniser's reading of a part without Hangul is to be taken.

    Not one that differs from the part by letters that look alike, or by more or fewer at an end:
    the picture may be cut there, or hold a syllable of the word, which comes out as some letter.
    """
    bare = _raised(read)
    own, read = folded(part.text), folded(read)
    if bare != read and own == bare:
        return True
    if _look_alike(own, read):
        is_case = own.upper() == read.upper()
        return is_case and sum(map(str.isupper, read)) > sum(map(str.isupper, own))
    if read in own:
        rest = own.replace(read, "", 1)
        return _doubted(part) and not LETTER.search(rest)
    if not _is_apart(part.line, part.start - 1):
        return False
    if read.startswith(own) or (own in read and not _doubted(part)):
        return False
    if _is_apart(part.line, part.stop - 1):
        return True
    more = read[read.rfind(own[-1]) + 1 :] if own[-1].isalnum() and own[-1] in read else ""
    is_more = 0 < len(more) <= SHORT_END
    return not is_more and HANGUL.match(part.line.texts[part.stop]) is not None


def _is_other(read: str, part: Part) -> bool:
    """True if a reading that is not taken makes a part doubtful."""
    own, read = folded(part.text), folded(read)
    if _look_alike(own, read):
        return own.upper() != read.upper()
    if own in read:
        before = read.partition(own)[0]
        is_apart = _is_apart(part.line, part.start - 1)
        return bool(LETTER.search(before)) and is_apart and not STROKES.issuperset(before)
    return read not in own


def _look_alike(own: str, read: str) -> bool:
    return ALIKE_LETTERS.sub("0", own.upper()) == ALIKE_LETTERS.sub("0", read.upper())


def _raised(text: str) -> str:
    """Without the small numbers at its end, as in m²."""
    return folded(re.sub("[²³]+[.,]?$", "", text))


def _is_apart(line: Line, index: int) -> bool:
    """True if a space follows a word, or no other does."""
    return not 0 <= index < len(line.words) - 1 or line.spaces[index] != ""


def _without_hangul(part: Part) -> Iterator[Part]:
    texts = part.line.texts
    for is_hangul, group in groupby(
        range(part.start, part.stop), key=lambda n: bool(HANGUL.search(texts[n]))
    ):
        own = list(group)
        if not is_hangul:
            yield Part(part.line, own[0], own[-1] + 1)


def _characters(image_HW: "Grey", part: Part) -> list[Character]:
    crop_HW = _crop(image_HW, part)
    if min(crop_HW.shape) < 4:
        return []
    margin = crop_HW.shape[0] // 3
    padded_HW = np.pad(crop_HW, ((0, 0), (margin, margin)), constant_values=255)
    return recognize_characters(padded_HW)


def _crop(image_HW: "Grey", part: Part) -> "Grey":
    """The pixels of a part: those between the syllables beside it.

    Tesseract's boxes of these often hold letters of the part, and leave out its first ones. As
    syllables are of one width, a box that is wider is cut at it.
    """
    line = part.line
    syllable = _width_of_syllable(line)
    left, right = part.words[0].left, max(word.left + word.width for word in part.words)
    least, most = max(0, left - line.height), right + line.height
    if part.start:
        before = line.words[part.start - 1]
        least = before.left + _width(before, line.texts[part.start - 1], syllable)
    if part.stop < len(line.words):
        after = line.words[part.stop]
        most = after.left + after.width - _width(after, line.texts[part.stop], syllable)
    band_HW = image_HW[max(0, line.top - 3) : line.bottom + 3]
    blank_W = np.asarray((band_HW >= INK_BELOW).all(axis=0), dtype=bool)
    start, stop = _nearest(blank_W, min(least, left)), _nearest(blank_W, max(most, right))
    return band_HW[:, start:stop]


def _width(word: Word, text: str, syllable: float) -> int:
    """Pixels of a word beside a part, without the letters that its box holds of that."""
    usual = syllable * len(text)
    return word.width if word.width <= WIDER * usual else round(ROOM * usual)


def _width_of_syllable(line: Line) -> float:
    """Pixels, of the boxes of words in Hangul."""
    pairs = zip(line.words, line.texts, strict=True)
    widths = [word.width / len(text) for word, text in pairs if HANGUL.match(text)]
    return max(median(widths), line.height / 2) if widths else line.height


def _nearest(blank_W: "NDArray[np.bool_]", x: int) -> int:
    """The blank column next to one; itself where all around it is ink."""
    around = range(len(blank_W))[max(0, x - 8) : x + 9]
    return min((at for at in around if blank_W[at]), key=lambda at: abs(at - x), default=x)


def _reading(image_HW: "Grey", part: Part) -> str:
    """What the recogniser reads; empty unless all of it is sure and plausible.

    Syllables at an end that no space separates from the rest of its word are left out.
    """
    seen = _characters(image_HW, part)
    own = [n for n, each in enumerate(seen) if not _is_syllable(each)]
    start = own[0] if own and not _is_apart(part.line, part.start - 1) else 0
    stop = own[-1] + 1 if own and not _is_apart(part.line, part.stop - 1) else len(seen)
    inside = seen[start:stop]
    text = re.sub("°?℃", "°C", "".join(each.text for each in inside)).strip()
    is_sure = all(each.probability >= _least(each.text) for each in inside)
    is_code = PLAUSIBLE.fullmatch(text) and LETTER.search(text) and not ZERO.search(text)
    if not (is_sure and is_code):
        return ""
    end = part.text[-1:]
    return text + end if end in (",", ".") and text[-1].isalnum() else text


def _least(character: str) -> float:
    return SURE if character.isalnum() else GUESSED


def _is_syllable(character: Character) -> bool:
    is_unsure = character.probability < SURE and character.text in FROM_HANGUL
    return is_unsure or character.probability < GUESSED or not PLAUSIBLE.fullmatch(character.text)


def folded(text: str) -> str:
    """Without spaces, one form of signs that look alike."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text.translate(SAME)))


def _doubted(part: Part) -> bool:
    return any(doubt.word in part.words for doubt in part.line.doubts)


def _settle(part: Part) -> None:
    """Nothing in the part is in doubt."""
    line = part.line
    line.doubts[:] = [doubt for doubt in line.doubts if doubt.word not in part.words]


def _write(part: Part, text: str) -> None:
    _settle(part)
    line = part.line
    first = part.words[0]
    right = max(word.left + word.width for word in part.words)
    word = replace(first, width=right - first.left, text=re.sub(r"\s", "", text))
    line.words[part.start : part.stop] = [word]
    line.texts[part.start : part.stop] = [text]
    line.spaces[part.start : part.stop] = [line.spaces[part.stop - 1]]
