"""What an evaluation says: predictions with their grades, shares with intervals, comparisons.

Three sets of evidence are kept apart, because they answer different questions:

* `seen_questions`: was what was trained on learned by heart?
* `held_out_paraphrases`: is it also found when somebody asks in other words?
* `unseen_sections`: does the model know what nobody taught it? (For facts, hardly ever.)
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

from jangin.core.errors import DataError
from jangin.core.types import Example, Record
from jangin.grading.answers import grade_answer
from jangin.grading.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    mcnemar_p,
    smallest_visible_difference,
    wilson_interval,
)

EvidenceSet = Literal["seen_questions", "held_out_paraphrases", "unseen_sections"]
System = Literal["base", "tuned"]


class Prediction(Record):
    """One system's answer to one question, graded."""

    example_id: str
    family: str
    evidence_set: EvidenceSet
    system: System
    question: str
    gold: str
    other_golds: tuple[str, ...]
    """Further answers that examples with the same prompt have; the best grade counts."""
    prediction: str
    finished: bool
    """False if the longest answer allowed cut it off."""
    exact: bool
    """KorQuAD's exact match."""
    f1: float
    """KorQuAD's character F1, 0 to 1."""
    source: str
    page: int
    section: str


class Result(Record):
    """One system on one evidence set."""

    evidence_set: EvidenceSet
    system: System
    n: int
    exact: float
    """Share of exact matches, with Wilson's 95 % interval."""
    exact_low: float
    exact_high: float
    f1: float
    """Mean character F1, with a 95 % bootstrap interval over families."""
    f1_low: float
    f1_high: float


class Comparison(Record):
    """Two systems, or one system of two variants, on the same questions."""

    evidence_set: EvidenceSet
    a: str
    b: str
    n: int
    exact_a: float
    exact_b: float
    only_a: int
    """Questions that only `a` answered exactly."""
    only_b: int
    p_value: float
    """Exact McNemar, two-sided."""
    smallest_visible: float | None
    """Smallest difference of shares that n questions could show at p < 0.05; None if none."""
    f1_gain: float
    """Mean F1 of `b` minus that of `a`, with a paired 95 % bootstrap interval over families."""
    f1_gain_low: float
    f1_gain_high: float


class Leak(Record):
    """An evaluation question that copies a training question."""

    evidence_set: EvidenceSet
    evaluation_id: str
    train_id: str
    question: str
    train_question: str
    similarity: float
    kind: Literal["exact", "near"]


def grade_prediction(
    example: Example,
    evidence_set: EvidenceSet,
    system: System,
    text: str,
    *,
    finished: bool = True,
    other_golds: tuple[str, ...] = (),
) -> Prediction:
    """Grade one answer against the example's own and the other gold answers."""
    grade = grade_answer(text, (example.answer, *other_golds))
    return Prediction(
        example_id=example.id,
        family=example.family,
        evidence_set=evidence_set,
        system=system,
        question=example.question,
        gold=example.answer,
        other_golds=other_golds,
        prediction=text,
        finished=finished,
        exact=grade.exact == 1,
        f1=grade.f1,
        source=example.source,
        page=example.page,
        section=example.section,
    )


def summarise(predictions: Sequence[Prediction], seed: int = 0) -> list[Result]:
    """One row for each evidence set and system that answered anything, in order of appearance."""
    rows = []
    for (evidence_set, system), group in _grouped(predictions).items():
        exact = wilson_interval(sum(p.exact for p in group), len(group))
        f1 = bootstrap_mean([p.f1 for p in group], [p.family for p in group], seed=seed)
        rows.append(
            Result(
                evidence_set=evidence_set,
                system=system,
                n=len(group),
                exact=exact.estimate,
                exact_low=exact.low,
                exact_high=exact.high,
                f1=f1.estimate,
                f1_low=f1.low,
                f1_high=f1.high,
            )
        )
    return rows


def compare_systems(predictions: Sequence[Prediction], seed: int = 0) -> list[Comparison]:
    """Every pair of systems on every evidence set that both answered."""
    groups = _grouped(predictions)
    return [
        compare_predictions(groups[first], groups[second], seed=seed)
        for first, second in combinations(groups, 2)
        if first[0] == second[0]
    ]


def compare_predictions(
    a: Sequence[Prediction], b: Sequence[Prediction], *, seed: int = 0
) -> Comparison:
    """Compare two lists of predictions for the same questions, in whatever order they come.

    Each list holds one system on one evidence set; the two may come from two variants, of which
    the caller knows the names. Raises `DataError` where the questions are not the same: figures
    from different questions do not belong side by side.
    """
    rows_a, rows_b = _by_question(a), _by_question(b)
    if {p.evidence_set for p in a} != {p.evidence_set for p in b} or rows_a.keys() != rows_b.keys():
        raise DataError(
            f"these evaluations asked different questions: {len(rows_a.keys() - rows_b.keys())} of "
            f"{len(rows_a)} only in the first, {len(rows_b.keys() - rows_a.keys())} of "
            f"{len(rows_b)} only in the second. Give both variants the same examples, and the "
            "same seed and shares under split."
        )
    pairs = [(rows_a[name], rows_b[name]) for name in rows_a]
    families = [left.family for left, _ in pairs]
    f1_a, f1_b = [left.f1 for left, _ in pairs], [right.f1 for _, right in pairs]
    gain = bootstrap_difference(f1_b, f1_a, families, seed=seed)
    only_a = sum(left.exact and not right.exact for left, right in pairs)
    only_b = sum(right.exact and not left.exact for left, right in pairs)
    return Comparison(
        evidence_set=a[0].evidence_set,
        a=a[0].system,
        b=b[0].system,
        n=len(pairs),
        exact_a=sum(left.exact for left, _ in pairs) / len(pairs),
        exact_b=sum(right.exact for _, right in pairs) / len(pairs),
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar_p(only_a, only_b),
        smallest_visible=smallest_visible_difference(len(pairs)),
        f1_gain=gain.estimate,
        f1_gain_low=gain.low,
        f1_gain_high=gain.high,
    )


def _grouped(
    predictions: Iterable[Prediction],
) -> dict[tuple[EvidenceSet, System], list[Prediction]]:
    groups: dict[tuple[EvidenceSet, System], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.evidence_set, prediction.system), []).append(prediction)
    return groups


def _by_question(predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    """{example id: prediction}; raises `DataError` unless it is one system on one set, once."""
    if len(_grouped(predictions)) != 1:
        raise DataError(
            f"{len(predictions)} predictions are not those of one system on one evidence set, "
            "so they cannot be compared. Choose one of each, such as tuned on unseen_sections."
        )
    rows = {prediction.example_id: prediction for prediction in predictions}
    if len(rows) != len(predictions):
        raise DataError(
            f"{len(predictions) - len(rows)} questions were answered twice in one evaluation. "
            "Run the evaluate stage again."
        )
    return rows
