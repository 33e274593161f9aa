"""Answers that were given with passages: what they cite, whether it supports them, when to refuse.

`Grounding` has the figures of one system on one test set. `SearchLimit` is the score of the best
passage below which an answer is not in the documents. `GroundedVerdict` compares the tuned model
that reads passages with the best system that needs no training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jangin.core.digest import digest_value
from jangin.core.records import Example, Record
from jangin.documents.passages import PassageHit, Passages, cited
from jangin.evaluation.results import SIGNIFICANT, Comparison, compare_predictions
from jangin.evaluation.systems.retrieval import WITH_RETRIEVAL
from jangin.evaluation.systems.table import is_trained
from jangin.evaluation.tasks.task import Prediction, TestSet, by_set_and_system
from jangin.metrics.statistics import holm, wilson_interval
from jangin.text.grounding import check_answer, support

CITED_EVIDENCE = 0.9
"""Share of an example's quotation that a cited passage has in one piece."""
LEAST_QUESTIONS = 20
"""Training questions from which a limit of the search score is calibrated."""
MOST_QUESTIONS = 500
"""Training questions that are searched for it, a seeded draw."""
LIMIT = "least_score"
"""Key of the limit in the summary of an evaluation; absent where there is none."""
TRAINED_WITH = "tuned_with_passages"
"""Key in the same summary: whether the tuned model was trained with passages; absent where it was
not asked with any."""


class Grounding(Record):
    """Answers of one system with passages on one test set, as counts of questions."""

    evidence_set: TestSet
    system: str
    n: int
    right: int
    known: int
    """Questions whose own passage is known and in the index."""
    own_read: int
    """Of `known`: the own passage is among those that were read."""
    citation_right: int
    """Of `known`: the cited passage is the own one, or has its quotation."""
    stating: int
    """Answers with a number or a name in them."""
    faithful: int
    """Of `stating`: each is in the passages or in the question."""
    answered: int
    """Questions whose best passage reaches the limit of the search score."""
    right_answered: int
    """Of `answered`: right answers."""


class SearchLimit(Record):
    """A limit of the search score on one test set, each question with and without its passage.

    It was calibrated on training questions alone.
    """

    evidence_set: TestSet
    limit: float
    calibrated_on: int
    """Training questions."""
    n: int
    """Questions whose own passage is known and in the index."""
    refused_rightly: int
    """With the own passage taken out of the index."""
    refused_wrongly: int
    """With the own passage in the index."""


def best_score(hits: Sequence[PassageHit]) -> float:
    """What is compared with the limit: the best BM25 score among passages; 0 without any."""
    return max((hit.score for hit in hits), default=0.0)


def measure_grounding(
    predictions: Sequence[Prediction],
    examples: Mapping[str, Example],
    passages: Passages,
    counts: Mapping[str, int],
    limit: float | None,
) -> list[Grounding]:
    """The figures of each system in `counts`, {label: passages that it reads}, on each test set.

    `examples`: {id: question}. Without a limit every question counts as answered.
    """
    rows = []
    hits: dict[tuple[str, int], list[PassageHit]] = {}
    for (test_set, system), group in by_set_and_system(predictions).items():
        count = counts.get(system)
        if count is None:
            continue
        ids = [p.example_id for p in group if (p.example_id, count) not in hits]
        questions = [examples[each].prompt[-1].content for each in ids]
        for each, best in zip(ids, passages.search(questions, count), strict=True):
            hits[each, count] = best
        graded = [
            _graded(p, examples[p.example_id], hits[p.example_id, count], passages, limit)
            for p in group
        ]
        sums = {name: sum(row[name] for row in graded) for name in graded[0]}
        rows.append(Grounding(evidence_set=test_set, system=system, n=len(group), **sums))
    return rows


def _graded(
    prediction: Prediction,
    example: Example,
    hits: Sequence[PassageHit],
    passages: Passages,
    limit: float | None,
) -> dict[str, bool]:
    """Whether a prediction counts for each field of `Grounding`."""
    own = {each for each in example.chunk_ids if passages.row_of(each) is not None}
    cites = cited(hits, prediction.prediction)
    cites_own = cites is not None and (
        cites.chunk.id in own
        or (bool(example.evidence) and support(example.evidence, cites.text) >= CITED_EVIDENCE)
    )
    read = "\n".join((example.question, *(hit.text for hit in hits)))
    stated = check_answer(prediction.prediction, read)
    answered = limit is None or best_score(hits) >= limit
    return {
        "right": prediction.right,
        "known": bool(own),
        "own_read": any(hit.chunk.id in own for hit in hits),
        "citation_right": bool(own) and cites_own,
        "stating": stated.facts > 0,
        "faithful": stated.facts > 0 and not stated.missing,
        "answered": answered,
        "right_answered": answered and prediction.right,
    }


def measure_limit(
    passages: Passages,
    train: Sequence[Example],
    test_sets: Mapping[TestSet, Sequence[Example]],
    seed: int,
) -> list[SearchLimit]:
    """The limit that separates training questions with and without their own passage best.

    And what it does on each test set. Empty with fewer than `LEAST_QUESTIONS` training questions
    whose own passage is in the index.
    """
    drawn = sorted(train, key=lambda each: digest_value([seed, "limit", each.id]))
    taught = _pairs(passages, drawn[:MOST_QUESTIONS])
    if len(taught) < LEAST_QUESTIONS:
        return []
    limit = _best_limit(taught)
    rows = []
    for name, examples in test_sets.items():
        if name != "seen_questions" and (pairs := _pairs(passages, examples)):
            rows.append(
                SearchLimit(
                    evidence_set=name,
                    limit=limit,
                    calibrated_on=len(taught),
                    n=len(pairs),
                    refused_rightly=sum(without < limit for _, without in pairs),
                    refused_wrongly=sum(present < limit for present, _ in pairs),
                )
            )
    return rows


def _pairs(passages: Passages, examples: Sequence[Example]) -> list[tuple[float, float]]:
    """(best score, best score with the own passages taken out) of questions that have some."""
    golds = [({passages.row_of(each) for each in e.chunk_ids} - {None}, e) for e in examples]
    known = [(rows, example) for rows, example in golds if rows]
    most = max((len(rows) for rows, _ in known), default=0) + 1
    rankings = passages.by_terms.hits([e.prompt[-1].content for _, e in known], most)
    pairs = []
    for (rows, _), hits in zip(known, rankings, strict=True):
        scores = [hit.score for hit, _ in hits]
        others = [hit.score for hit, _ in hits if hit.index not in rows]
        pairs.append((max(scores, default=0.0), max(others, default=0.0)))
    return pairs


def _best_limit(pairs: Sequence[tuple[float, float]]) -> float:
    """The score from which most questions are answered with, and least without their passage.

    Of equal ones the lowest, which refuses least.
    """

    def gain(limit: float) -> int:
        return sum(present >= limit for present, _ in pairs) + sum(
            without < limit for _, without in pairs
        )

    return max((step / 200 for step in range(201)), key=lambda limit: (gain(limit), -limit))


@dataclass(frozen=True, slots=True)
class GroundedVerdict:
    """The tuned model with passages beside the best system that was not trained."""

    evidence_set: TestSet
    n: int
    right: float
    """Share of right answers of the tuned model, with Wilson's 95 % interval."""
    low: float
    high: float
    rival: str
    """Label of the best system that was not trained; empty without one."""
    comparison: Comparison | None
    """`a` is the rival, `b` the tuned model."""
    p_holm: float
    """Exact McNemar p, corrected by Holm over all systems that were not trained."""
    rivals: int
    """Number of these systems."""

    @property
    def outcome(self) -> str:
        """`alone`, `better`, `worse`, `unclear` or `level`, where no difference is shown."""
        pair = self.comparison
        if pair is None:
            return "alone"
        if self.p_holm >= SIGNIFICANT:
            return "level"
        if pair.hangs_on_unclear:
            return "unclear"
        return "better" if pair.right_b > pair.right_a else "worse"


def grounded_verdict(
    predictions: Sequence[Prediction], preferred: Sequence[TestSet], *, trained_with: bool
) -> GroundedVerdict | None:
    """The verdict on the first of the preferred test sets that the tuned model read passages for.

    None where it never did. `trained_with`: it was trained with passages, so always reads them.
    """
    groups = by_set_and_system(predictions)
    labels = (f"tuned{WITH_RETRIEVAL}", *(["tuned"] if trained_with else []))
    pairings = ((test_set, label) for label in labels for test_set in preferred)
    name, tuned = next((each for each in pairings if each in groups), (None, ""))
    if name is None:
        return None
    mine = groups[name, tuned]
    pairs = [
        compare_predictions(theirs, mine)
        for (test_set, system), theirs in groups.items()
        if test_set == name and not is_trained(system)
    ]
    corrected = holm([pair.p_value for pair in pairs])
    best: Any = max(
        zip(pairs, corrected, strict=True), key=lambda each: each[0].right_a, default=(None, 1.0)
    )
    share = wilson_interval(sum(p.right for p in mine), len(mine))
    return GroundedVerdict(
        evidence_set=name,
        n=len(mine),
        right=share.estimate,
        low=share.low,
        high=share.high,
        rival=best[0].a if best[0] else "",
        comparison=best[0],
        p_holm=best[1],
        rivals=len(pairs),
    )
