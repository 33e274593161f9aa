"""A grader of OpenAI's API as the measure of an evaluation: the rewards of all answers.

Graders that ask a model are run twice: once to collect their requests, which are then asked
together through the reply cache, and once with the replies.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.digest import canonical_json
from jangin.core.errors import ChatError, DataError, SettingsError, counted_of
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.core.stage import StageContext
from jangin.evaluation.tasks.answers import AnswersTask, GraderFile
from jangin.evaluation.tasks.task import Prediction, TaskConfig
from jangin.llm.ask import ask_all
from jangin.metrics.graders.run import GraderResult, GraderTools, PythonLimits, run_grader
from jangin.metrics.graders.types import (
    AnyGrader,
    InvalidGraderError,
    LabelModel,
    MultiGrader,
    PythonGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    item_fields,
    parse_grader,
)
from jangin.metrics.scores.graded import graded_name

ITEM_FIELDS = ("question", "answer", "answers", "source", "page", "section")
"""What `{{item.NAME}}` can name."""
MAX_TOKENS = 512
"""Longest reply of a model that grades, unless `max_completions_tokens` says otherwise."""
_WITHOUT_REWARD = (
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "other_error",
)
"""Errors after which there is no score; an answer that is not the JSON it should be gets 0."""


def grader_of(task: TaskConfig) -> GraderFile | None:
    """The settings of the grader of a task; None where its measure is another metric."""
    if isinstance(task, AnswersTask) and isinstance(task.measure, GraderFile):
        return task.measure
    return None


def read_grader(settings: GraderFile, project_folder: Path) -> AnyGrader:
    """The grader of a file, checked.

    Raises:
        DataError: the file cannot be read, or holds no grader that can be run.
        SettingsError: it needs a model or Python, which the settings do not give.

    """
    path = project_folder / settings.grader
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        grader = parse_grader(data)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: {why}. Name a JSON file with a grader.") from error
    except InvalidGraderError as error:
        raise DataError(f"{path}: {error}") from error
    parts = _parts(grader)
    texts = grader.model_dump_json(exclude={"graders": {"__all__": {"source"}}, "source": True})
    if unknown := sorted(item_fields(texts) - {*ITEM_FIELDS}):
        raise DataError(
            f"{path}: {{{{item.{unknown[0]}}}}} does not exist. Rows of an evaluation have: "
            f"{', '.join(ITEM_FIELDS)}."
        )
    if not settings.model and any(isinstance(part, ScoreModel | LabelModel) for part in parts):
        raise SettingsError(
            f"evaluate.task.measure: {path.name} asks a model. Set `model` to a name under "
            "`teachers`."
        )
    if not settings.python and any(isinstance(part, PythonGrader) for part in parts):
        raise SettingsError(
            f"evaluate.task.measure: {path.name} holds Python code, which would run on this "
            "machine. Set `python: true` if you trust it."
        )
    return grader


def calls_of(settings: GraderFile, project_folder: Path) -> int:
    """Requests to a model for each answer."""
    grader = read_grader(settings, project_folder)
    return sum(isinstance(part, ScoreModel | LabelModel) for part in _parts(grader))


def with_rewards(
    context: StageContext[Any], settings: GraderFile, predictions: Sequence[Prediction]
) -> tuple[str, list[Prediction]]:
    """(name of the metric, the predictions with rewards as scores).

    With several gold answers the best reward counts. An answer whose grader fails has no score.

    Raises: as `read_grader`, and as `ask_all` where the model cannot be asked at all.
    """
    grader = read_grader(settings, context.services.project_folder)
    name = graded_name(grader.name, is_share=_is_share(grader))
    replies = _Replies()
    if settings.model:
        _ask(context, settings, grader, predictions, replies)
    tools = GraderTools(replies.complete, PythonLimits() if settings.python else None)
    graded, failed = [], list[str]()
    for prediction in context.track(predictions, f"grade with {grader.name}", len(predictions)):
        results = [_graded(grader, item, prediction, tools) for item in _items(grader, prediction)]
        rewards = [result.reward for result in results if not _failures(result)]
        failed += [_failures(result) for result in results if _failures(result)][: not rewards]
        graded.append(prediction.model_copy(update={"score": max(rewards) if rewards else None}))
    if failed:
        context.services.progress.message(
            f"evaluate: {counted_of(len(failed), len(predictions), 'answer', 'has', 'have')} no "
            f"reward of {grader.name}, such as: {failed[0]}"
        )
    return name, graded


def _parts(grader: AnyGrader) -> list[AnyGrader]:
    return [*grader.graders.values()] if isinstance(grader, MultiGrader) else [grader]


def _is_share(grader: AnyGrader) -> bool:
    """Whether every reward is known to be between 0 and 1."""
    if isinstance(grader, ScoreModel):
        return grader.range[0] >= 0 and grader.range[1] <= 1
    return isinstance(grader, StringCheck | TextSimilarity | LabelModel)


def _items(grader: AnyGrader, prediction: Prediction) -> list[dict[str, Any]]:
    """The row for each gold answer; one where the grader does not read `item.answer`."""
    answers = [prediction.gold, *prediction.other_golds]
    python = any(isinstance(part, PythonGrader) for part in _parts(grader))
    of_each = python or "answer" in item_fields(grader.model_dump_json())
    return [
        {
            "question": prediction.question,
            "answer": answer,
            "answers": answers,
            "source": prediction.source,
            "page": prediction.page,
            "section": prediction.section,
        }
        for answer in (answers if of_each else answers[:1])
    ]


def _graded(
    grader: AnyGrader, item: Mapping[str, Any], prediction: Prediction, tools: GraderTools
) -> GraderResult:
    return run_grader(grader, item, prediction.prediction, tools)


def _failures(result: GraderResult) -> str:
    """What went wrong with a grader; empty where it gave a reward."""
    errors = [name for name in _WITHOUT_REWARD if result.errors[name]]
    details = (
        result.errors["model_grader_server_error_details"],
        str(result.errors["python_grader_runtime_error_details"] or "").strip(),
    )
    lines = next(filter(None, details), "").splitlines()
    return ": ".join([*errors[:1], *lines[-1:]])


@dataclass(slots=True)
class _Replies:
    """Requests of graders, and the replies once they are there."""

    requests: dict[str, ChatRequest] = field(default_factory=dict)
    """{digest: request}."""
    replies: dict[str, ChatReply | ChatError] = field(default_factory=dict)
    model: str = ""

    def complete(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """The reply to a body of `/v1/chat/completions`; 503 where there is none yet."""
        request = _request(self.model, body)
        reply = self.replies.get(request.digest)
        if isinstance(reply, ChatReply):
            message = {"role": "assistant", "content": reply.content}
            return 200, {"model": self.model, "choices": [{"message": message}], "usage": {}}
        self.requests[request.digest] = request
        return 503, {"error": {"message": str(reply or "not asked yet")}}


def _request(model: str, body: Mapping[str, Any]) -> ChatRequest:
    schema = body["response_format"]["json_schema"]["schema"]
    return ChatRequest(
        model=model,
        messages=tuple(
            Message(
                role="system" if turn["role"] == "developer" else turn["role"],
                content=turn["content"],
            )
            for turn in body["messages"]
        ),
        temperature=body["temperature"],
        max_tokens=body.get("max_completion_tokens") or MAX_TOKENS,
        json_schema=canonical_json(schema),
    )


def _ask(
    context: StageContext[Any],
    settings: GraderFile,
    grader: AnyGrader,
    predictions: Sequence[Prediction],
    replies: _Replies,
) -> None:
    """Ask the model everything that the grader asks of these answers."""
    chat = context.services.chat(settings.model)
    replies.model = chat.model
    collecting = GraderTools(replies.complete)
    for prediction in predictions:
        for item in _items(grader, prediction):
            _graded(grader, item, prediction, collecting)
    requests = list(replies.requests.values())
    progress = context.services.progress
    bar = progress.start(f"ask {settings.model} for grades", len(requests))

    def take(index: int, reply: ChatReply | ChatError) -> None:
        replies.replies[requests[index].digest] = reply
        progress.advance(bar)

    ask_all(chat, requests, settings.concurrency, take, progress.message)
    progress.stop(bar)
