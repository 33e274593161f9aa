"""`POST /chat/completions`."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from jangin.core.digest import short_digest
from jangin.models.tokens.token_bytes import token_bytes
from jangin.serving.inference.bodies import ChatBody
from jangin.serving.inference.external import backend_of, forward
from jangin.serving.inference.prepare import Prepared, log_unlike, prepare_chat
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import (
    DONE,
    PING,
    data_event,
    news,
    sent_events,
    whole_answers,
)
from jangin.serving.inference.usage import token_text, usage_of
from jangin.serving.protocol.ids import new_id
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.engine import Wording
    from jangin.inference.engine.requests import EngineAnswer, Progress
    from jangin.inference.engine.tools import ToolCall

router = APIRouter()


@router.post("/chat/completions")
async def create_chat_completion(
    body: ChatBody, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """The answers to a conversation, whole or streamed; raises `ApiError`."""
    inference = server.get(Inference)
    model = await anyio.to_thread.run_sync(server.models.resolve, body.model, caller)
    log_unlike(model, body.messages)
    backend = backend_of(server, model)
    if backend is not None:
        return await forward(backend, model, "/chat/completions", request)
    prepared = await anyio.to_thread.run_sync(prepare_chat, inference, model, body)
    if body.stream:
        return sent_events(_events(inference, prepared, server.now(), body))
    answers = await whole_answers(inference, prepared, request)
    choices = [_choice(prepared, answer, index, body) for index, answer in enumerate(answers)]
    reply = {
        **_head(prepared, new_id("chatcmpl-", 29), server.now(), "chat.completion"),
        "choices": choices,
        "usage": usage_of(answers, 1),
    }
    return JSONResponse(reply)


async def _events(
    inference: Inference, prepared: Prepared, now: int, body: ChatBody
) -> AsyncIterator[bytes]:
    from jangin.inference.engine.streamed import StreamedAnswer

    head = _head(prepared, new_id("chatcmpl-", 29), now, "chat.completion.chunk")
    empty: dict[str, Any] = {"usage": None} if body.with_usage else {}

    def chunk(
        index: int, delta: dict[str, Any], reason: str | None, tokens: Sequence[Any] = ()
    ) -> bytes:
        logprobs = {"content": tokens, "refusal": None} if tokens else None
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        return data_event({**head, "choices": [choice], **empty})

    streams = [
        StreamedAnswer(prepared.wording, each.generation.prompt_ids, prepared.tools)
        for each in prepared.requests
    ]
    # A token may yield no text yet, and the last one yields two chunks: each is sent once.
    pending: list[list[dict[str, Any]]] = [[] for _ in streams]
    answers: list[EngineAnswer] = []
    async with inference.generating(prepared.engine, prepared.requests) as reports:
        for index in range(len(streams)):
            yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None)
        async for item in news(reports):
            if item is None:
                yield PING
                continue
            index, report = item
            if report.error is not None:
                raise api_error(report.error)
            if body.logprobs:
                pending[index] += _logprobs_of(prepared.wording, report)
            for delta, reason in _deltas(prepared, streams[index], report):
                yield chunk(index, delta, reason, pending[index])
                pending[index] = []
            if report.answer is not None:
                answers.append(report.answer)
                if len(answers) == len(streams):
                    break
    if body.with_usage:
        yield data_event({**head, "choices": [], "usage": usage_of(answers, 1)})
    yield DONE


def _deltas(
    prepared: Prepared, stream: Any, report: "Progress"
) -> list[tuple[dict[str, Any], str | None]]:
    """(delta, finish reason) of each chunk that a report becomes."""
    if report.answer is None:
        pieces, calls = stream.add(report.token_id, report.text), []
    else:
        pieces, calls = stream.end(report.answer.generation)
    delta = {}
    if pieces.reasoning:
        delta["reasoning_content"] = pieces.reasoning
    if pieces.content:
        delta["content"] = pieces.content
    chunks: list[tuple[dict[str, Any], str | None]] = [(delta, None)] if delta else []
    if calls:
        listed = [{"index": number, **call} for number, call in enumerate(call_objects(calls))]
        chunks.append(({"tool_calls": listed}, None))
    if report.answer is not None:
        chunks.append(({}, _reason(prepared, report.answer, calls)))
    return chunks


def _choice(
    prepared: Prepared, answer: "EngineAnswer", index: int, body: ChatBody
) -> dict[str, Any]:
    from jangin.inference.engine.streamed import read_answer

    generation = answer.generation
    content, calls = read_answer(prepared.wording, generation, with_tools=prepared.tools)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content if content or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if generation.reasoning:
        message["reasoning_content"] = generation.reasoning
    if calls:
        message["tool_calls"] = call_objects(calls)
    logprobs = None
    if body.logprobs:
        tops = generation.top_logprobs or ((),) * len(generation.token_ids)
        listed = zip(generation.token_ids, generation.logprobs, tops, strict=True)
        content_part = [
            _token(prepared.wording, *each)
            for each in listed
            if each[0] not in prepared.wording.stop_ids  # as at OpenAI, which counts it only
        ]
        logprobs = {"content": content_part, "refusal": None}
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": _reason(prepared, answer, calls),
    }


def call_objects(calls: Sequence["ToolCall"]) -> list[dict[str, Any]]:
    """Calls of tools as replies hold them."""
    return [
        {
            "id": new_id("call_", 24),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def fingerprint(engine_name: str) -> str:
    """Changes with the version of the server and with the model."""
    from jangin import __version__

    return f"fp_{short_digest([__version__, engine_name])[:10]}"


def _reason(prepared: Prepared, answer: "EngineAnswer", calls: Sequence[object]) -> str:
    if calls and answer.finish_reason == "stop" and not prepared.forced:
        return "tool_calls"
    return answer.finish_reason


def _logprobs_of(wording: "Wording", report: "Progress") -> list[dict[str, Any]]:
    """The token of a report, if it has one that is not the end of the answer."""
    if report.token_id is None or report.logprob is None or report.token_id in wording.stop_ids:
        return []
    return [_token(wording, report.token_id, report.logprob, report.top_logprobs)]


def _token(
    wording: "Wording", token: int, logprob: float, top: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    def one(number: int, value: float) -> dict[str, Any]:
        text = token_text(wording.tokenizer, number)
        encoded = token_bytes(wording.tokenizer, number)
        return {"token": text, "logprob": value, "bytes": list(encoded)}

    return {**one(token, logprob), "top_logprobs": [one(*each) for each in top]}


def _head(prepared: Prepared, reply_id: str, now: int, kind: str) -> dict[str, Any]:
    return {
        "id": reply_id,
        "object": kind,
        "created": now,
        "model": prepared.model,
        "service_tier": "default",
        "system_fingerprint": fingerprint(prepared.engine.name),
    }
