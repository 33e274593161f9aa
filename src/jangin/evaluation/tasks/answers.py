"""Task `answers`: free text, graded against one or more gold answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime
from jangin.evaluation.tasks.task import Grade, TaskConfig
from jangin.metrics.scores.graded import graded_name
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import find_metric, metric_names
from jangin.metrics.text import contains, exact_match

if TYPE_CHECKING:
    AnswerMeasure = str
else:
    AnswerMeasure = Literal[metric_names("text")]


class GraderFile(Config):
    """A grader of OpenAI's fine-tuning API as the measure."""

    grader: Runtime[Path]
    """JSON file with the grader as the API takes it, relative to the project file. Templates can
    name `{{item.question}}`, `answer` (the gold answer), `answers`, `source`, `page` and `section`,
    and `{{sample.output_text}}`. Its bytes are identity, its path is not."""
    model: str = ""
    """Name under `teachers` of the model that `score_model` and `label_model` ask; the
    model that the grader itself names is not used."""
    python: bool = False
    """Run graders of type `python`: code of the file, on this machine, without a sandbox."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of requests to the model in flight at once."""


class AnswersTask(TaskConfig):
    """Free answers, graded against one or more gold answers; the best grade counts."""

    gold: ClassVar[GoldKind] = "text"

    type: Literal["answers"] = "answers"
    right: Literal["exact_match", "contains"] = "exact_match"
    """When an answer has the form as taught, the column beside its facts: `exact_match`, equal to a
    gold answer after KorQuAD's normalisation; `contains`, a gold answer occurs in it."""
    measure: AnswerMeasure | GraderFile = "character_f1"
    """Metric for partial credit, 0 to 1, or a grader of your own."""

    @property
    def metric(self) -> str:
        """The metric in the settings; of a grader, whose file has its name, any."""
        if isinstance(self.measure, GraderFile):
            return graded_name("", is_share=True)
        return self.measure

    def grade(self, answer: str, golds: Sequence[str], _row: str = "") -> Grade:
        """The best form over all gold answers; without a score where the measure is a grader.

        Its facts are graded by `grade_prediction`, which knows the question and the evidence.
        """
        matches = contains if self.right == "contains" else exact_match
        right = any(matches(answer, gold) for gold in golds)
        if isinstance(self.measure, GraderFile):
            return Grade(right, None, answer)
        metric = find_metric(self.measure)
        return Grade(right, metric.best(metric.score(answer, gold) for gold in golds), answer)
