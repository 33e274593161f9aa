"""ROUGE-L: longest common subsequence of words."""

from jangin.metrics.scores.metric import Metric
from jangin.text.normalize import word_runs


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


METRIC = Metric(
    name="rouge_l",
    display={"en": "ROUGE-L", "ko": "ROUGE-L 점수"},
    right={"en": "Facts right", "ko": "사실 일치"},
    gold="text",
    score=rouge_l,
)
