"""`POST /chat/completions`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from jangin.core.digest import short_digest
from jangin.models.tokens.token_bytes import token_bytes
from jangin.serving.inference.bodies import (
    ChatBody,
    NamedFunction,
    NamedTool,
    Tool,
    ignored_header,
    refuse_unsupported,
)
from jangin.serving.inference.external import backend_of, forward
from jangin.serving.inference.kept import CHAT, keep, wants_kept
from jangin.serving.inference.prepare import (
    PreparedRequests,
    log_unlike,
    prepare_chat,
    token_text,
    usage_of,
)
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import (
    DONE,
    PING,
    data_event,
    news,
    sent_events,
    whole_answers,
)
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.access import CallerDep
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.engine import ModelTexts
    from jangin.inference.engine.requests import AnswerProgress, EngineAnswer
    from jangin.inference.engine.tools import ToolCall

router = APIRouter()
SETTINGS = {
    *("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"),
    *("tools", "tool_choice", "response_format"),
}
"""Fields of a request that a kept answer shows."""


@router.post("/chat/completions")
async def create_chat_completion(
    body: ChatBody, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """The answers to a conversation, whole or streamed; raises `ApiError`."""
    refuse_unsupported(body)
    inference, headers = server.get(Inference), ignored_header(body)
    model = await anyio.to_thread.run_sync(server.models.resolve, body.model, caller)
    log_unlike(model, body.messages)
    backend = backend_of(server, model)
    if backend is not None:
        _refuse_elsewhere(body)
        return await forward(backend, model, "/chat/completions", request)
    _take_functions(body)
    kept = _Kept(server, caller, body)
    prepared = await anyio.to_thread.run_sync(prepare_chat, inference, model, body)
    name, now = new_id("chatcmpl-", 29), server.now()
    if body.stream:
        head = _head(prepared, name, now, "chat.completion.chunk")
        return sent_events(_events(inference, prepared, head, kept), headers)
    answers = await whole_answers(inference, prepared, request)
    reply = _reply(prepared, _head(prepared, name, now, CHAT), answers, body)
    await kept.keep(reply)
    return JSONResponse(reply, headers=headers)


def _refuse_elsewhere(body: ChatBody) -> None:
    """Raises `ApiError` 400 for what only models of this process can do."""
    for name, instead in (("functions", "Send 'tools'."), ("store", "Leave it out.")):
        if getattr(body, name):
            raise ApiError(
                400,
                f"Another server answers for the model '{body.model}', without the parameter "
                f"'{name}'. {instead}",
                param=name,
                code="unsupported_parameter",
            )


def _take_functions(body: ChatBody) -> None:
    """Put `functions` into `tools`, and `function_call` into `tool_choice`."""
    if not body.functions:
        return
    if body.tools:
        raise ApiError(
            400, "Send 'tools' or 'functions', not both.", param="functions", code="invalid_value"
        )
    body.tools = [Tool(type="function", function=function) for function in body.functions]
    body.parallel_tool_calls = False
    wanted = body.function_call
    body.tool_choice = NamedTool(function=wanted) if isinstance(wanted, NamedFunction) else wanted


class _Kept:
    """Keeps the answer to a body that asks for it."""

    def __init__(self, server: Server, caller: Caller, body: ChatBody) -> None:
        self.body = body
        self._server = server
        self._caller = caller
        self._wanted = wants_kept(server, store=body.store, default=False)

    async def keep(self, reply: Mapping[str, Any]) -> None:
        """Keep a reply with the settings that it came from; raises `ApiError`."""
        if not self._wanted:
            return
        settings = self.body.model_dump(include=SETTINGS, exclude_none=True, by_alias=True)
        given = [message.model_dump(exclude_none=True) for message in self.body.messages]
        await anyio.to_thread.run_sync(
            keep,
            *(self._server, self._caller, CHAT),
            *({**settings, **reply}, given, self.body.metadata),
        )


def _reply(
    prepared: PreparedRequests,
    head: dict[str, Any],
    answers: Sequence["EngineAnswer"],
    body: ChatBody,
) -> dict[str, Any]:
    choices = [_choice(prepared, answer, index, body) for index, answer in enumerate(answers)]
    return {**head, "choices": choices, "usage": usage_of(answers, 1)}


async def _events(
    inference: Inference, prepared: PreparedRequests, head: dict[str, Any], kept: _Kept
) -> AsyncIterator[bytes]:
    from jangin.inference.engine.streamed import StreamedAnswer

    body = kept.body
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
    answers: dict[int, EngineAnswer] = {}
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
            for delta, reason in _deltas(prepared, streams[index], report, body):
                yield chunk(index, delta, reason, pending[index])
                pending[index] = []
            if report.answer is not None:
                answers[index] = report.answer
                if len(answers) == len(streams):
                    break
    whole = _reply(prepared, {**head, "object": CHAT}, [answers[n] for n in sorted(answers)], body)
    await kept.keep(whole)
    if body.with_usage:
        yield data_event({**head, "choices": [], "usage": whole["usage"]})
    yield DONE


def _deltas(
    prepared: PreparedRequests, stream: Any, report: "AnswerProgress", body: ChatBody
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
        called = _called(calls, body)
        for number, call in enumerate(called.get("tool_calls", ())):
            call["index"] = number
        chunks.append((called, None))
    if report.answer is not None:
        whole = _choice(prepared, report.answer, 0, body)["message"]
        if whole["annotations"]:
            chunks.append(({"annotations": whole["annotations"]}, None))
        chunks.append(({}, _reason(prepared, report.answer, calls, body)))
    return chunks


def _choice(
    prepared: PreparedRequests, answer: "EngineAnswer", index: int, body: ChatBody
) -> dict[str, Any]:
    from jangin.inference.engine.streamed import read_answer

    generation = answer.generation
    content, calls = read_answer(prepared.wording, generation, with_tools=prepared.tools)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content if content or not calls else None,
        "refusal": None,
        "annotations": prepared.sources.of_chat(content) if content else [],
    }
    if generation.reasoning:
        message["reasoning_content"] = generation.reasoning
    if calls:
        message |= _called(calls, body)
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
        "finish_reason": _reason(prepared, answer, calls, body),
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


def _called(calls: Sequence["ToolCall"], body: ChatBody) -> dict[str, Any]:
    """The calls in a message; `functions` know one call an answer, the first."""
    objects = call_objects(calls)
    return {"function_call": objects[0]["function"]} if body.functions else {"tool_calls": objects}


def _reason(
    prepared: PreparedRequests, answer: "EngineAnswer", calls: Sequence[object], body: ChatBody
) -> str:
    if calls and answer.finish_reason == "stop" and not prepared.forced:
        return "function_call" if body.functions else "tool_calls"
    return answer.finish_reason


def _logprobs_of(wording: "ModelTexts", report: "AnswerProgress") -> list[dict[str, Any]]:
    """The token of a report, if it has one that is not the end of the answer."""
    if report.token_id is None or report.logprob is None or report.token_id in wording.stop_ids:
        return []
    return [_token(wording, report.token_id, report.logprob, report.top_logprobs)]


def _token(
    wording: "ModelTexts", token: int, logprob: float, top: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    def one(number: int, value: float) -> dict[str, Any]:
        text = token_text(wording.tokenizer, number)
        encoded = token_bytes(wording.tokenizer, number)
        return {"token": text, "logprob": value, "bytes": list(encoded)}

    return {**one(token, logprob), "top_logprobs": [one(*each) for each in top]}


def _head(prepared: PreparedRequests, reply_id: str, now: int, kind: str) -> dict[str, Any]:
    return {
        "id": reply_id,
        "object": kind,
        "created": now,
        "model": prepared.model,
        "service_tier": "default",
        "system_fingerprint": fingerprint(prepared.engine.name),
    }
