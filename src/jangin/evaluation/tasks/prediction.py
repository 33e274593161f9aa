"""`Prediction`: one graded answer of one system, and the names of the test sets.

The test sets are never mixed, because they answer different questions:

* `seen_questions`: did the model memorise what it was trained on?
* `held_out_paraphrases`: does it answer the same questions in other words?
* `held_out_styles`: ... in a style of wording that it was never taught?
* `unseen_sections`: does it know facts that it was not taught? (Hardly ever.)
* `test`: questions of users, or rows of a table that were held out: does it generalise?
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import model_validator

from jangin.core.records import Record

TestSet = Literal[
    "test", "seen_questions", "held_out_paraphrases", "held_out_styles", "unseen_sections"
]
"""In the order in which tables show them: questions of users above everything else."""


class GradedRecord(Record):
    """A row of an evaluation; stores of older releases have columns that are not read any more."""

    @model_validator(mode="before")
    @classmethod
    def _without_content_match(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        return {name: row[name] for name in row if not name.startswith("content_match")}


class Prediction(GradedRecord):
    """One system's answer to one question, graded."""

    example_id: str
    family: str
    evidence_set: TestSet
    system: str
    question: str
    gold: str
    other_golds: tuple[str, ...]
    """Further answers that examples with the same prompt have; the best grade counts."""
    prediction: str
    finished: bool
    """False if `max_new_tokens` truncated it."""
    right: bool
    """By the task: the facts of a gold answer, the right label, a number in the green band."""
    score: float | None
    """In the task's metric, such as character F1; None for an unparsable number."""
    parsed: str
    """What was parsed from the answer; empty where it was unparsable."""
    unparsable: bool
    source: str
    page: int
    section: str
    reasoning: str = ""
    """What the model wrote before the answer; it is not graded."""
    reasoning_tokens: int = 0
    """Of the generated tokens; 0 for an endpoint, which does not report it."""
    reasoning_ended: bool = True
    """False if the answer ended within the reasoning; the prediction is then empty."""
    form: bool | None = None
    """Whether it has the form of a gold answer: equal to it, or containing it, as the task says;
    None where answers are labels or numbers."""
    reason: str = ""
    """Why the facts are right or wrong, such as `missing`; empty for labels and numbers."""
    detail: str = ""
    """The words that decided that."""
    unclear: bool = False
    """True for an answer in other words that the rules cannot judge; `right` is then False."""


def by_set_and_system(
    predictions: Iterable[Prediction],
) -> dict[tuple[TestSet, str], list[Prediction]]:
    """{(test set, system): its predictions}, in order of appearance."""
    groups: dict[tuple[TestSet, str], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.evidence_set, prediction.system), []).append(prediction)
    return groups
