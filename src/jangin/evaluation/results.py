"""`Result`, `Comparison`, `Leak`: aggregate predictions and compare two systems on them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from jangin.core.errors import DataError, counted
from jangin.core.records import Chunk, Example, Record
from jangin.evaluation.tasks.table import DEFAULT_TASK
from jangin.evaluation.tasks.task import (
    GradedRecord,
    Prediction,
    TaskConfig,
    TestSet,
    by_set_and_system,
)
from jangin.metrics.facts import FactGrade, grade_facts
from jangin.metrics.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_p,
    mcnemar_p_unclear,
    permutation_p,
    smallest_visible_difference,
    wilson_interval,
)
from jangin.text.reasoning import without_reasoning

DEFAULT_MEASURE = DEFAULT_TASK.metric
SIGNIFICANT = 0.05
"""p below which a difference is called significant."""

Evidence = Mapping[str, tuple[str, ...]]
"""{example id: the texts that an answer may take further facts from}."""


class Result(GradedRecord):
    """One system on one test set."""

    evidence_set: TestSet
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
    unclear: int = 0
    """Answers in other words that the rules cannot judge; `right` counts them as wrong."""
    form: float | None = None
    """Share of answers in the form of a gold answer, with Wilson's 95 % interval; None where
    answers are labels or numbers."""
    form_low: float | None = None
    form_high: float | None = None


class Comparison(GradedRecord):
    """Two systems, or one system of two variants, on the same questions."""

    evidence_set: TestSet
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
    unclear_a: int = 0
    unclear_b: int = 0
    """Answers that the rules cannot judge."""
    p_unclear: float | None = None
    """The same if each unclear answer went against the better system, 1 where it would then be no
    longer better; None without unclear answers."""
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
    form_a: float | None = None
    """Shares in the form of a gold answer; None where answers are labels or numbers."""
    form_b: float | None = None

    @property
    def hangs_on_unclear(self) -> bool:
        """True for a significant difference that unclear answers could turn."""
        return self.p_value < SIGNIFICANT <= (self.p_unclear or 0)


class Leak(Record):
    """An evaluation question that copies a training question."""

    evidence_set: TestSet
    evaluation_id: str
    train_id: str
    question: str
    train_question: str
    similarity: float
    kind: Literal["exact", "near"]


def grade_prediction(
    example: Example,
    test_set: TestSet,
    system: str,
    text: str,
    *,
    finished: bool = True,
    reasoning: str = "",
    reasoning_tokens: int = 0,
    reasoning_ended: bool = True,
    other_golds: tuple[str, ...] = (),
    task: TaskConfig = DEFAULT_TASK,
    evidence: Sequence[str] = (),
) -> Prediction:
    """Grade one answer against the example's own and the other gold answers.

    Reasoning in a gold answer is not compared. `evidence`: as in `grade_facts`.
    """
    gold = without_reasoning(example.answer)
    others = tuple(map(without_reasoning, other_golds))
    grade = task.grade(text, (gold, *others), example.id)
    is_text = task.gold == "text"
    facts = best_facts(text, (gold, *others), example.question, evidence) if is_text else None
    return Prediction(
        example_id=example.id,
        family=example.family,
        evidence_set=test_set,
        system=system,
        question=example.question,
        gold=gold,
        other_golds=others,
        prediction=text,
        finished=finished,
        right=facts.right if facts else grade.right,
        score=grade.score,
        parsed=grade.parsed,
        unparsable=grade.unparsable,
        source=example.source,
        page=example.page,
        section=example.section,
        reasoning=reasoning,
        reasoning_tokens=reasoning_tokens,
        reasoning_ended=reasoning_ended,
        form=grade.right if facts else None,
        reason=facts.reason if facts else "",
        detail=facts.detail if facts else "",
        unclear=facts is not None and facts.unclear,
    )


def best_facts(
    answer: str, golds: Sequence[str], question: str, evidence: Sequence[str] = ()
) -> FactGrade:
    """The grade against the first gold answer whose facts are stated, else against the first.

    Where no answer is right, one that the answer may state in other words comes first.
    """
    grades = [grade_facts(answer, golds[0], question, evidence)]
    for gold in golds[1:]:
        if grades[-1].right:
            return grades[-1]
        grades.append(grade_facts(answer, gold, question, evidence))
    if grades[-1].right:
        return grades[-1]
    return next((grade for grade in grades if grade.unclear), grades[0])


def regrade(prediction: Prediction, evidence: Sequence[str] = ()) -> Prediction:
    """A free answer graded by the present rules; one from before facts has its form in `right`."""
    golds = (prediction.gold, *prediction.other_golds)
    facts = best_facts(prediction.prediction, golds, prediction.question, evidence)
    form = prediction.right if prediction.form is None else prediction.form
    update = {"right": facts.right, "form": form, "reason": facts.reason, "detail": facts.detail}
    return prediction.model_copy(update=update | {"unclear": facts.unclear})


def evidence_of(examples: Iterable[Example], chunks: Iterable[Chunk] = ()) -> Evidence:
    """What supports an answer to each example: its quotation and the passages that it is about."""
    texts = {chunk.id: chunk.text for chunk in chunks}
    evidence = {}
    for example in examples:
        passages = (texts.get(chunk_id, "") for chunk_id in example.chunk_ids)
        evidence[example.id] = tuple(text for text in (example.evidence, *passages) if text)
    return evidence


def summarise(
    predictions: Sequence[Prediction], seed: int = 0, measure: str = DEFAULT_MEASURE
) -> list[Result]:
    """One row for each test set and system with predictions, in order of appearance.

    Shares have Wilson's interval (Wilson 1927), mean scores a percentile bootstrap over families.
    """
    rows = []
    for (test_set, system), group in by_set_and_system(predictions).items():
        scored = [(p.score, p.family) for p in group if p.score is not None]
        score = None
        if scored:
            score = bootstrap_mean([s for s, _ in scored], [f for _, f in scored], seed=seed)
        rows.append(
            Result(
                evidence_set=test_set,
                system=system,
                n=len(group),
                measure=measure,
                score=score.estimate if score else None,
                score_low=score.low if score else None,
                score_high=score.high if score else None,
                unparsable=sum(p.unparsable for p in group),
                **graded_shares(group),
            )
        )
    return rows


def graded_shares(group: Sequence[Prediction]) -> dict[str, Any]:
    """The fields of `Result` on right answers, and on their form where they are texts."""
    right = wilson_interval(sum(p.right for p in group), len(group))
    shares: dict[str, Any] = {"unclear": sum(p.unclear for p in group)}
    shares |= {"right": right.estimate, "right_low": right.low, "right_high": right.high}
    formed = [p.form for p in group if p.form is not None]
    if formed:
        form = wilson_interval(sum(formed), len(formed))
        shares |= {"form": form.estimate, "form_low": form.low, "form_high": form.high}
    return shares


def compare_systems(
    predictions: Sequence[Prediction], seed: int = 0, measure: str = DEFAULT_MEASURE
) -> list[Comparison]:
    """Every pair of systems on every test set that both answered."""
    groups = by_set_and_system(predictions)
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
    """Compare two systems on the same questions; the two lists may be in any order.

    Each list is one system on one test set, of the same variant or of two variants.

    Raises: DataError: a list mixes systems or test sets, has a question twice, or the two lists
    are not about the same questions.
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
    gains = [
        (p_b.score - p_a.score, p_a.family)
        for p_a, p_b in pairs
        if p_a.score is not None and p_b.score is not None
    ]
    values, families = [gain for gain, _ in gains], [family for _, family in gains]
    gain = bootstrap_mean(values, families, seed=seed) if gains else Interval(0.0, 0.0, 0.0)
    return Comparison(
        evidence_set=a[0].evidence_set,
        a=a[0].system,
        b=b[0].system,
        n=len(pairs),
        smallest_visible=smallest_visible_difference(len(pairs)),
        measure=measure,
        score_n=len(gains),
        score_gain=gain.estimate,
        score_gain_low=gain.low,
        score_gain_high=gain.high,
        score_p=permutation_p(values, families, seed=seed) if gains else 1.0,
        **graded_pairs(pairs),
    )


def graded_pairs(pairs: Sequence[tuple[Prediction, Prediction]]) -> dict[str, Any]:
    """The fields of `Comparison` on right answers, and on their form where they are texts."""
    only_a = sum(a.right and not b.right for a, b in pairs)
    only_b = sum(b.right and not a.right for a, b in pairs)
    fields = {
        "right_a": sum(a.right for a, _ in pairs) / len(pairs),
        "right_b": sum(b.right for _, b in pairs) / len(pairs),
        "only_a": only_a,
        "only_b": only_b,
        "p_value": mcnemar_p(only_a, only_b),
        "unclear_a": sum(a.unclear for a, _ in pairs),
        "unclear_b": sum(b.unclear for _, b in pairs),
        "p_unclear": mcnemar_p_unclear(
            [(a.right, a.unclear) for a, _ in pairs], [(b.right, b.unclear) for _, b in pairs]
        ),
    }
    formed = [(a.form, b.form) for a, b in pairs if a.form is not None and b.form is not None]
    if formed:
        fields["form_a"] = sum(a for a, _ in formed) / len(formed)
        fields["form_b"] = sum(b for _, b in formed) / len(formed)
    return fields


def _by_question(predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    """{example id: prediction}; `DataError` unless it is one system on one test set, each once."""
    if len(by_set_and_system(predictions)) != 1:
        raise DataError(
            f"{len(predictions)} predictions are not those of one system on one test set, "
            "so they cannot be compared. Choose one of each, such as tuned on unseen_sections."
        )
    rows = {prediction.example_id: prediction for prediction in predictions}
    if len(rows) != len(predictions):
        raise DataError(
            f"{counted(len(predictions) - len(rows), 'question was', 'questions were')} "
            "answered twice in one evaluation. "
            "Run the evaluate stage again."
        )
    return rows


def _by_wording(rows: dict[str, Prediction]) -> dict[str, Prediction]:
    """The same by question and gold answer: with another system prompt, ids differ."""
    worded = {f"{p.question}\0{p.gold}": p for p in rows.values()}
    return worded if len(worded) == len(rows) else rows
