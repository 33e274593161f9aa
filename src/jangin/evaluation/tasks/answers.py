"""Task `answers`: free text, graded against one or more gold answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from jangin.evaluation.tasks.task import Grade, TaskConfig
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import find_metric, metric_names
from jangin.metrics.text import contains, exact_match

if TYPE_CHECKING:
    AnswerMeasure = str
else:
    AnswerMeasure = Literal[metric_names("text")]


class AnswersTask(TaskConfig):
    """Free answers, graded against one or more gold answers; the best grade counts."""

    gold: ClassVar[GoldKind] = "text"

    type: Literal["answers"] = "answers"
    right: Literal["exact_match", "contains"] = "exact_match"
    """When an answer is right: `exact_match`, equal to a gold answer after KorQuAD's
    normalisation; `contains`, a gold answer occurs in it."""
    measure: AnswerMeasure = "character_f1"
    """Metric for partial credit, 0 to 1."""

    @property
    def metric(self) -> str:
        """The metric in the settings."""
        return self.measure

    def grade(self, answer: str, golds: Sequence[str], _row: str = "") -> Grade:
        """The best grade over all gold answers."""
        matches = contains if self.right == "contains" else exact_match
        metric = find_metric(self.measure)
        score = metric.best(metric.score(answer, gold) for gold in golds)
        return Grade(any(matches(answer, gold) for gold in golds), score, answer)
