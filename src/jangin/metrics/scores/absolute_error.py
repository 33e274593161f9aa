"""Absolute error of a number, in the units of the truth."""

import math

from jangin.metrics.scores.metric import Metric


def absolute_error(answer: float, gold: float) -> float:
    """|answer - gold|, 0 or more."""
    return abs(answer - gold)


METRIC = Metric(
    name="absolute_error",
    display={"en": "Mean error", "ko": "평균 오차"},
    right={"en": "Green band", "ko": "초록 구간"},
    gold="number",
    score=absolute_error,
    higher_is_better=False,
    range=(0.0, math.inf),
    unparsable="no number",
)
