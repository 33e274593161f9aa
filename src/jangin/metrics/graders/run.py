"""Runs a grader on a model's answer and a row of a data set."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jangin.metrics.graders.formula import Formula, FormulaError
from jangin.metrics.graders.model_graders import (
    Completions,
    ModelGrade,
    ModelGraderError,
    grade_label,
    grade_score,
)
from jangin.metrics.graders.python_process import PythonGraderError, PythonLimits, run_python
from jangin.metrics.graders.templates import TemplateError, Values, fill
from jangin.metrics.graders.types import (
    AnyGrader,
    LabelModel,
    MultiGrader,
    PythonGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)
from jangin.metrics.scores.similarity import SIMILARITIES
from jangin.text.normalize import fold_case, nfc

NO_ERRORS: dict[str, Any] = {
    "formula_parse_error": False,
    "sample_parse_error": False,
    "truncated_observation_error": False,
    "unresponsive_reward_error": False,
    "invalid_variable_error": False,
    "other_error": False,
    "python_grader_server_error": False,
    "python_grader_server_error_type": None,
    "python_grader_runtime_error": False,
    "python_grader_runtime_error_details": None,
    "model_grader_server_error": False,
    "model_grader_refusal_error": False,
    "model_grader_parse_error": False,
    "model_grader_server_error_details": None,
}
"""The errors of a result; all that the API knows are always present."""


@dataclass(frozen=True, slots=True)
class GraderTools:
    """What graders may use beside the texts."""

    complete: Completions
    python: PythonLimits | None = None
    """None: graders of type `python` are not run on this server."""


@dataclass(slots=True)
class GraderResult:
    """The reward of a grader and how it came about."""

    reward: float = 0.0
    errors: dict[str, Any] = field(default_factory=lambda: dict(NO_ERRORS))
    scores: dict[str, float] = field(default_factory=dict)
    """Rewards of the graders of a multi grader."""
    sampled_model: str | None = None
    tokens: int | None = None
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{model: token counts of its replies}."""
    seconds: float = 0.0

    def reply(self, grader: AnyGrader) -> dict[str, Any]:
        """The body of the API's reply."""
        return {
            "reward": self.reward,
            "metadata": {
                "name": grader.name,
                "type": grader.type,
                "errors": self.errors,
                "execution_time": round(self.seconds, 6),
                "scores": self.scores,
                "token_usage": self.tokens,
                "sampled_model_name": self.sampled_model,
            },
            "sub_rewards": dict(self.scores),
            "model_grader_token_usage_per_model": self.usage,
        }

    def add_usage(self, other: "GraderResult") -> None:
        """Add the tokens and the errors of another grader's result."""
        for model, counts in other.usage.items():
            mine = self.usage.setdefault(model, {})
            for name, count in counts.items():
                if isinstance(count, int):
                    mine[name] = mine.get(name, 0) + count
        if other.tokens is not None:
            self.tokens = (self.tokens or 0) + other.tokens
        self.sampled_model = self.sampled_model or other.sampled_model
        self.errors |= {name: value for name, value in other.errors.items() if value}


def run_grader(
    grader: AnyGrader, item: Mapping[str, Any], output_text: str, tools: GraderTools
) -> GraderResult:
    """Run a grader on an answer; what goes wrong is in `errors`, and the reward is then 0.

    In a multi grader, a grader that failed counts as 0 in the formula.
    """
    start = time.perf_counter()
    values = Values(item, output_text)
    result = (
        _multi(grader, values, tools)
        if isinstance(grader, MultiGrader)
        else _single(grader, values, tools)
    )
    result.seconds = time.perf_counter() - start
    return result


def _multi(grader: MultiGrader, values: Values, tools: GraderTools) -> GraderResult:
    result = GraderResult()
    for name, part in grader.graders.items():
        outcome = _single(part, values, tools)
        result.scores[name] = outcome.reward
        result.add_usage(outcome)
    try:
        result.reward = Formula.parse(grader.calculate_output, grader.graders).value(result.scores)
    except FormulaError:
        result.errors["other_error"] = True
    return result


def _single(grader: AnyGrader, values: Values, tools: GraderTools) -> GraderResult:
    result = GraderResult()
    try:
        if isinstance(grader, ScoreModel | LabelModel):
            _note_model(result, _model_grade(grader, values, tools))
        else:
            result.reward = _plain_reward(grader, values, tools)
    except TemplateError as error:
        result.errors[error.key] = True
    except ModelGraderError as error:
        result.errors[error.key] = True
        if error.key == "model_grader_server_error":
            result.errors["model_grader_server_error_details"] = str(error)
    except PythonGraderError as error:
        _note_python(result, error)
    return result


def _plain_reward(grader: AnyGrader, values: Values, tools: GraderTools) -> float:
    if isinstance(grader, StringCheck):
        return _check_string(grader, values)
    if isinstance(grader, TextSimilarity):
        similarity = SIMILARITIES[grader.evaluation_metric]
        return similarity(fill(grader.input, values), fill(grader.reference, values))
    if isinstance(grader, PythonGrader):
        if tools.python is None:
            raise PythonGraderError("Python graders are off on this server.", "disabled")
        return run_python(grader.source, values.sample, values.item, tools.python)
    raise TypeError(f"{grader.type} is no grader of one text")


def _check_string(grader: StringCheck, values: Values) -> float:
    text, reference = nfc(fill(grader.input, values)), nfc(fill(grader.reference, values))
    match grader.operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
        case "ilike":
            return float(fold_case(reference) in fold_case(text))


def _model_grade(grader: ScoreModel | LabelModel, values: Values, tools: GraderTools) -> ModelGrade:
    if isinstance(grader, ScoreModel):
        return grade_score(grader, values, tools.complete)
    return grade_label(grader, values, tools.complete)


def _note_model(result: GraderResult, grade: ModelGrade) -> None:
    result.reward = grade.reward
    result.sampled_model = grade.model
    result.tokens = grade.tokens
    result.usage[grade.model] = grade.usage


def _note_python(result: GraderResult, error: PythonGraderError) -> None:
    if error.kind:
        result.errors["python_grader_server_error"] = True
        result.errors["python_grader_server_error_type"] = error.kind
    else:
        result.errors["python_grader_runtime_error"] = True
        result.errors["python_grader_runtime_error_details"] = str(error)
