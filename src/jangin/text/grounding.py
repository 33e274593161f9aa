"""Is an answer supported by its source? Evidence, numbers, names and words are looked up there.

This finds what a teacher invented, at the cost of some right answers in other words, which are
dropped with the reason. It cannot find a wrong answer that is made of right parts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.text.korean import PARTICLE_OR_COPULA
from jangin.text.language import ANSWER_FUNCTION_WORDS, HANGUL_SYLLABLE
from jangin.text.normalize import drop_spaces, folded_words, letters_only, nfc
from jangin.text.quantities import quantities, readings

_LATIN = re.compile(r"(?<![0-9.,])[A-Za-z][A-Za-z0-9]*(?:[.&'’-][A-Za-z0-9]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:\n]\s*)[\"'“(]*$")
_LABEL = re.compile(
    r"^(?:\s*(?:제\s*\d+\s*[조장절항](?:\s*\([^)]*\))?|[①-⑳]|\(?\d+[.)]|이 (?:규칙|규정|약관)[은는]"
    r"|(?:article|section)\s+\d+[.:]?))+\s*",
    re.IGNORECASE,
)
_ANSWER_WORDS = frozenset(("아니요", "아니오", "yes", "no"))


@dataclass(frozen=True, slots=True)
class Support:
    """How much of an answer a source supports."""

    facts: int
    """Numbers and names in the answer."""
    missing: tuple[str, ...]
    """Those of them that the source does not have, in order."""
    words: float
    """Share of the answer's words that are in the source, 0 to 1; 1 where there are none."""

    @property
    def grounded(self) -> float:
        """Share of the numbers and names that are in the source; 1 where there are none."""
        return 1 - len(self.missing) / self.facts if self.facts else 1.0


def support(evidence: str, text: str) -> float:
    """Share of the evidence that the text has in one piece, 0 to 1; spaces ignored, NFC."""
    from rapidfuzz import fuzz

    needle = drop_spaces(nfc(evidence))
    haystack = drop_spaces(nfc(text))
    if not needle or not haystack:
        return 0.0
    if needle in haystack:
        return 1.0
    if len(needle) > len(haystack):
        return float(fuzz.ratio(needle, haystack)) / 100
    return float(fuzz.partial_ratio(needle, haystack)) / 100


def without_label(evidence: str) -> str:
    """A quotation without the heading or number that a model put before it.

    What is left of a heading alone is empty.
    """
    return _LABEL.sub("", evidence)


def locate(evidence: str, text: str) -> tuple[int, int] | None:
    """(start, end) of the evidence in an NFC text, or of what is most similar; None without any."""
    from rapidfuzz import fuzz

    needle = drop_spaces(nfc(evidence))
    positions = [position for position, character in enumerate(text) if not character.isspace()]
    haystack = "".join(text[position] for position in positions)
    if not needle or not haystack:
        return None
    start = haystack.find(needle)
    end = start + len(needle)
    if start < 0:
        if len(needle) > len(haystack):
            return positions[0], positions[-1] + 1
        alignment = fuzz.partial_ratio_alignment(needle, haystack)
        if alignment is None or alignment.dest_end <= alignment.dest_start:
            return None
        start, end = alignment.dest_start, alignment.dest_end
    return positions[start], positions[end - 1] + 1


def check_answer(answer: str, source: str, names: Sequence[str] = ()) -> Support:
    """Look up an answer's numbers, names and words in its source.

    `names` are the Korean proper names of the answer, as from `content_words.proper_names`; names
    in Latin letters are added.
    """
    known = readings(source)
    letters = letters_only(source)
    numbers = quantities(answer)
    missing = [q.text for q in numbers if not any(q.agrees(other) for other in known)]
    named = list(dict.fromkeys((*names, *_latin_names(answer))))
    spelled = folded_words(answer)
    for name in map(letters_only, named):
        # Kiwi may cut a particle too much or too little off: the written word counts as well.
        around = [PARTICLE_OR_COPULA.sub("", word) for word in spelled if name in word]
        if name not in letters and not any(stem in letters for stem in around):
            missing.append(name)
    return Support(len(numbers) + len(named), tuple(missing), _shared_words(answer, letters))


def _latin_names(answer: str) -> list[str]:
    """Names in Latin letters: all of them among Hangul, capitalised ones within English."""
    among_hangul = HANGUL_SYLLABLE.search(answer) is not None
    return [
        match[0]
        for match in _LATIN.finditer(answer)
        if len(match[0]) > 1 and (among_hangul or _is_name(answer, match))
    ]


def _is_name(answer: str, match: re.Match[str]) -> bool:
    """True for a word with a capital or a digit inside, or a capital within a sentence."""
    word = match[0]
    if any(character.isupper() or character.isdigit() for character in word[1:]):
        return True
    if not word[0].isupper() or word.lower() in ANSWER_FUNCTION_WORDS:
        return False
    return _SENTENCE_START.search(answer[: match.start()]) is None


def _shared_words(answer: str, letters: str) -> float:
    """Share of the answer's words that are in the source.

    Numbers, single letters ("연 8회"), yes and no are not counted.
    """
    words = [
        word
        for word in folded_words(answer)
        if len(word) > 1
        and not any(c.isdigit() for c in word)
        and word not in _ANSWER_WORDS | ANSWER_FUNCTION_WORDS
    ]
    return sum(word_is_in(word, letters) for word in words) / len(words) if words else 1.0


def word_is_in(word: str, letters: str) -> bool:
    """True if the source has a word, with any particle or ending."""
    stem = PARTICLE_OR_COPULA.sub("", word)
    if stem in letters:
        return True
    if HANGUL_SYLLABLE.match(stem):
        return len(stem) > 2 and stem[:2] in letters
    return len(stem) > 5 and stem[: max(5, len(stem) - 3)] in letters
