"""Words of a scan that the document itself spells otherwise many times.

Tesseract reads 보험 as 보헌, 보현 or 보혐 on some pages and is sure of it. A noun of two syllables
that begins a hundred words of a document belongs to its vocabulary. Two syllables that look like
it, are rarer and are no noun of the language are a doubt; their line is set aside like one in which
two readings differ.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.documents.ocr.corrections import text_without
from jangin.documents.ocr.missing_syllables import INITIALS, SHAPES, WORDS, parts_of
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

OFTEN = 100
"""Words of a document that a noun begins from which on it belongs to the vocabulary."""
RARER = 2
"""How many times rarer the pair of syllables that looks like it is, at least."""
UNKNOWN = 2
"""Kiwi's highest number of a morpheme that is not in its dictionary."""
LEAST = {"unknown": 5.0, "name": 8.0, "several": 12.0}
"""By how much a word must be likelier as the vocabulary has it, as a logarithm, where the analyser
takes the rare pair for a noun that it does not know, a name, or several words. Measured on a policy
of 190 pages without a misread word: 9.8 and less on several words, 3.8 on the others."""
VOWELS = ({0, 2}, {4, 6}, {8, 12}, {13, 17}, {1, 3, 5, 7})
"""Numbers of vowels that differ by a stroke: ㅏㅑ, ㅓㅕ, ㅗㅛ, ㅜㅠ, ㅐㅒㅔㅖ."""
HANGUL = re.compile("[가-힣]{2,}")


def doubt_misspelt(readings: Mapping[int, OcrReading]) -> dict[int, OcrReading]:
    """{page: reading} with lines set aside whose words the document spells otherwise many times.

    Readings of vision models are left as they are, and so is everything where kiwipiepy, which
    knows the words of the language, is not installed.
    """
    own = {page: reading for page, reading in readings.items() if not reading.read_by}
    lines = {page: (one.complete or one.text).split("\n") for page, one in own.items()}
    words = Counter(w for page in lines.values() for line in page for w in HANGUL.findall(line))
    meant = meant_words(words)
    if not meant:
        return dict(readings)
    pattern = re.compile("|".join(map(re.escape, sorted(meant, key=len, reverse=True))))
    done = dict(readings)
    for page, reading in own.items():
        doubts = {
            number: "; ".join(dict.fromkeys(meant[word] for word in misread))
            for number, line in enumerate(lines[page])
            if pattern.search(line) and (misread := [w for w in HANGUL.findall(line) if w in meant])
        }
        done[page] = _set_aside(reading, lines[page], doubts)
    return done


def meant_words(words: Counter[str], least: int = OFTEN) -> dict[str, str]:
    """{word that was probably misread: that word as the text spells it `least` times or more}.

    Empty where kiwipiepy is not installed.
    """
    heads: Counter[str] = Counter()
    for word, count in words.items():
        heads[word[:2]] += count
    often = [pair for pair, count in heads.items() if count >= least]
    if not often:
        return {}
    try:
        kiwi = WORDS.kiwi()
    except MachineError:
        return {}
    often = [pair for pair in often if _kind(kiwi, pair) == "noun"]
    out: dict[str, str] = {}
    for pair, count in heads.items():
        others = [o for o in often if heads[o] >= RARER * count and are_alike(pair, o)]
        if others and (margin := LEAST.get(_kind(kiwi, pair))) is not None:
            out |= _likelier(kiwi, pair, others, [w for w in words if pair in w], margin)
    return out


def _kind(kiwi: "Kiwi", pair: str) -> str:
    """What the analyser takes two syllables for: a noun, a name, unknown, several words."""
    with WORDS.lock:
        tokens = kiwi.analyze(pair)[0][0]
    if len(tokens) > 1:
        return "several"
    if tokens[0].id <= UNKNOWN:
        return "unknown"
    return "name" if tokens[0].tag == "NNP" else "noun" if tokens[0].tag == "NNG" else "other"


def _likelier(
    kiwi: "Kiwi", pair: str, others: list[str], words: list[str], least: float
) -> dict[str, str]:
    """{word: the word with another pair} of those that are likelier by `least` in that way."""

    def likelihood(word: str) -> float:
        with WORDS.lock:
            return float(kiwi.analyze(word)[0][1])

    out = {}
    for word in words:
        best = max((word.replace(pair, other) for other in others), key=likelihood)
        if likelihood(best) >= likelihood(word) + least:
            out[word] = best
    return out


def are_alike(pair: str, other: str) -> bool:
    """True if two pairs differ in one syllable, by a part of it or by a stroke and its final."""
    if (pair[0] == other[0]) == (pair[1] == other[1]):
        return False
    at = 0 if pair[1] == other[1] else 1
    own, its = parts_of(pair[at]), parts_of(other[at])
    different = [a != b for a, b in zip(own, its, strict=True)]
    has_finals = bool(own[2] and its[2])
    if sum(different) == 1:
        initials = {INITIALS[own[0]], INITIALS[its[0]]}
        is_shape = any(initials.issubset(shape) for shape in SHAPES)
        return different[1] or (has_finals if different[2] else is_shape)
    is_stroke = any({own[1], its[1]} <= vowels for vowels in VOWELS)
    return different == [False, True, True] and has_finals and is_stroke


def _set_aside(reading: OcrReading, lines: list[str], doubts: Mapping[int, str]) -> OcrReading:
    """A reading without the lines of these numbers, which are doubtful in it."""
    known = {line.number: line for line in reading.doubtful}
    new = {n: words for n, words in doubts.items() if n not in known or known[n].is_kept}
    if not new:
        return reading
    for number, words in new.items():
        sure = known[number].confidence if number in known else reading.confidence
        known[number] = DoubtfulLine(lines[number], words, sure, "readings differ", number)
    doubtful = tuple(known[number] for number in sorted(known))
    text = text_without(lines, doubtful)
    return replace(reading, text=text, doubtful=doubtful, complete="\n".join(lines))
