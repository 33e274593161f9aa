"""Graders that ask a model of the server: for a score within a range, or for a label."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jangin.core.errors import PortableError
from jangin.metrics.graders.templates import Values, fill
from jangin.metrics.graders.types import GraderMessage, LabelModel, SamplingParams, ScoreModel

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
    sampling: SamplingParams,
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


def _sampling(params: SamplingParams) -> dict[str, Any]:
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
