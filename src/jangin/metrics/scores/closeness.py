"""Closeness of labels: 1 for the right one, less the farther away an ordered label is."""

from dataclasses import dataclass

from jangin.metrics.scores.metric import Metric


@dataclass(frozen=True, slots=True)
class LabelPosition:
    """A label by its index in the task's labels."""

    index: int
    last: int
    """Index of the last label."""
    ordered: bool
    """False: any other label is equally far away."""


def closeness(answer: LabelPosition, gold: LabelPosition) -> float:
    """1 for the right label; 0 for others, or for ordered ones 1 - distance / largest distance."""
    if not gold.ordered:
        return float(answer.index == gold.index)
    return 1 - abs(answer.index - gold.index) / gold.last


METRIC = Metric(
    name="closeness",
    display={"en": "Closeness", "ko": "가까움"},
    right={"en": "Accuracy", "ko": "정확도"},
    gold="label",
    score=closeness,
    unparsable="no label",
)
