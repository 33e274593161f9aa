"""Syllables that Tesseract's Korean model cannot write, found by the words that they make.

The alphabet of that model has 1,076 syllables of Hangul. 1,274 of the 2,350 in the standard KS X
1001 are not in it, such as the 냅 of `냅니다`, 홉 of `아홉` and 갚 of `갚다`: it writes a similar
syllable at a confidence of 0 (`냄니다`, `아홈`), or none. So where a syllable has next to no
confidence, each missing one that looks like it, or stood before it, is tried in its words, and the
language model of the Korean analyser (kiwipiepy) says whether one of them is far more likely. The
confidence stays as it is, so that a word that was inferred never confirms anything.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.documents.ocr.second_reading import HANGUL, Line
from jangin.documents.ocr.tesseract import KOREAN, alphabet

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

UNSURE = 30.0
"""Confidence of a word below which one of its syllables may be missing in the alphabet. Measured:
0, seldom up to 30, on such words, and on 1 to 3 others of a page."""
LEGIBLE = 60.0
"""Mean confidence of a line's other words from which on they are words and not a drawing."""
LONGEST = 3
"""Characters of a word of Tesseract's, which are single syllables mostly, that is looked at."""
MOST = 60
"""Words of a page that are looked at, at most: more of them are no page of Korean."""
MOST_DIFFERENT = 2
"""Of initial, vowel and final of a syllable, how many may differ from what was read."""
DIFFERENT = 3.0
"""What a difference beyond the first counts against a syllable, in units of the likelihood."""
OTHER_INITIAL = 3.0
"""What an initial of another shape counts beside that."""
SHAPES = ("ㄱㄲㅋ", "ㄴ", "ㄷㄸㅌㄹ", "ㅁ", "ㅂㅃㅍ", "ㅅㅆㅈㅉㅊ", "ㅇㅎ")
"""Initials that look alike."""
INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
INSERTED = 6.0
"""What counts against a syllable that was not read at all."""
CLEARLY = 3.0
"""Difference in the logarithm of likelihood to what was read from which on a syllable is taken."""
UNRIVALLED = 2.0
"""The same to any other syllable. Measured: of 78 that were taken 5 were wrong, as what had been
read was, and 16 of 94 where others do not count."""
AROUND = 2
"""Words before and after that are read with it."""


def restore_syllables(lines: list[Line], languages: tuple[str, ...]) -> list[Line]:
    """The lines, words of missing syllables restored; changed in place.

    Nothing is done without the Korean model, or where kiwipiepy is not installed.
    """
    if KOREAN not in languages:
        return lines
    unsure = [(line, index) for line in lines for index in _unsure(line)]
    if not 0 < len(unsure) <= MOST or not (missing := missing_syllables()):
        return lines
    try:
        words = WORDS.kiwi()
    except MachineError:
        return lines
    for line, index in unsure:
        best = _best(words, line, index, missing)
        if best:
            line.texts[index] = best
            line.words[index] = replace(line.words[index], text=best)
    return lines


def _unsure(line: Line) -> Iterator[int]:
    """Numbers of the short words of a legible line that hold Hangul and are next to unread."""
    unread = [index for index, word in enumerate(line.words) if word.confidence < UNSURE]
    rest = [word for word in line.words if word.confidence >= UNSURE]
    length = sum(len(word.text) for word in rest)
    if sum(len(word.text) * word.confidence for word in rest) >= LEGIBLE * max(1, length):
        for index in unread:
            if len(line.texts[index]) <= LONGEST and HANGUL.search(line.texts[index]):
                yield index


@cache
def missing_syllables() -> str:
    """The syllables of KS X 1001 that are not in the model's alphabet; none if it is not known."""
    known = alphabet(KOREAN)
    codes = ((row, cell) for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF))
    standard = (bytes(code).decode("euc_kr") for code in codes)
    return "".join(one for one in standard if one not in known) if known else ""


def _best(kiwi: "Kiwi", line: Line, index: int, missing: str) -> str:
    """The most likely text of a word with a missing syllable.

    Empty unless it is clearly likelier than the word as it was read, and than any other text.
    """
    before, after = _around(line, index)
    old = line.texts[index]

    def likelihood(text: str) -> float:
        with WORDS.lock:
            return float(kiwi.analyze(before + text + after)[0][1])

    tried = [(likelihood(new) - against, new) for new, against in _choices(old, missing)]
    (best, text), (second, _) = heapq.nlargest(2, [*tried, (-math.inf, ""), (-math.inf, "")])
    is_taken = best >= likelihood(old) + CLEARLY and best >= second + UNRIVALLED
    return text if is_taken else ""


def _choices(old: str, missing: str) -> Iterator[tuple[str, float]]:
    """(text, what counts against it): `old` with a missing syllable in it."""
    for position, syllable in enumerate(old):
        if not HANGUL.match(syllable):
            continue
        for one in missing:
            against = _difference(syllable, one)
            if against is not None:
                yield old[:position] + one + old[position + 1 :], against
    if HANGUL.match(old) and not HANGUL.search(old[1:]):
        yield from ((one + old, INSERTED) for one in missing)


def _difference(read: str, other: str) -> float | None:
    """What a syllable's look counts against it; None where it is another one altogether."""
    parts, others = parts_of(read), parts_of(other)
    different = sum(a != b for a, b in zip(parts, others, strict=True))
    if different > MOST_DIFFERENT:
        return None
    initials = {INITIALS[parts[0]], INITIALS[others[0]]}
    alike = any(initials.issubset(shape) for shape in SHAPES)
    return DIFFERENT * (different - 1) + (0.0 if alike else OTHER_INITIAL)


def parts_of(syllable: str) -> tuple[int, int, int]:
    """Numbers of the initial, the vowel and the final."""
    number = ord(syllable) - ord("가")
    return number // 588, number % 588 // 28, number % 28


def _around(line: Line, index: int) -> tuple[str, str]:
    """The text before a word and after it, up to the second word of the language."""
    pieces = [text + space for text, space in zip(line.texts, line.spaces, strict=True)]
    before, after = "".join(pieces[:index]), line.spaces[index] + "".join(pieces[index + 1 :])
    return " ".join(before.split(" ")[-AROUND:]), " ".join(after.split(" ")[:AROUND])


class _Words:
    """The analyser with its general words alone, loaded once: 1 second and 230 MB."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._kiwi: Kiwi | None = None

    def kiwi(self) -> "Kiwi":
        """Raises `MachineError` where kiwipiepy is not installed."""
        from jangin.text.korean import small_kiwi

        with self.lock:
            self._kiwi = self._kiwi or small_kiwi()
        return self._kiwi


WORDS = _Words()
