"""What kind of answer is asked for, and how one answer is graded: free text, a label, a number."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Config
from jangin.core.errors import DataError
from jangin.core.records import Example, Message, SplitExample
from jangin.metrics.classification import read_label
from jangin.metrics.regression import Bands
from jangin.metrics.scores.closeness import LabelPosition
from jangin.metrics.scores.table import default_metric, find_metric, metric_names
from jangin.metrics.text import contains, exact_match
from jangin.text.normalize import collapse_spaces
from jangin.text.numbers import read_number

SHOWN = 5
"""At most so many bad answers are named one by one."""
SHOWN_CHARACTERS = 40
"""Of a question, where a row is named."""

if TYPE_CHECKING:
    AnswerMeasure = str
else:
    AnswerMeasure = Literal[metric_names("text")]


class AnswersTask(Config):
    """Free answers, graded against one or more gold answers; the best grade counts."""

    type: Literal["answers"] = "answers"
    right: Literal["exact_match", "contains"] = "exact_match"
    """When an answer is right: equal to a gold answer as KorQuAD compares them, or holding it."""
    measure: AnswerMeasure = "character_f1"
    """How near an answer comes, 0 to 1."""


class LabelsTask(Config):
    """One label out of a set, such as a star rating."""

    type: Literal["labels"]
    labels: tuple[str, ...] = Field(min_length=2)
    """All labels, in their order where they have one."""
    ordered: bool = False
    """True where a near miss is better than a wide one."""
    good_from: str = ""
    """Labels from this one on are good, the others bad; empty for no such line."""

    @model_validator(mode="after")
    def _line_is_a_label(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("each label stands once")
        if self.good_from and self.good_from not in self.labels:
            raise ValueError(f"good_from {self.good_from!r} is none of the labels")
        return self


class NumbersTask(Config):
    """A number, such as a price. Right is a guess in the green band."""

    type: Literal["numbers"]
    green: float = Field(default=40.0, ge=0)
    """Green below this absolute error, in the units of the truth ..."""
    green_share: float = Field(default=0.2, ge=0)
    """... or below this share of the truth."""
    orange: float = Field(default=80.0, ge=0)
    """Orange below this absolute error ..."""
    orange_share: float = Field(default=0.4, ge=0)
    """... or below this share of the truth; red otherwise."""

    @property
    def bands(self) -> Bands:
        """The four limits."""
        return Bands(self.green, self.green_share, self.orange, self.orange_share)


Task = Annotated[AnswersTask | LabelsTask | NumbersTask, Field(discriminator="type")]
AnyTask = AnswersTask | LabelsTask | NumbersTask


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded answer."""

    right: bool
    score: float | None
    """In the task's measure; None for an unparsable number, which has no error."""
    parsed: str
    """The label or number that was read; the answer itself where it is free text."""
    unparsable: bool = False


def measure_of(task: AnyTask) -> str:
    """Name of the metric in `Grade.score`; the table of metrics has its direction and range."""
    if isinstance(task, AnswersTask):
        return task.measure
    return default_metric("label" if isinstance(task, LabelsTask) else "number")


def grade(task: AnyTask, answer: str, golds: Sequence[str], row: str = "") -> Grade:
    """Grade one answer against its gold answers, of which labels and numbers use the first.

    Closeness of labels is 1 for the right one; where they have an order it falls evenly to 0 for
    the farthest one. `row` names the row in the `DataError` for a gold answer that is no label
    or no number.
    """
    if isinstance(task, AnswersTask):
        return _grade_text(task, answer, golds)
    if isinstance(task, LabelsTask):
        return _grade_label(task, answer, golds[0], row)
    return _grade_number(task, answer, golds[0], row)


def check_golds(task: AnyTask, evidence: Iterable[Sequence[Example]]) -> None:
    """Raise one `DataError` about all examples whose answer is no label or no number."""
    if isinstance(task, AnswersTask):
        return
    examples = [example for examples in evidence for example in examples]
    if isinstance(task, LabelsTask):
        wrong = [e for e in examples if e.answer.strip() not in task.labels]
        fault = f"whose label is outside the set ({', '.join(task.labels)})"
        remedy = "Add it to `labels` of the task, or drop the rows."
    else:
        wrong = [e for e in examples if read_number(e.answer) is None]
        fault = "whose answer is not a number"
        remedy = "Drop the rows, or choose another task under evaluate."
    if not wrong:
        return
    counts = Counter(example.answer.strip() for example in wrong).most_common()
    first = {example.answer.strip(): example for example in reversed(wrong)}
    named = [f"{gold[:60]!r} ({n} x, first {_place(first[gold])})" for gold, n in counts[:SHOWN]]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    raise DataError(
        f"evaluate asks {len(wrong)} of {len(examples)} questions {fault}: {', '.join(named)}"
        f"{more}. {remedy}"
    )


def _place(example: Example) -> str:
    """Where an example comes from, as far as it knows, and how its question begins."""
    page = f"page {example.page}" if example.page else ""
    begins = collapse_spaces(example.question)
    asked = repr(begins if len(begins) <= SHOWN_CHARACTERS else begins[:SHOWN_CHARACTERS] + "…")
    return ", ".join(part for part in (example.source, page, asked) if part)


def one_answer_only(evidence: Iterable[Sequence[Example]]) -> list[str]:
    """A warning where two or more questions all have one answer; empty where they differ."""
    answers = [example.answer.strip() for examples in evidence for example in examples]
    if len(answers) < 2 or len(set(answers)) > 1:
        return []
    return [
        f"all {len(answers):,} answers are {answers[0][:60]!r}: nothing can be told apart, and a "
        "model that always says this is right everywhere."
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


def gold_number(gold: str, row: str) -> float:
    """The truth of a row; raises `DataError` naming it where that is not a number."""
    truth = read_number(gold)
    if truth is None:
        raise DataError(
            f"row {row}: the answer {gold[:60]!r} is not a number. Drop the row, or choose another "
            "task under evaluate."
        )
    return truth


def _grade_text(task: AnswersTask, answer: str, golds: Sequence[str]) -> Grade:
    matches = contains if task.right == "contains" else exact_match
    metric = find_metric(task.measure)
    score = metric.best(metric.score(answer, gold) for gold in golds)
    return Grade(any(matches(answer, gold) for gold in golds), score, answer)


def _grade_label(task: LabelsTask, answer: str, gold: str, row: str) -> Grade:
    gold = gold.strip()  # older completion models want answers to begin with a blank
    if gold not in task.labels:
        raise DataError(
            f"row {row}: label {gold[:60]!r} is outside the set ({', '.join(task.labels)}). "
            "Add it to `labels` of the task, or drop the row."
        )
    label = read_label(answer, task.labels)
    if label is None:
        return Grade(right=False, score=0.0, parsed="", unparsable=True)
    given, true = (
        LabelPosition(task.labels.index(name), len(task.labels) - 1, task.ordered)
        for name in (label, gold)
    )
    return Grade(label == gold, find_metric(measure_of(task)).score(given, true), label)


def _grade_number(task: NumbersTask, answer: str, gold: str, row: str) -> Grade:
    truth, guess = gold_number(gold, row), read_number(answer)
    if guess is None:
        return Grade(right=False, score=None, parsed="", unparsable=True)
    right = task.bands.band(guess, truth) == "green"
    return Grade(right, find_metric(measure_of(task)).score(guess, truth), f"{guess:g}")
