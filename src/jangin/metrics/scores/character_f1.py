"""F1 of the multisets of characters, KorQuAD 1.0's measure of near misses."""

from collections import Counter

from jangin.metrics.scores.metric import Metric
from jangin.metrics.text import normalise_answer
from jangin.text.normalize import drop_spaces


def character_f1(prediction: str, gold: str) -> float:
    """F1 of the two multisets of characters without spaces; both empty is 1, one empty is 0."""
    predicted = Counter(drop_spaces(normalise_answer(prediction)))
    expected = Counter(drop_spaces(normalise_answer(gold)))
    if not predicted or not expected:
        return float(predicted == expected)
    return 2 * (predicted & expected).total() / (predicted.total() + expected.total())


METRIC = Metric(
    name="character_f1",
    display={"en": "Character F1", "ko": "글자 F1"},
    right={"en": "Facts right", "ko": "사실 일치"},
    gold="text",
    score=character_f1,
)
