"""Structured replies of a teacher: asked, checked, asked once more with the error, or failed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from jangin.core.chat import ChatModel, ChatReply, ChatRequest, ask_all
from jangin.core.digest import canonical_json
from jangin.core.errors import ChatError, StageError
from jangin.core.stage import StageContext
from jangin.core.types import Message, Record
from jangin.examples.prompts import find_prompt

S = TypeVar("S", bound=BaseModel)


class Failed(Record):
    """A reply that could not be used, and why; it is kept, counted and shown."""

    subject: str
    """Id of the chunk or example that the request was about."""
    request: str
    reason: str
    reply: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[S]):
    """A reply that fits its schema, and the digest of the request that won it."""

    value: S
    request: str


@dataclass(frozen=True, slots=True)
class Question:
    """A request and what it is about."""

    subject: str
    request: ChatRequest
    language: str


def schema_text(reply_type: type[BaseModel]) -> str:
    """JSON Schema of a reply, in the one form that enters request digests."""
    return canonical_json(reply_type.model_json_schema())


def parse_reply(text: str, reply_type: type[S]) -> S | str:
    """The reply as a value, or what is wrong with it; code fences and small slips are mended."""
    import json_repair

    if not text.strip():
        return "the reply is empty"
    try:
        data = json.loads(text)
    except ValueError:
        data = json_repair.loads(text)
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a string holds half a character (a lone surrogate escape)"
    try:
        return reply_type.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "reply"
        return f"{where}: {first['msg']}"


def ask_structured(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    chat: ChatModel,
    questions: Sequence[Question],
    reply_type: type[S],
    concurrency: int,
    label: str,
) -> tuple[dict[str, Answer[S]], list[Failed]]:
    """Ask all; a malformed reply is sent back once with its error.

    Returns ({subject: answer}, failures). Subjects are unique. A request that got no reply at
    all raises `StageError` once the others are done: their replies are in the ledger, and a
    table with holes that nobody decided on is never published.
    """
    answers: dict[str, Answer[S]] = {}
    failures: dict[str, Failed] = {}
    unanswered: list[ChatError] = []

    def ask_round(round_questions: Sequence[Question], title: str) -> list[Question]:
        again: list[Question] = []
        progress = context.services.progress
        bar = progress.start(title, len(round_questions))

        def take(index: int, reply: ChatReply | ChatError) -> None:
            question = round_questions[index]
            progress.advance(bar)
            if isinstance(reply, ChatError):
                unanswered.append(reply)
                return
            value = (
                "the reply was cut off at max_tokens; answer more briefly"
                if reply.finish_reason == "length"
                else parse_reply(reply.content, reply_type)
            )
            if isinstance(value, str):
                failures[question.subject] = _failed(question, value, reply.content)
                again.append(_repair(question, reply.content, value))
                return
            failures.pop(question.subject, None)
            answers[question.subject] = Answer(value, question.request.digest)

        try:
            ask_all(chat, [q.request for q in round_questions], concurrency, take)
        finally:
            progress.stop(bar)
        return again

    malformed = ask_round(questions, label)
    if malformed:
        ask_round(malformed, f"{label}: malformed replies, once more")
        _forget(context, questions, malformed, failures)
    if unanswered:
        missing = StageError(
            f"{len(unanswered)} of {len(questions)} requests got no reply; the other replies are "
            f"kept. The first: {unanswered[0]}"
        )
        missing.exit_code = unanswered[0].exit_code
        raise missing from unanswered[0]
    order = {question.subject: place for place, question in enumerate(questions)}
    return answers, sorted(failures.values(), key=lambda failed: order[failed.subject])


def _forget(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    questions: Sequence[Question],
    repairs: Sequence[Question],
    failures: dict[str, Failed],
) -> None:
    """Replies that could not be used are not kept, so that a mended teacher is asked again."""
    for question in (*questions, *repairs):
        if question.subject in failures:
            context.services.ledger.forget(question.request.digest)


def make_question(
    subject: str,
    language: str,
    prompt_name: str,
    reply_type: type[BaseModel],
    request_fields: dict[str, object],
    values: dict[str, object],
) -> Question:
    """A question from a named prompt; `request_fields` are the request's model and parameters."""
    messages = find_prompt(prompt_name, language).messages(**values)
    request = ChatRequest.model_validate(
        {**request_fields, "messages": messages, "json_schema": schema_text(reply_type)}
    )
    return Question(subject, request, language)


def count_unpaid(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage that has a teacher
    chat: ChatModel,
    questions: Sequence[Question],
) -> int:
    """How many of these questions no earlier run has an answer to."""
    ledger = context.services.ledger
    return sum(ledger.reply(q.request.digest, chat.source) is None for q in questions)


def _failed(question: Question, reason: str, reply: str) -> Failed:
    return Failed(
        subject=question.subject, request=question.request.digest, reason=reason, reply=reply[:2000]
    )


def _repair(question: Question, reply: str, problem: str) -> Question:
    ask = find_prompt("repair", question.language).messages(system="", problem=problem)[-1]
    messages = (*question.request.messages, Message(role="assistant", content=reply), ask)
    request = question.request.model_copy(update={"messages": messages})
    return Question(question.subject, request, question.language)
