"""What an evaluation says: predictions with their grades, shares with intervals, comparisons.

The sets of evidence are kept apart, because they answer different questions:

* `seen_questions`: was what was trained on learned by heart?
* `held_out_paraphrases`: is it also found when somebody asks in other words?
* `unseen_sections`: does the model know what nobody taught it? (For facts, hardly ever.)
* `test`: rows of a table that were kept aside: does it generalise?
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

from jangin.core.errors import DataError
from jangin.core.records import Example, Record
from jangin.evaluation.tasks import AnswersTask, AnyTask, grade, measure_of
from jangin.metrics.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_p,
    permutation_p,
    smallest_visible_difference,
    wilson_interval,
)

DEFAULT_TASK = AnswersTask()
DEFAULT_MEASURE = measure_of(DEFAULT_TASK)

EvidenceSet = Literal["seen_questions", "held_out_paraphrases", "unseen_sections", "test"]


class Prediction(Record):
    """One system's answer to one question, graded."""

    example_id: str
    family: str
    evidence_set: EvidenceSet
    system: str
    question: str
    gold: str
    other_golds: tuple[str, ...]
    """Further answers that examples with the same prompt have; the best grade counts."""
    prediction: str
    finished: bool
    """False if the longest answer allowed cut it off."""
    right: bool
    """As the task says: exact match, the right label, a number in the green band."""
    score: float | None
    """In the task's measure, such as character F1; None for an unparsable number."""
    parsed: str
    """What was read from the answer; empty where it was unparsable."""
    unparsable: bool
    source: str
    page: int
    section: str


class Result(Record):
    """One system on one evidence set."""

    evidence_set: EvidenceSet
    system: str
    n: int
    right: float
    """Share of right answers, with Wilson's 95 % interval."""
    right_low: float
    right_high: float
    measure: str
    score: float | None
    """Mean score in that measure, with a 95 % bootstrap interval over families; None where no
    answer could be read."""
    score_low: float | None
    score_high: float | None
    unparsable: int
    """Answers that hold no label or no number; they are wrong, and counted here."""


class Comparison(Record):
    """Two systems, or one system of two variants, on the same questions."""

    evidence_set: EvidenceSet
    a: str
    b: str
    n: int
    right_a: float
    right_b: float
    only_a: int
    """Questions that only `a` answered right."""
    only_b: int
    p_value: float
    """Exact McNemar, two-sided."""
    smallest_visible: float | None
    """Smallest difference of shares that n questions could show at p < 0.05; None if none."""
    measure: str
    score_n: int
    """Questions for which both have a score."""
    score_gain: float
    """Mean score of `b` minus that of `a`, with a paired 95 % bootstrap interval over families."""
    score_gain_low: float
    score_gain_high: float
    score_p: float
    """Paired permutation test over families, two-sided."""


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
    system: str,
    text: str,
    *,
    finished: bool = True,
    other_golds: tuple[str, ...] = (),
    task: AnyTask = DEFAULT_TASK,
) -> Prediction:
    """Grade one answer against the example's own and the other gold answers."""
    graded = grade(task, text, (example.answer, *other_golds), example.id)
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
        right=graded.right,
        score=graded.score,
        parsed=graded.parsed,
        unparsable=graded.unparsable,
        source=example.source,
        page=example.page,
        section=example.section,
    )


def summarise(
    predictions: Sequence[Prediction], seed: int = 0, measure: str = DEFAULT_MEASURE
) -> list[Result]:
    """One row for each evidence set and system that answered anything, in order of appearance."""
    rows = []
    for (evidence_set, system), group in _grouped(predictions).items():
        right = wilson_interval(sum(p.right for p in group), len(group))
        scored = [(p.score, p.family) for p in group if p.score is not None]
        score = None
        if scored:
            score = bootstrap_mean([s for s, _ in scored], [f for _, f in scored], seed=seed)
        rows.append(
            Result(
                evidence_set=evidence_set,
                system=system,
                n=len(group),
                right=right.estimate,
                right_low=right.low,
                right_high=right.high,
                measure=measure,
                score=score.estimate if score else None,
                score_low=score.low if score else None,
                score_high=score.high if score else None,
                unparsable=sum(p.unparsable for p in group),
            )
        )
    return rows


def compare_systems(
    predictions: Sequence[Prediction], seed: int = 0, measure: str = DEFAULT_MEASURE
) -> list[Comparison]:
    """Every pair of systems on every evidence set that both answered."""
    groups = _grouped(predictions)
    return [
        compare_predictions(groups[first], groups[second], seed=seed, measure=measure)
        for first, second in combinations(groups, 2)
        if first[0] == second[0]
    ]


def compare_predictions(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    *,
    seed: int = 0,
    measure: str = DEFAULT_MEASURE,
) -> Comparison:
    """Compare two lists of predictions for the same questions, in whatever order they come.

    Each list holds one system on one evidence set; the two may come from two variants, of which
    the caller knows the names. Raises `DataError` where the questions are not the same: figures
    from different questions do not belong side by side.
    """
    rows_a, rows_b = _by_question(a), _by_question(b)
    if rows_a.keys() != rows_b.keys():
        rows_a, rows_b = _by_wording(rows_a), _by_wording(rows_b)
    if {p.evidence_set for p in a} != {p.evidence_set for p in b} or rows_a.keys() != rows_b.keys():
        raise DataError(
            f"these evaluations asked different questions: {len(rows_a.keys() - rows_b.keys())} of "
            f"{len(rows_a)} only in the first, {len(rows_b.keys() - rows_a.keys())} of "
            f"{len(rows_b)} only in the second. Give both variants the same examples, and the "
            "same seed and shares under split."
        )
    pairs = [(rows_a[name], rows_b[name]) for name in rows_a]
    only_a = sum(left.right and not right.right for left, right in pairs)
    only_b = sum(right.right and not left.right for left, right in pairs)
    gains = [
        (right.score - left.score, left.family)
        for left, right in pairs
        if left.score is not None and right.score is not None
    ]
    values, families = [gain for gain, _ in gains], [family for _, family in gains]
    gain = bootstrap_mean(values, families, seed=seed) if gains else Interval(0.0, 0.0, 0.0)
    return Comparison(
        evidence_set=a[0].evidence_set,
        a=a[0].system,
        b=b[0].system,
        n=len(pairs),
        right_a=sum(left.right for left, _ in pairs) / len(pairs),
        right_b=sum(right.right for _, right in pairs) / len(pairs),
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar_p(only_a, only_b),
        smallest_visible=smallest_visible_difference(len(pairs)),
        measure=measure,
        score_n=len(gains),
        score_gain=gain.estimate,
        score_gain_low=gain.low,
        score_gain_high=gain.high,
        score_p=permutation_p(values, families, seed=seed) if gains else 1.0,
    )


def _grouped(
    predictions: Iterable[Prediction],
) -> dict[tuple[EvidenceSet, str], list[Prediction]]:
    groups: dict[tuple[EvidenceSet, str], list[Prediction]] = {}
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


def _by_wording(rows: dict[str, Prediction]) -> dict[str, Prediction]:
    """The same by question and gold answer: with another system prompt, ids differ."""
    worded = {f"{p.question}\0{p.gold}": p for p in rows.values()}
    return worded if len(worded) == len(rows) else rows
