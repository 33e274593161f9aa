"""What an evaluation of labels or numbers says beyond the share of right answers."""

from collections.abc import Iterator, Sequence

from jangin.core.records import Record
from jangin.evaluation.results import EvidenceSet, Prediction
from jangin.evaluation.tasks import LabelsTask, NumbersTask, gold_number
from jangin.metrics.classification import grade_labels
from jangin.metrics.regression import grade_numbers
from jangin.text.numbers import read_number


class LabelResult(Record):
    """One system's labels on one evidence set; intervals are Wilson's, 95 %."""

    evidence_set: EvidenceSet
    system: str
    n: int
    unparsable: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    constant_accuracy: float
    """Of always giving the most frequent label of this set."""
    macro_f1: float
    off_by_one: float | None
    """Share at most one step off; None where labels have no order."""
    good_or_bad: float | None
    """Share on the right side of the line; None without one."""
    weighted_kappa: float | None
    """Quadratic weighted kappa over the answers that could be read."""
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """[gold][predicted]; the last column is unparsable answers."""


class NumberResult(Record):
    """One system's numbers on one evidence set."""

    evidence_set: EvidenceSet
    system: str
    n: int
    unparsable: int
    mean_error: float | None
    """Mean absolute error over the answers that could be read, with a 95 % bootstrap interval."""
    mean_error_low: float | None
    mean_error_high: float | None
    median_error: float | None
    rmse: float | None
    rmsle: float | None
    r2: float | None
    green: float
    """Shares of all n by band; unparsable answers are red."""
    green_low: float
    green_high: float
    orange: float
    red: float


def label_results(predictions: Sequence[Prediction], task: LabelsTask) -> list[LabelResult]:
    """One row for each evidence set and system."""
    rows = []
    for (evidence_set, system), group in _grouped(predictions):
        report = grade_labels(
            {p.example_id: p.gold.strip() for p in group},
            {p.example_id: None if p.unparsable else p.parsed for p in group},
            task.labels,
            ordered=task.ordered,
            good_from=task.good_from,
        )
        rows.append(
            LabelResult(
                evidence_set=evidence_set,
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


def number_results(
    predictions: Sequence[Prediction], task: NumbersTask, seed: int = 0
) -> list[NumberResult]:
    """One row for each evidence set and system."""
    rows = []
    for (evidence_set, system), group in _grouped(predictions):
        report = grade_numbers(
            {p.example_id: gold_number(p.gold, p.example_id) for p in group},
            {p.example_id: None if p.unparsable else read_number(p.prediction) for p in group},
            clusters={p.example_id: p.family for p in group},
            bands=task.bands,
            seed=seed,
        )
        read = report.mean_error
        rows.append(
            NumberResult(
                evidence_set=evidence_set,
                system=system,
                n=report.n,
                unparsable=report.unparsable,
                mean_error=read.estimate if read else None,
                mean_error_low=read.low if read else None,
                mean_error_high=read.high if read else None,
                median_error=report.median_error if read else None,
                rmse=report.rmse if read else None,
                rmsle=report.rmsle if read else None,
                r2=report.r2,
                green=report.green.estimate,
                green_low=report.green.low,
                green_high=report.green.high,
                orange=report.orange.estimate,
                red=report.red.estimate,
            )
        )
    return rows


def _grouped(
    predictions: Sequence[Prediction],
) -> Iterator[tuple[tuple[EvidenceSet, str], list[Prediction]]]:
    groups: dict[tuple[EvidenceSet, str], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.evidence_set, prediction.system), []).append(prediction)
    yield from groups.items()
