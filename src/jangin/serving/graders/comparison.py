"""`/v1/x/compare`: two models on the same questions of a file, with the statistics of `evaluate`.

Both answer greedily. A row's last message is the gold answer; the messages before it are asked.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.errors import counted
from jangin.core.records import Example, Message
from jangin.evaluation.results import (
    DEFAULT_MEASURE,
    SIGNIFICANT,
    Comparison,
    Result,
    compare_predictions,
    grade_prediction,
    summarise,
)
from jangin.evaluation.tasks.prediction import Prediction
from jangin.metrics.contamination import find_leaks
from jangin.metrics.graders.run import GraderTools, run_grader
from jangin.metrics.graders.types import AnyGrader
from jangin.serving.files.check_process import check_rows
from jangin.serving.files.store import find_file
from jangin.serving.graders.routes import parse_for, tools_for
from jangin.serving.jobs.rows import chat_of, read_rows
from jangin.serving.models.bases import TUNED, base_part, entry_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.protocol.objects import RequestBody
from jangin.serving.security.access import CallerDep, Needs, visible
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Job, StoredModel

router = APIRouter(prefix="/x")

MOST_QUESTIONS = 1_000
AT_ONCE = 8
"""Questions that are answered at once."""
SHOWN = 20
"""Rows of the reply's `examples`, those first that only one model has right."""
_ANCESTORS = 20


class CompareModels(RequestBody):
    """Body of `POST /x/compare`."""

    file: str
    """Id of a file of rows as for fine-tuning: chats, prompts with completions, or pairs."""
    models: list[str] = Field(min_length=2, max_length=2)
    limit: int = Field(default=200, ge=1, le=MOST_QUESTIONS)
    """Most questions that are asked; drawn by the seed."""
    max_tokens: int = Field(default=64, ge=1, le=1024)
    """Longest answer."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    grader: dict[str, Any] | None = None
    """A grader whose reward is the score; `item` has `question` and `answer`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A row of the file."""

    prompt: tuple[dict[str, str], ...]
    gold: str
    text: str
    """The last message of the prompt."""


@router.post("/compare", dependencies=[Depends(Needs("files"))])
async def compare_models(
    body: CompareModels, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """Which of two models answers a file's questions better, and whether that may be chance."""
    if body.models[0] == body.models[1]:
        raise ApiError(400, "Name two models, not one twice.", param="models", code="invalid_value")
    grader = None if body.grader is None else parse_for(body.grader, server)
    total, questions, known = await asyncio.to_thread(_prepared, body, server, caller)
    answers = [await _answers(body, server, caller, model, questions) for model in body.models]
    return await asyncio.to_thread(
        _compared, body, server, caller, total, questions, known, answers, grader
    )


def _prepared(
    body: CompareModels, server: Server, caller: Caller
) -> tuple[int, list[Question], list[dict[str, int] | None]]:
    """(rows of the file, rows to ask, {model: number of those that it was trained on}).

    Raises:
        ApiError: 404 for the file or a model, 400 for a file that cannot be used.

    """
    with server.database.read() as session:
        row = find_file(session, caller, body.file, server.now())
        for name in body.models:
            server.models.resolve(name, caller)
        trained = [_training_files(session, caller, name) for name in body.models]
    questions = _questions(server, row.id)
    total = len(questions)
    if total > body.limit:
        questions = random.Random(body.seed).sample(questions, body.limit)
    return total, questions, [_overlap(server, files, questions) for files in trained]


def _questions(server: Server, file_id: str) -> list[Question]:
    with server.storage.local_path(file_id) as path:
        check = check_rows(path, 1)
    if check.errors:
        raise ApiError(400, check.errors[0]["message"], param="file", code="invalid_file")
    questions = []
    with server.storage.reader(file_id) as source:
        for row in read_rows(source):
            turns = [{k: t[k] for k in ("role", "content")} for t in chat_of(row)]
            if len(turns) > 1 and turns[-1]["role"] == "assistant" and turns[-1]["content"].strip():
                prompt = turns[:-1]
                questions.append(
                    Question(tuple(prompt), turns[-1]["content"], prompt[-1]["content"])
                )
    if not questions:
        raise ApiError(
            400, "No row of this file has a question and an answer.", param="file",
            code="invalid_file",
        )  # fmt: skip
    return questions


def _training_files(session: Session, caller: Caller, name: str) -> list[str] | None:
    """Files that a model and those before it were trained on; None where that is not known."""
    files: list[str] = []
    for _ in range(_ANCESTORS):
        if not name.startswith(TUNED):
            return files
        stored = session.scalars(select(StoredModel).where(StoredModel.name == name)).first()
        job_id = stored.job_id if stored is not None else None
        job = session.scalars(visible(select(Job).where(Job.id == job_id), caller)).first()
        if job is None:
            return None
        files.append(job.training_file)
        name = job.model
    return None


def _overlap(
    server: Server, files: Sequence[str] | None, questions: Sequence[Question]
) -> dict[str, int] | None:
    """Questions that copy one of training, exactly or nearly; None where that is not known."""
    if files is None:
        return None
    trained: dict[str, str] = {}
    for file_id in dict.fromkeys(files):
        try:
            trained |= {
                f"{file_id}:{number}": question.text
                for number, question in enumerate(_questions(server, file_id))
            }
        except (ApiError, FileNotFoundError):
            return None
    leaks = find_leaks(trained, {str(n): each.text for n, each in enumerate(questions)})
    return {kind: sum(leak.kind == kind for leak in leaks) for kind in ("exact", "near")}


async def _answers(
    body: CompareModels,
    server: Server,
    caller: Caller,
    model: str,
    questions: Sequence[Question],
) -> list[tuple[str, bool]]:
    """(answer, whether it ended by itself) of each question."""
    requests, slots = server.get(InternalRequests), asyncio.Semaphore(AT_ONCE)
    entry = entry_of(server.settings, base_part(model) if model.startswith(TUNED) else model)
    plain = entry is not None and entry.kind == "completion"
    common = {"model": model, "temperature": 0, "seed": body.seed, "max_tokens": body.max_tokens}

    async def ask(question: Question) -> tuple[str, bool]:
        path, request = "/v1/chat/completions", {**common, "messages": list(question.prompt)}
        if plain:
            path = "/v1/completions"
            request = {**common, "prompt": "\n".join(turn["content"] for turn in question.prompt)}
        async with slots:
            reply = await requests.post(path, request, caller)
        if reply.status != 200:
            error: Mapping[str, Any] = reply.body.get("error") or {}
            raise ApiError(
                reply.status,
                str(error.get("message") or "a model did not answer."),
                kind=str(error.get("type") or "server_error"),
                param=error.get("param"),
                code=error.get("code"),
            )
        choice = reply.body["choices"][0]
        text = choice["text"] if plain else choice["message"]["content"]
        return str(text or "").strip(), choice["finish_reason"] != "length"

    tasks = [asyncio.create_task(ask(question)) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _compared(
    body: CompareModels,
    server: Server,
    caller: Caller,
    total: int,
    questions: Sequence[Question],
    known: Sequence[dict[str, int] | None],
    answers: Sequence[Sequence[tuple[str, bool]]],
    grader: AnyGrader | None,
) -> dict[str, Any]:
    measure = DEFAULT_MEASURE if grader is None else f"grader:{grader.name}"
    tools = tools_for(server, caller) if grader is not None else None
    groups = [
        [
            _prediction(number, question, model, answer, grader, tools)
            for number, (question, answer) in enumerate(zip(questions, given, strict=True))
        ]
        for model, given in zip(body.models, answers, strict=True)
    ]
    results = summarise([*groups[0], *groups[1]], body.seed, measure)
    comparison = compare_predictions(*groups, seed=body.seed, measure=measure)
    return {
        "object": "x.comparison",
        "file": body.file,
        "rows": total,
        "questions": len(questions),
        "measure": measure,
        "models": [
            _result(result, group, trained)
            for result, group, trained in zip(results, groups, known, strict=True)
        ],
        "difference": comparison.model_dump(exclude={"evidence_set", "a", "b", "measure"}),
        "verdict": _verdict(comparison, known),
        "examples": _examples(groups),
    }


def _prediction(
    number: int,
    question: Question,
    model: str,
    answer: tuple[str, bool],
    grader: AnyGrader | None,
    tools: GraderTools | None,
) -> Prediction:
    text, ended = answer
    example = Example.make(
        tuple(Message.model_validate(turn) for turn in question.prompt),
        Message(role="assistant", content=question.gold),
        family=question.text,
        kind="original",
    )
    prediction = grade_prediction(example, "test", model, text, finished=ended)
    score = prediction.score
    if grader is not None and tools is not None:
        item = {"question": question.text, "answer": prediction.gold}
        result = run_grader(grader, item, text, tools)
        score = None if any(result.errors.values()) else result.reward
    # Rows may repeat a question; each is a row of the comparison.
    return prediction.model_copy(update={"example_id": str(number), "score": score})


def _result(
    result: Result, group: Sequence[Prediction], trained: dict[str, int] | None
) -> dict[str, Any]:
    fields = result.model_dump(exclude={"evidence_set", "system", "measure", "unparsable"})
    return {
        "model": result.system,
        **fields,
        "cut_off": sum(not prediction.finished for prediction in group),
        "trained_on": trained,
    }


def _verdict(row: Comparison, known: Sequence[dict[str, int] | None]) -> str:
    """The difference in one sentence, with its reservations."""
    answers = counted(row.n, "answer")
    shares = f"{row.right_a:.1%} and {row.right_b:.1%} of {answers} have the right facts"
    if row.p_value < SIGNIFICANT:
        better = row.b if row.right_b > row.right_a else row.a
        text = f"{better} is right more often: {shares} (p = {row.p_value:.2g})"
        text += (
            ", which is open until someone reads the answers that the rules could not grade."
            if row.hangs_on_unclear
            else "."
        )
    else:
        text = f"The models may be equally good: {shares} (p = {row.p_value:.2g}). With {row.n} "
        text += "questions, " + (
            "no difference can be significant."
            if row.smallest_visible is None
            else f"differences from {100 * row.smallest_visible:.0f} points can be significant."
        )
    copied = max((each["exact"] + each["near"] for each in known if each), default=0)
    if copied:
        text += (
            f" {copied} of the questions copy rows that a model was trained on, which shows what "
            "it remembers and not what it can do."
        )
    return text


def _examples(groups: Sequence[Sequence[Prediction]]) -> list[dict[str, Any]]:
    pairs = sorted(zip(*groups, strict=True), key=lambda pair: pair[0].right == pair[1].right)
    return [
        {
            "question": pair[0].question,
            "gold": pair[0].gold,
            "answers": [each.prediction for each in pair],
            "right": [each.right for each in pair],
            "scores": [each.score for each in pair],
        }
        for pair in pairs[:SHOWN]
    ]
