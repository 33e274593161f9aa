"""Interface of a task: what kind of answer is asked for, how it is graded and reported."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jangin.core.config import Config
from jangin.core.errors import DataError, all_counted, counted_of
from jangin.core.records import Example, Message, Record, SplitExample
from jangin.evaluation.tasks.prediction import Prediction
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import default_metric
from jangin.text.normalize import collapse_spaces
from jangin.text.reasoning import without_reasoning

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
        f"{all_counted(len(answers), 'answer is', 'answers are')} {answers[0][:60]!r}: no "
        "system can be better than "
        "another, and one that always gives this answer is always right."
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
