"""chrF2: F-score of character n-grams."""

from jangin.metrics.scores.metric import Metric
from jangin.text.normalize import nfc


def chrf(prediction: str, gold: str) -> float:
    """chrF2 of character 1- to 6-grams as sacrebleu computes it, 0 to 1. Source: Popovic 2015."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(nfc(prediction), [nfc(gold)]).score) / 100


METRIC = Metric(
    name="chrf",
    display={"en": "chrF", "ko": "chrF 점수"},
    right={"en": "Facts right", "ko": "사실 일치"},
    gold="text",
    score=chrf,
)
