"""Runs a grader on a model's answer and a row of a data set."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jangin.core.errors import PortableError
from jangin.metrics.graders.types import (
    AnyGrader,
    Formula,
    FormulaError,
    GraderMessage,
    GraderSampling,
    LabelModel,
    MultiGrader,
    PythonGrader,
    ScoreModel,
    StringCheck,
    TemplateError,
    TextSimilarity,
    Values,
    fill,
)
from jangin.metrics.scores.similarity import SIMILARITIES
from jangin.text.normalize import fold_case, nfc

# Graders that ask a model of the server: for a score within a range, or for a label.


_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*")
Body = Mapping[str, Any]


class Completions(Protocol):
    """The server's own `POST /v1/chat/completions`, as the caller of the grader may use it."""

    def __call__(self, body: Body) -> tuple[int, Body]:
        """(HTTP status, body of the reply)."""


class ModelGraderError(PortableError):
    """A model gave no usable grade; `key` is the error of the grader's result that this is."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class ModelGrade:
    """A reward that a model decided, and what that took."""

    reward: float
    model: str
    tokens: int
    usage: dict[str, Any]


def grade_score(grader: ScoreModel, values: Values, complete: Completions) -> ModelGrade:
    """The score that the model gives.

    Raises:
        ModelGraderError: It gave none within the range.
        TemplateError: A variable of its messages does not exist.

    """
    low, high = grader.range
    field = {"type": "number", "minimum": low, "maximum": high}
    task = f"Reply with the score as a number from {low:g} to {high:g} in the field `result`."
    value, reply = _ask(grader, grader.sampling_params, field, task, values, complete)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelGraderError(f"The score {value!r} is not a number.", "model_grader_parse_error")
    if not low <= value <= high:
        raise ModelGraderError(
            f"The score {value:g} is not between {low:g} and {high:g}.", "model_grader_parse_error"
        )
    return _grade(float(value), reply)


def grade_label(grader: LabelModel, values: Values, complete: Completions) -> ModelGrade:
    """1 if the label that the model chooses is a passing one, else 0; raises like `grade_score`."""
    names = ", ".join(json.dumps(label, ensure_ascii=False) for label in grader.labels)
    field = {"type": "string", "enum": grader.labels}
    task = f"Reply with one of the labels {names} in the field `result`."
    value, reply = _ask(grader, grader.sampling_params, field, task, values, complete)
    if value not in grader.labels:
        raise ModelGraderError(f"{value!r} is not a label.", "model_grader_parse_error")
    return _grade(float(value in grader.passing_labels), reply)


def _ask(
    grader: ScoreModel | LabelModel,
    sampling: GraderSampling,
    field: Body,
    task: str,
    values: Values,
    complete: Completions,
) -> tuple[Any, Body]:
    """The field `result` of the model's reply, and the whole reply."""
    schema = {
        "type": "object",
        "properties": {"result": field},
        "required": ["result"],
        "additionalProperties": False,
    }
    body = {
        "model": grader.model,
        "messages": [*_messages(grader.input, values), {"role": "user", "content": task}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "strict": True, "schema": schema},
        },
        **_sampling(sampling),
    }
    status, reply = complete(body)
    if status != 200:
        message = (reply.get("error") or {}).get("message") or f"status {status}"
        raise ModelGraderError(str(message), "model_grader_server_error")
    message = reply["choices"][0]["message"]
    if message.get("refusal"):
        raise ModelGraderError(str(message["refusal"]), "model_grader_refusal_error")
    return _result(message.get("content") or ""), reply


def _messages(messages: list[GraderMessage], values: Values) -> list[dict[str, str]]:
    return [{"role": m.role, "content": fill(m.template, values)} for m in messages]


def _sampling(params: GraderSampling) -> dict[str, Any]:
    wanted = params.model_dump(exclude_none=True)
    if "max_completions_tokens" in wanted:
        wanted["max_completion_tokens"] = wanted.pop("max_completions_tokens")
    return {"temperature": 0, **wanted}


def _result(content: str) -> Any:
    """The field `result`; a bare number counts, because models without a JSON mode reply so."""
    if _NUMBER.fullmatch(content):
        return float(content)
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or "result" not in reply:
        raise ModelGraderError(
            f"The reply is not a JSON object with `result`: {content[:200]}",
            "model_grader_parse_error",
        )
    return reply["result"]


def _grade(reward: float, reply: Body) -> ModelGrade:
    usage = dict(reply.get("usage") or {})
    return ModelGrade(reward, str(reply.get("model", "")), int(usage.get("total_tokens", 0)), usage)


# Runs `grade(sample, item)` of a Python grader in a process of its own, with limits.
#
# The limits stop mistakes: endless loops, filled memory and disks. They are no sandbox: the code
# can read what the server's user can read. So it runs only where the server's settings say so.


SECONDS = 120.0
MEMORY_BYTES = 2 * 1024**3
"""OpenAI's limits: two minutes and 2 GB."""
_RUNNER = Path(__file__).with_name("python_runner.py")


class PythonGraderError(PortableError):
    """A Python grader gave no reward.

    `kind` is empty for an error in its own code, else what its process did: `timeout`, `killed`.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class PythonLimits:
    """What a Python grader may use."""

    seconds: float = SECONDS
    memory_bytes: int = MEMORY_BYTES


def run_python(
    source: str, sample: Mapping[str, Any], item: Mapping[str, Any], limits: PythonLimits
) -> float:
    """The reward that `grade(sample, item)` of the source returns.

    Raises:
        PythonGraderError: It raised, returned no number, or exceeded a limit.

    """
    request = json.dumps({"source": source, "sample": sample, "item": item}).encode()
    command = [sys.executable, "-I", str(_RUNNER)]
    words = [*command, str(math.ceil(limits.seconds)), str(limits.memory_bytes)]
    with tempfile.TemporaryDirectory(prefix="jangin-grader-") as folder:
        process = subprocess.Popen(  # noqa: S603 - an interpreter of ours; its code is the point
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(request, timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            text = f"The grader took longer than {limits.seconds:g} seconds."
            raise PythonGraderError(text, "timeout") from None
        finally:
            _kill_group(process)
    return _reward(output, process.returncode)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End the process and those that it started; they share its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _reward(output: bytes, code: int) -> float:
    try:
        result = json.loads(output)
    except ValueError:
        raise PythonGraderError(f"The grader's process ended with {code}.", "killed") from None
    if not isinstance(result, dict) or "error" in result:
        raise PythonGraderError(str(result.get("error") if isinstance(result, dict) else result))
    reward = result["reward"]
    if not isinstance(reward, int | float) or not math.isfinite(reward):
        raise PythonGraderError(f"The grader returned {reward}, which is not a finite number.")
    return float(reward)


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
