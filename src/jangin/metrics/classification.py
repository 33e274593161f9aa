"""Accuracy, per-label F1, confusion matrix and weighted kappa of predicted labels.

Predictions are keyed by row id, never by position: answers come back in any order.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jangin.core.errors import DataError, counted, counted_of
from jangin.metrics.statistics import Interval, wilson_interval
from jangin.text.normalize import collapse_spaces, fold_case

UNPARSABLE = ""
"""Written instead of a label where an answer is none of the labels."""


@dataclass(frozen=True, slots=True)
class LabelGrade:
    """Precision, recall and F1 of one label."""

    label: str
    gold: int
    """Rows that have it."""
    predicted: int
    precision: float
    """0 where it was never predicted."""
    recall: float
    """0 where no row has it."""
    f1: float


@dataclass(frozen=True, slots=True)
class LabelReport:
    """Scores of all rows. An unparsable answer counts as wrong in every share."""

    n: int
    unparsable: int
    accuracy: Interval
    """Wilson's 95 % interval."""
    macro_f1: float
    """Mean F1 over the labels that some row has."""
    labels: tuple[LabelGrade, ...]
    confusion: tuple[tuple[int, ...], ...]
    """[gold][predicted] in the order of the labels; the last column is unparsable answers."""
    constant_accuracy: float
    """Of always giving the most frequent gold label."""
    off_by_one: Interval | None
    """Share at most one step off; None where the labels have no order."""
    good_or_bad: Interval | None
    """Share on the right side of the line; None where no line was drawn."""
    weighted_kappa: float | None
    """Quadratic weighted kappa over parsable answers; None without an order or any variation."""


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """The label that an answer gives, or None.

    The whole answer must be the label, or its first word, without marks around it and in any
    case: `4`, ` 4점.` with label `4점`, `Positive.`; a label somewhere in a sentence is none.
    """
    by_text = {_bare(label): label for label in labels}
    whole = _bare(answer)
    if whole in by_text:
        return by_text[whole]
    words = whole.split()
    return by_text.get(_bare(words[0])) if words else None


def grade_labels(
    gold: Mapping[str, str],
    predicted: Mapping[str, str | None],
    labels: Sequence[str],
    *,
    ordered: bool = False,
    good_from: str = "",
) -> LabelReport:
    """Grade {row id: label} against {row id: gold label}; None is an unparsable answer.

    `labels` in their order, which counts where `ordered`. `good_from` draws a line: labels from
    it on are good.

    Raises: DataError: the row ids differ, or a label or `good_from` is not in the set.
    """
    index = {label: i for i, label in enumerate(labels)}
    _check(gold, predicted, index, good_from)
    confusion = [[0] * (len(index) + 1) for _ in index]
    for row, label in gold.items():
        answer = predicted[row]
        confusion[index[label]][len(index) if answer is None else index[answer]] += 1
    n = len(gold)
    right = sum(confusion[i][i] for i in range(len(index)))
    grades = tuple(_label_grade(label, i, confusion) for label, i in index.items())
    present = [grade for grade in grades if grade.gold]
    line = index[good_from] if good_from else None
    return LabelReport(
        n=n,
        unparsable=sum(row[-1] for row in confusion),
        accuracy=wilson_interval(right, n),
        macro_f1=sum(grade.f1 for grade in present) / len(present) if present else 0.0,
        labels=grades,
        confusion=tuple(tuple(row) for row in confusion),
        constant_accuracy=max(Counter(gold.values()).values(), default=0) / n if n else 0.0,
        off_by_one=wilson_interval(_near(confusion), n) if ordered else None,
        good_or_bad=None if line is None else wilson_interval(_same_side(confusion, line), n),
        weighted_kappa=weighted_kappa(confusion) if ordered else None,
    )


def weighted_kappa(confusion: Sequence[Sequence[int]]) -> float | None:
    """Quadratic weighted kappa of [gold][predicted] counts, without any column beyond the labels.

    1 is perfect, 0 is chance, None where all is one label. Source: Cohen 1968.
    """
    size = len(confusion)
    rows = [sum(row[:size]) for row in confusion]
    columns = [sum(row[j] for row in confusion) for j in range(size)]
    n = sum(rows)
    observed = sum((i - j) ** 2 * confusion[i][j] for i in range(size) for j in range(size))
    chance = sum((i - j) ** 2 * rows[i] * columns[j] for i in range(size) for j in range(size))
    return 1 - observed * n / chance if chance else None


def _check(
    gold: Mapping[str, str],
    predicted: Mapping[str, str | None],
    index: Mapping[str, int],
    good_from: str,
) -> None:
    known = ", ".join(index)
    if gold.keys() != predicted.keys():
        missing, extra = len(gold.keys() - predicted.keys()), len(predicted.keys() - gold.keys())
        raise DataError(
            f"{counted_of(missing, len(gold), 'row', 'has', 'have')} no prediction and "
            f"{counted(extra, 'prediction has', 'predictions have')} no row. "
            "Predict every row once, under its id."
        )
    for row, label in gold.items():
        if label not in index:
            raise DataError(
                f"row {row}: label {label!r} is outside the set ({known}). "
                "Add it to the labels, or drop the row."
            )
    for row, answer in predicted.items():
        if answer is not None and answer not in index:
            raise DataError(
                f"row {row}: prediction {answer!r} is outside the set ({known}). "
                "Read answers with read_label, which gives None for those."
            )
    if good_from and good_from not in index:
        raise DataError(f"good_from {good_from!r} is none of the labels ({known}). Name one.")


def _label_grade(label: str, i: int, confusion: Sequence[Sequence[int]]) -> LabelGrade:
    gold, predicted = sum(confusion[i]), sum(row[i] for row in confusion)
    hits = confusion[i][i]
    return LabelGrade(
        label=label,
        gold=gold,
        predicted=predicted,
        precision=hits / predicted if predicted else 0.0,
        recall=hits / gold if gold else 0.0,
        f1=2 * hits / (gold + predicted) if gold + predicted else 0.0,
    )


def _near(confusion: Sequence[Sequence[int]]) -> int:
    size = len(confusion)
    return sum(confusion[i][j] for i in range(size) for j in range(size) if abs(i - j) <= 1)


def _same_side(confusion: Sequence[Sequence[int]], line: int) -> int:
    size = len(confusion)
    return sum(
        confusion[i][j] for i in range(size) for j in range(size) if (i >= line) == (j >= line)
    )


def _bare(text: str) -> str:
    """NFC, lower case, single spaces, no marks at the ends."""
    return collapse_spaces(fold_case(text)).strip(" .,:;!?\"'`*()[]<>")
