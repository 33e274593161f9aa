"""Task `labels`: one label out of a set, and its figures: accuracy, macro F1, kappa, confusion."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from jangin.core.errors import DataError
from jangin.core.records import Record
from jangin.evaluation.tasks.task import (
    Grade,
    Prediction,
    ResultTable,
    TaskConfig,
    TestSet,
    by_set_and_system,
)
from jangin.metrics.classification import grade_labels, read_label
from jangin.metrics.scores.closeness import LabelPosition
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import find_metric


class LabelsTask(TaskConfig):
    """One label out of a set, such as a star rating."""

    gold: ClassVar[GoldKind] = "label"
    invalid_gold_remedy: ClassVar[str] = "Add it to `labels` of the task, or drop the rows."

    type: Literal["labels"]
    labels: tuple[str, ...] = Field(min_length=2)
    """All labels, in their order where they have one."""
    ordered: bool = False
    """True if a label next to the right one is better than one far away."""
    good_from: str = ""
    """Labels from this one on are good, the others bad; empty: no such division."""

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise ValueError(f"{', '.join(repeated)} is listed more than once")
        if self.good_from and self.good_from not in self.labels:
            raise ValueError(f"good_from {self.good_from!r} is none of the labels")
        return self

    @property
    def invalid_gold(self) -> str:
        """The labels that are allowed."""
        return f"that is no label of the task ({', '.join(self.labels)})"

    def is_valid_gold(self, answer: str) -> bool:
        """True for a label; spaces around it are ignored."""
        return answer.strip() in self.labels

    def grade(self, answer: str, golds: Sequence[str], row: str = "") -> Grade:
        """Score is the closeness: 1 for the right label, else 0 or, if ordered, linear in steps.

        Raises: DataError: the gold answer is not a label.
        """
        gold = golds[0].strip()  # for older completion models answers begin with a space
        if gold not in self.labels:
            raise DataError(
                f"row {row}: answer {gold[:60]!r} is no label of the task "
                f"({', '.join(self.labels)}). Add it to `labels` of the task, or drop the row."
            )
        label = read_label(answer, self.labels)
        if label is None:
            return Grade(right=False, score=0.0, parsed="", unparsable=True)
        predicted, true = (
            LabelPosition(self.labels.index(name), len(self.labels) - 1, self.ordered)
            for name in (label, gold)
        )
        return Grade(label == gold, find_metric(self.metric).score(predicted, true), label)

    def tables(self, predictions: Sequence[Prediction], _seed: int) -> list[ResultTable]:
        """`label_results`."""
        return [ResultTable("label_results", LabelResult, label_results(predictions, self))]


class LabelResult(Record):
    """One system's labels on one test set; intervals are Wilson's, 95 %."""

    evidence_set: TestSet
    system: str
    n: int
    unparsable: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    constant_accuracy: float
    """Accuracy of always giving the most frequent label of this set."""
    macro_f1: float
    off_by_one: float | None
    """Share at most one step off; None where labels have no order."""
    good_or_bad: float | None
    """Share on the right side of `good_from`; None without one."""
    weighted_kappa: float | None
    """Cohen's kappa with quadratic weights (Cohen 1968) over the answers that were parsed."""
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """(L, L + 1) counts, [gold][predicted]; the last column is unparsable answers."""


def label_results(predictions: Sequence[Prediction], task: LabelsTask) -> list[LabelResult]:
    """One row for each test set and system."""
    rows = []
    for (test_set, system), group in by_set_and_system(predictions).items():
        report = grade_labels(
            {p.example_id: p.gold.strip() for p in group},
            {p.example_id: None if p.unparsable else p.parsed for p in group},
            task.labels,
            ordered=task.ordered,
            good_from=task.good_from,
        )
        rows.append(
            LabelResult(
                evidence_set=test_set,
                system=system,
                n=report.n,
                unparsable=report.unparsable,
                accuracy=report.accuracy.estimate,
                accuracy_low=report.accuracy.low,
                accuracy_high=report.accuracy.high,
                constant_accuracy=report.constant_accuracy,
                macro_f1=report.macro_f1,
                off_by_one=report.off_by_one.estimate if report.off_by_one else None,
                good_or_bad=report.good_or_bad.estimate if report.good_or_bad else None,
                weighted_kappa=report.weighted_kappa,
                labels=task.labels,
                confusion=report.confusion,
            )
        )
    return rows
