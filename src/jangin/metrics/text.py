"""Grades of a free answer: KorQuAD 1.0's exact match and character F1, and softer ones."""

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.text.normalize import collapse_spaces, nfc, word_runs

_SPACED = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
_DELETED = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class AnswerGrade:
    """How well one answer meets its gold answers: the best over them, each in [0, 1]."""

    exact: float
    f1: float


def normalise_answer(text: str) -> str:
    """NFC, quotes and brackets to spaces, lower case, no ASCII punctuation, single spaces.

    Source: `normalize_answer` of KorQuAD 1.0's evaluation script, with NFC put before it.
    """
    return collapse_spaces(nfc(text).translate(_SPACED).lower().translate(_DELETED))


def exact_match(prediction: str, gold: str) -> float:
    """1 if both texts are equal once normalised, else 0."""
    return float(normalise_answer(prediction) == normalise_answer(gold))


def character_f1(prediction: str, gold: str) -> float:
    """F1 of the two multisets of characters without spaces; both empty is 1, one empty is 0."""
    predicted = Counter(normalise_answer(prediction).replace(" ", ""))
    expected = Counter(normalise_answer(gold).replace(" ", ""))
    if not predicted or not expected:
        return float(predicted == expected)
    return 2 * (predicted & expected).total() / (predicted.total() + expected.total())


def grade_answer(prediction: str, golds: Sequence[str]) -> AnswerGrade:
    """The best exact match and the best F1 over all gold answers; raises ValueError on none."""
    return AnswerGrade(
        exact=max(exact_match(prediction, gold) for gold in golds),
        f1=max(character_f1(prediction, gold) for gold in golds),
    )


def contains(prediction: str, gold: str) -> float:
    """1 if the normalised gold answer stands somewhere in the prediction, spaces ignored, else 0.

    An empty gold answer stands in an empty prediction only.
    """
    needle = normalise_answer(gold).replace(" ", "")
    haystack = normalise_answer(prediction).replace(" ", "")
    return float(needle in haystack if needle else not haystack)


def rouge_l(prediction: str, gold: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1; both empty is 1.

    Words are runs of letters and digits, lower case, after NFC, so that Hangul counts (the
    reference implementation deletes everything but a-z and 0-9). Source: Lin 2004, equation 4
    with beta 1.
    """
    from rapidfuzz.distance import LCSseq

    predicted, expected = word_runs(prediction), word_runs(gold)
    if not predicted or not expected:
        return float(predicted == expected)
    return 2 * LCSseq.similarity(predicted, expected) / (len(predicted) + len(expected))


def chrf(prediction: str, gold: str) -> float:
    """chrF2 of character 1- to 6-grams as sacrebleu computes it, 0 to 1. Source: Popovic 2015."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(nfc(prediction), [nfc(gold)]).score) / 100
