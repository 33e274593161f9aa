"""Which known question does a new one ask? Siblings of one template are different questions.

Similarity is Dice's coefficient over character bigrams of the content words, weighted by how few
known questions have them (inverse document frequency, Sparck Jones 1972), so that the words of a
template count little and the word that fills it counts much. Three rules are above it, because
letters alone call "P-100의 보증 기간" and "S-10의 보증 기간" the same:

* numbers and codes of letters and digits must be those of the known question;
* where two known questions differ in one word only, a question with one of these words does not
  ask what the question with the other one asks;
* of two questions that are about as similar and have other answers, neither is meant.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.text.korean import PLURAL_AND_PARTICLES
from jangin.text.language import QUESTION_FUNCTION_WORDS
from jangin.text.normalize import folded_words

AMBIGUOUS = 0.03
"""Difference of similarity below which two questions with other answers are equally likely."""
UNKNOWN_WORDS = 0.5
"""Weight of a word that no known question has, as a share of the largest weight."""
_CODE = re.compile(
    r"(?<![a-z0-9])(?=[a-z0-9]*[-_./]?[a-z0-9]*\d)[a-z][a-z0-9]*(?:[-_./][a-z0-9]+)*"
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ASKING = frozenset(
    [
        *[
            "어떻게",
            "무엇",
            "무엇인가",
            "언제",
            "어디",
            "누구",
            "누가",
            "얼마",
            "얼마나",
            "며칠",
            "몇",
        ],
        *["어느", "어떤", "무슨", "왜", "알려", "주세요", "말해", "궁금합니다", "대해", "대한"],
        *["혹시", "뭐", "뭔가", "값", "궁금해", "궁금한데", "싶습니다", "싶어", "알고"],
        *["what", "which", "who", "whom", "when", "where", "why", "how", "much", "many", "long"],
        *["tell", "me", "for", "to", "i", "can", "you"],
    ]
)
_KINDS = {
    "?when": re.compile("언제|몇 시|기한|when|what time|deadline"),
    "?amount": re.compile("얼마|며칠|몇|how (?:much|many|long|often|far)"),
    "?who": re.compile("누구|누가|담당|who"),
    "?where": re.compile("어디|어느 곳|장소|where"),
}
"""What a question asks for."""
_PREDICATE = re.compile(
    "(?:인가요|인가|인지|입니까|이에요|예요|되나요|됩니까|되는지|하나요|합니까|하는지|있나요|있습니까|있는지"
    "|한가요|나요|는가|습니까|까요|요)$"
)
"""Endings of the last word of a question."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The known question that a new one asks."""

    index: int
    """Of the known question in the order given."""
    similarity: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class _Question:
    words: frozenset[str]
    sequence: tuple[str, ...]
    hard: frozenset[str]
    """Numbers and codes."""
    grams: frozenset[str]


class KnownQuestions:
    """Known questions, some of which are wordings of one, with their answers."""

    def __init__(
        self, questions: Sequence[str], facts: Sequence[str], answers: Sequence[str]
    ) -> None:
        """Questions with the same `facts` are wordings of one; `answers` are compared as texts."""
        self._known = [_read(question) for question in questions]
        self._facts, self._answers = list(facts), list(answers)
        self._postings: dict[str, list[int]] = defaultdict(list)
        for index, known in enumerate(self._known):
            for gram in known.grams:
                self._postings[gram].append(index)
        total = len(self._known) + 1
        self._weights = {gram: math.log(total / len(h)) for gram, h in self._postings.items()}
        self._unknown = UNKNOWN_WORDS * math.log(total)
        self._sizes = [self._size(known.grams) for known in self._known]
        self._of_fact: dict[str, list[int]] = defaultdict(list)
        for index, fact in enumerate(self._facts):
            self._of_fact[fact].append(index)
        self._grams_of = {
            fact: frozenset().union(*(self._known[index].grams for index in indices))
            for fact, indices in self._of_fact.items()
        }
        self._slots = self._find_slots()

    def nearest(self, question: str, least: float = 0.0) -> Nearest | None:
        """The known question that this one asks, in these or other words; None where none is.

        `least` is the similarity that it must have.
        """
        query = _read(question)
        scores: dict[str, tuple[float, int]] = {}
        for index, score in self._scores(query):
            fact = self._facts[index]
            if score > scores.get(fact, (-1.0, 0))[0]:
                scores[fact] = (score, index)
        size = self._size(query.grams) or 1.0
        for fact, (score, index) in scores.items():
            covered = self._size(query.grams & self._grams_of[fact]) / size
            scores[fact] = ((score + covered) / 2, index)
        ranked = sorted(scores.items(), key=lambda item: -item[1][0])
        fitting = [(score, index) for fact, (score, index) in ranked if self._may_mean(query, fact)]
        if not fitting or fitting[0][0] < least:
            return None
        best, index = fitting[0]
        for score, other in fitting[1:]:
            if best - score >= AMBIGUOUS:
                break
            if self._answers[other] != self._answers[index]:
                return None
        return Nearest(index, best)

    def most_alike(self, question: str, count: int) -> list[Nearest]:
        """The known questions with the most in common, the most alike first.

        They may ask for something else. Similarity is that of the words alone.
        """
        scores = sorted(self._scores(_read(question)), key=lambda pair: (-pair[1], pair[0]))
        return [Nearest(index, score) for index, score in scores[:count]]

    def similarity(self, question: str, index: int) -> float:
        """How alike a question and the known one with this index are, 0 to 1."""
        query, known = _read(question), self._known[index]
        sizes = self._size(query.grams) + self._sizes[index]
        return 2 * self._size(query.grams & known.grams) / sizes if sizes else 0.0

    def _scores(self, query: _Question) -> list[tuple[int, float]]:
        shared: defaultdict[int, float] = defaultdict(float)
        for gram in sorted(
            query.grams
        ):  # the order of a set, and so the rounding, depends on the process
            for index in self._postings.get(gram, ()):
                shared[index] += self._weights[gram]
        size = self._size(query.grams)
        return [(i, 2 * w / (size + self._sizes[i])) for i, w in shared.items() if self._sizes[i]]

    def _size(self, grams: frozenset[str]) -> float:
        return math.fsum(self._weights.get(gram, self._unknown) for gram in grams)

    def _may_mean(self, query: _Question, fact: str) -> bool:
        """True unless a number, a code or the word that fills a template is another one."""
        wordings = [self._known[index] for index in self._of_fact[fact]]
        needed = frozenset.intersection(*(known.hard for known in wordings))
        allowed = frozenset().union(*(known.hard for known in wordings))
        if not needed <= query.hard <= allowed:
            return False
        words = frozenset().union(*(known.words for known in wordings))
        for word in query.words - words:
            rivals = self._slots.get(word, frozenset())
            if any(rival in words and rival not in query.words for rival in rivals):
                return False
        return True

    def _find_slots(self) -> dict[str, frozenset[str]]:
        """{word: words that replace it in a question that is otherwise the same}."""
        fillers_of: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        for known, fact in zip(self._known, self._facts, strict=True):
            for position, word in enumerate(known.sequence):
                rest = (*known.sequence[:position], "\0", *known.sequence[position + 1 :])
                if len(rest) > 1:
                    fillers_of[rest][word].add(fact)
        slots: dict[str, set[str]] = defaultdict(set)
        for fillers in fillers_of.values():
            for word, facts in fillers.items():
                slots[word] |= {
                    other for other, theirs in fillers.items() if other != word and facts != theirs
                }
        return {word: frozenset(rivals) for word, rivals in slots.items() if rivals}


def ask_other_things(one: str, two: str) -> bool:
    """Whether one question asks, for instance, when and the other one how much.

    Two wordings of one question may do so, too ("by when", "how many days before").
    """
    kinds = [_read(text).grams & _KINDS.keys() for text in (one, two)]
    return all(kinds) and not kinds[0] & kinds[1]


def _read(question: str) -> _Question:
    folded = " ".join(_keeping_codes(question))
    codes = _CODE.findall(folded)
    rest = _CODE.sub(" ", folded)
    numbers = [number.replace(",", "") for number in _NUMBER.findall(rest)]
    words = []
    for word in folded_words(_CODE.sub(" ", folded)):
        stem = PLURAL_AND_PARTICLES.sub("", _PREDICATE.sub("", word))
        if stem and stem not in _ASKING and stem not in QUESTION_FUNCTION_WORDS:
            words.append(stem)
    sequence = (*codes, *words)
    grams = {gram for word in words for gram in _grams(word)}
    grams |= {f"#{code}" for code in codes}
    grams |= {kind for kind, pattern in _KINDS.items() if pattern.search(folded)}
    return _Question(frozenset(sequence), sequence, frozenset((*codes, *numbers)), frozenset(grams))


def _keeping_codes(question: str) -> list[str]:
    """Words in lower case and NFKC with their inner hyphens."""
    import unicodedata

    return unicodedata.normalize("NFKC", question).casefold().split()


def _grams(word: str) -> list[str]:
    """Bigrams of a Korean word with its beginning marked; a Latin word is its first five."""
    if word.isascii():
        return [word[:5]]
    return [word] if len(word) < 2 else [word[i : i + 2] for i in range(len(word) - 1)]
