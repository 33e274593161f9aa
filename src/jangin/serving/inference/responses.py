"""`POST /responses`: one answer as OpenAI's newer API has it, without a stored state."""

from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from jangin.serving.inference.bodies import (
    ChatBody,
    ChatMessage,
    Ignoring,
    JsonSchema,
    ResponseFormat,
    TextPart,
)
from jangin.serving.inference.external import backend_of, forward
from jangin.serving.inference.prepare import Prepared, log_unlike, prepare_chat
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import PING, data_event, news, sent_events, whole_answers
from jangin.serving.protocol.errors import ApiError, invalid_value
from jangin.serving.protocol.ids import new_id
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.requests import EngineAnswer

router = APIRouter()


class InputItem(Ignoring):
    """A message of the input."""

    type: str = "message"
    role: str | None = None
    content: str | list[TextPart] | None = None


class TextFormat(Ignoring):
    """What the answer has to look like."""

    type: str = "text"
    name: str = "answer"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class TextSettings(Ignoring):
    """Settings of the answer's text."""

    format: TextFormat = TextFormat()


class ResponseBody(Ignoring):
    """Body of `POST /responses`."""

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    text: TextSettings = TextSettings()
    stream: bool | None = False
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    tools: list[Any] | None = None
    metadata: dict[str, str] | None = None


@router.post("/responses")
async def create_response(
    body: ResponseBody, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """One answer, whole or as events; raises `ApiError`."""
    _refuse_state(body)
    inference = server.get(Inference)
    model = await anyio.to_thread.run_sync(server.models.resolve, body.model, caller)
    backend = backend_of(server, model)
    if backend is not None:
        return await forward(backend, model, "/responses", request)
    chat = _as_chat(body)
    log_unlike(model, chat.messages)
    prepared = await anyio.to_thread.run_sync(prepare_chat, inference, model, chat)
    head = _head(body, server.now())
    if body.stream:
        return sent_events(_events(inference, prepared, head))
    (answer,) = await whole_answers(inference, prepared, request)
    return JSONResponse(_ended(head, new_id("msg_", 32), answer))


def _refuse_state(body: ResponseBody) -> None:
    for name in ("previous_response_id", "conversation", "background", "tools"):
        if getattr(body, name):
            raise ApiError(
                400,
                f"This server does not support the '{name}' parameter of responses. "
                "Send the whole conversation as 'input'; tools are in chat completions.",
                param=name,
                code="unsupported_parameter",
            )


def _as_chat(body: ResponseBody) -> ChatBody:
    messages = []
    if body.instructions:
        messages.append(ChatMessage(role="system", content=body.instructions))
    items = [InputItem(role="user", content=body.input)] if isinstance(body.input, str) else None
    for index, item in enumerate(items or body.input):
        assert isinstance(item, InputItem)  # noqa: S101  a text became a list above
        if item.type != "message":
            raise invalid_value(f"input.{index}.type", item.type, ["message"])
        roles = ("user", "assistant", "system", "developer")
        if item.role not in roles:
            raise invalid_value(f"input.{index}.role", item.role, roles)
        messages.append(ChatMessage.model_validate(item.model_dump()))
    if not messages:
        raise ApiError(
            400, "Invalid 'input': it is empty.", param="input", code="array_below_min_length"
        )
    wanted = body.text.format
    formats = ("text", "json_object", "json_schema")
    if wanted.type not in formats:
        raise invalid_value("text.format.type", wanted.type, formats)
    schema = JsonSchema(name=wanted.name, schema=wanted.json_schema)
    answer_format = ResponseFormat.model_validate(
        {"type": wanted.type, "json_schema": schema.model_dump(by_alias=True)}
    )
    return ChatBody(
        model=body.model,
        messages=messages,
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stream=body.stream,
        response_format=answer_format,
    )


async def _events(
    inference: Inference, prepared: Prepared, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    from jangin.inference.engine.streamed import StreamedAnswer

    numbers, item_id = count(), new_id("msg_", 32)
    where = {"item_id": item_id, "output_index": 0, "content_index": 0}

    def event(kind: str, **more: Any) -> bytes:
        return data_event({"type": kind, "sequence_number": next(numbers), **more}, kind)

    yield event("response.created", response=head)
    yield event("response.in_progress", response=head)
    started = {**_message(item_id, ""), "status": "in_progress", "content": []}
    yield event("response.output_item.added", output_index=0, item=started)
    yield event("response.content_part.added", **where, part=_part(""))
    stream = StreamedAnswer(prepared.wording, prepared.requests[0].generation.prompt_ids)
    async with inference.generating(prepared.engine, prepared.requests) as reports:
        async for item in news(reports):
            if item is None:
                yield PING
                continue
            report = item[1]
            if report.error is not None:
                raise api_error(report.error, "input")
            if report.answer is None:
                pieces = stream.add(report.token_id, report.text)
            else:
                pieces, _ = stream.end(report.answer.generation)
            if pieces.content:
                yield event(
                    "response.output_text.delta", **where, delta=pieces.content, logprobs=[]
                )
            if report.answer is not None:
                break
    text = report.answer.generation.text
    whole = _ended(head, item_id, report.answer)
    yield event("response.output_text.done", **where, text=text, logprobs=[])
    yield event("response.content_part.done", **where, part=_part(text))
    yield event("response.output_item.done", output_index=0, item=_message(item_id, text))
    yield event(f"response.{whole['status']}", response=whole)


def _head(body: ResponseBody, now: int) -> dict[str, Any]:
    return {
        "id": new_id("resp_", 32),
        "object": "response",
        "created_at": now,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": body.text.format.model_dump(by_alias=True, exclude_none=True)}
        if body.text.format.type == "json_schema"
        else {"format": {"type": body.text.format.type}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _ended(head: dict[str, Any], item_id: str, answer: "EngineAnswer") -> dict[str, Any]:
    cut = answer.finish_reason == "length"
    generation = answer.generation
    return {
        **head,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_message(item_id, generation.text)],
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": generation.reasoning_tokens},
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }


def _message(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
