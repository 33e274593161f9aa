"""Accuracy of each system on slices of a test set: by document, label and question length."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

from jangin.core.records import Record
from jangin.evaluation.results import SIGNIFICANT
from jangin.evaluation.tasks.task import Prediction, TaskConfig, TestSet
from jangin.metrics.statistics import holm, mcnemar_p, mcnemar_p_unclear, wilson_interval

Dimension = Literal["document", "label", "length"]
MOST_VALUES = 30
"""Number of slices kept per dimension, the largest: each further one weakens Holm's correction."""


class Slice(Record):
    """One system on a part of a test set, compared with the first system on the same questions."""

    evidence_set: TestSet
    dimension: Dimension
    value: str
    system: str
    n: int
    right: float
    """Share of right answers, with Wilson's 95 % interval."""
    right_low: float
    right_high: float
    unclear: int = 0
    """Answers that the rules cannot judge."""
    against: str
    """The first system, which the others are compared with."""
    only_this: int
    """Questions that only this system answered right."""
    only_against: int
    p_value: float
    """Exact McNemar, two-sided."""
    p_holm: float
    """The same after Holm's correction (Holm 1979) over the slices of this system, test set and
    dimension."""
    p_unclear: float | None = None
    """`p_holm` with every unclear answer against the better system; None without any."""

    @property
    def hangs_on_unclear(self) -> bool:
        """True for a significant difference that unclear answers could turn."""
        return self.p_holm < SIGNIFICANT <= (self.p_unclear or 0)


def slice_predictions(predictions: Sequence[Prediction], task: TaskConfig) -> list[Slice]:
    """Slices of every dimension with at least two values, in the order of the predictions."""
    cuts: dict[Dimension, Callable[[Prediction], str]] = {"document": lambda p: p.source}
    if task.gold == "label":
        cuts["label"] = lambda p: p.gold.strip()
    rows: list[Slice] = []
    by_set: dict[TestSet, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        by_set[prediction.evidence_set].append(prediction)
    for test_set, group in by_set.items():
        lengths = _terciles(group)
        for dimension, cut in {**cuts, "length": lengths}.items():
            rows += _sliced(test_set, dimension, cut, group)
    return rows


def _sliced(
    test_set: TestSet,
    dimension: Dimension,
    cut: Callable[[Prediction], str],
    predictions: Sequence[Prediction],
) -> list[Slice]:
    first = predictions[0].system
    of_first = {p.example_id: p for p in predictions if p.system == first}
    sizes: dict[str, int] = defaultdict(int)
    for prediction in predictions:
        sizes[cut(prediction)] += prediction.system == first
    values = sorted((v for v in sizes if v), key=lambda value: -sizes[value])[:MOST_VALUES]
    if len(values) < 2:
        return []
    rows = []
    for system in dict.fromkeys(p.system for p in predictions):
        of_system = [p for p in predictions if p.system == system]
        parts = [[p for p in of_system if cut(p) == value] for value in values]
        beside = [[of_first[p.example_id] for p in part] for part in parts]
        pairs = [list(zip(x, y, strict=True)) for x, y in zip(parts, beside, strict=True)]
        only_this = [sum(p.right and not q.right for p, q in x) for x in pairs]
        only_first = [sum(q.right and not p.right for p, q in x) for x in pairs]
        p_values = [mcnemar_p(a, b) for a, b in zip(only_this, only_first, strict=True)]
        with_unclear = [
            mcnemar_p_unclear(_grades(x), _grades(y)) for x, y in zip(parts, beside, strict=True)
        ]
        p_unclear = holm(
            [p if u is None else u for p, u in zip(p_values, with_unclear, strict=True)]
        )
        for index, (value, part, corrected) in enumerate(
            zip(values, parts, holm(p_values), strict=True)
        ):
            share = wilson_interval(sum(p.right for p in part), len(part))
            rows.append(
                Slice(
                    evidence_set=test_set,
                    dimension=dimension,
                    value=value,
                    system=system,
                    n=len(part),
                    right=share.estimate,
                    right_low=share.low,
                    right_high=share.high,
                    unclear=sum(p.unclear for p in part),
                    against=first,
                    only_this=only_this[index],
                    only_against=only_first[index],
                    p_value=p_values[index],
                    p_holm=corrected,
                    p_unclear=None if with_unclear[index] is None else p_unclear[index],
                )
            )
    return rows


def _grades(predictions: Sequence[Prediction]) -> list[tuple[bool, bool]]:
    return [(p.right, p.unclear) for p in predictions]


def _terciles(predictions: Sequence[Prediction]) -> Callable[[Prediction], str]:
    """A function from a prediction to the tercile of its question's characters, such as `≤ 20`."""
    lengths = sorted(len(p.question) for p in predictions)
    low, high = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    if low == high:
        return lambda _prediction: ""

    def name(prediction: Prediction) -> str:
        length = len(prediction.question)
        if length <= low:
            return f"≤ {low}"
        return f"{low + 1}–{high}" if length <= high else f"> {high}"

    return name
