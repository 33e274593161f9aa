"""Interface of a task: what kind of answer is asked for, how it is graded and reported."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from jangin.core.config import Config
from jangin.core.errors import DataError, all_counted, counted_of
from jangin.core.records import Example, Message, Record, SplitExample
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import default_metric
from jangin.text.normalize import collapse_spaces
from jangin.text.reasoning import without_reasoning

# `Prediction`: one graded answer of one system, and the names of the test sets.
#
# The test sets are never mixed, because they answer different questions:
#
# * `seen_questions`: did the model memorise what it was trained on?
# * `held_out_paraphrases`: does it answer the same questions in other words?
# * `held_out_styles`: ... in a style of wording that it was never taught?
# * `unseen_sections`: does it know facts that it was not taught? (Hardly ever.)
# * `test`: questions of users, or rows of a table that were held out: does it generalise?


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


SHOWN_ANSWERS = 5
"""Largest number of bad gold answers that an error lists."""
SHOWN_CHARACTERS = 40
"""Length at which an error truncates a question."""


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded answer."""

    right: bool
    score: float | None
    """In the task's metric; None for an unparsable number, which has no error."""
    parsed: str
    """The label or number that was parsed; the answer itself where it is free text."""
    unparsable: bool = False


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table of figures that only one task has."""

    kind: str
    """File name in the artifact, without `.parquet`."""
    record: type[Record]
    rows: Sequence[Record]


class TaskConfig(Config):
    """Settings of one task; a subclass narrows `type` to `Literal["name"]` and overrides.

    `evaluate`, `select` and the baselines know a task by these members alone.
    """

    gold: ClassVar[GoldKind] = "text"
    """What a gold answer is: decides the default metric and which baselines fit."""
    invalid_gold_remedy: ClassVar[str] = ""
    """What to do about a gold answer that `is_valid_gold` refuses: a sentence for the error."""

    type: str

    @property
    def metric(self) -> str:
        """Name of the metric in `Grade.score`; `metrics.scores.table` has its direction."""
        return default_metric(self.gold)

    @property
    def invalid_gold(self) -> str:
        """What is wrong with a gold answer that `is_valid_gold` refuses: "whose ..."."""
        return ""

    def is_valid_gold(self, _answer: str) -> bool:
        """Whether this can be the gold answer of an example."""
        return True

    @abstractmethod
    def grade(self, answer: str, golds: Sequence[str], row: str = "") -> Grade:
        """Grade one answer against its gold answers, of which labels and numbers use the first.

        Raises: DataError: the gold answer is not valid; `row` names the example.
        """

    def tables(self, _predictions: Sequence[Prediction], _seed: int) -> list[ResultTable]:
        """Further tables of the artifact, such as confusion matrices."""
        return []


def check_golds(task: TaskConfig, examples: Sequence[Example]) -> None:
    """Check the gold answers of all examples.

    Raises: DataError: some are invalid; one error counts them and lists the most frequent.
    """
    wrong = [e for e in examples if not task.is_valid_gold(without_reasoning(e.answer))]
    if not wrong:
        return
    counts = Counter(example.answer.strip() for example in wrong).most_common()
    first = {example.answer.strip(): example for example in reversed(wrong)}
    listed = [
        f"{gold[:60]!r} ({n} x, first {_origin(first[gold])})" for gold, n in counts[:SHOWN_ANSWERS]
    ]
    more = f" and {len(counts) - SHOWN_ANSWERS} more" if len(counts) > SHOWN_ANSWERS else ""
    raise DataError(
        f"evaluate: {counted_of(len(wrong), len(examples), 'question', 'has', 'have')} an answer "
        f"{task.invalid_gold}: {', '.join(listed)}{more}. {task.invalid_gold_remedy}"
    )


def _origin(example: Example) -> str:
    """Source and page of an example, where known, and the beginning of its question."""
    page = f"page {example.page}" if example.page else ""
    question = collapse_spaces(example.question)
    if len(question) > SHOWN_CHARACTERS:
        question = question[:SHOWN_CHARACTERS] + "…"
    return ", ".join(part for part in (example.source, page, repr(question)) if part)


def single_answer_warnings(examples: Iterable[Example]) -> list[str]:
    """A warning where two or more questions all have the same answer; empty otherwise."""
    answers = [example.answer.strip() for example in examples]
    if len(answers) < 2 or len(set(answers)) > 1:
        return []
    return [
        f"{all_counted(len(answers), 'answer is', 'answers are')} {answers[0][:60]!r}: no system "
        "can be better than another, and one that always gives this answer is always right."
    ]


def golds_of_same_prompt(splits: Sequence[SplitExample]) -> dict[str, tuple[str, ...]]:
    """{example id: answers of other examples with the very same prompt}."""
    answers: dict[tuple[Message, ...], list[str]] = {}
    for row in splits:
        known = answers.setdefault(row.example.prompt, [])
        known += [row.example.answer, *row.example.answers]
    return {
        row.example.id: tuple(
            dict.fromkeys(a for a in answers[row.example.prompt] if a != row.example.answer)
        )
        for row in splits
    }
