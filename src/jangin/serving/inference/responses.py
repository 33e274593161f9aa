"""`/responses`: answers as OpenAI's newer API has them, kept unless `store` is false."""

from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from jangin.serving.inference.chat import call_objects
from jangin.serving.inference.external import backend_of, forward
from jangin.serving.inference.kept import (
    RESPONSE,
    conversation_before,
    delete_kept,
    find_kept,
    item_id,
    keep,
    referenced_item,
    wants_kept,
)
from jangin.serving.inference.parameters import ignored_header, refuse_unsupported
from jangin.serving.inference.prepare import Prepared, count_prompt, log_unlike, prepare_chat
from jangin.serving.inference.response_items import (
    InputItem,
    ResponseBody,
    as_chat,
    kept_items,
    message_item,
    output_items,
    text_part,
)
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import PING, data_event, news, sent_events, whole_answers
from jangin.serving.protocol.errors import ApiError, invalid_state
from jangin.serving.protocol.ids import new_id
from jangin.serving.protocol.objects import Deleted
from jangin.serving.protocol.pagination import ItemPaging, page_of_list
from jangin.serving.security.access import CallerDep
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.requests import EngineAnswer

router = APIRouter()


@router.post("/responses")
async def create_response(
    body: ResponseBody, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """One answer, whole or as events; raises `ApiError`."""
    refuse_unsupported(body)
    earlier = await anyio.to_thread.run_sync(_resolved, server, caller, body)
    model = await anyio.to_thread.run_sync(server.models.resolve, body.model, caller)
    backend = backend_of(server, model)
    if backend is not None:
        return await forward(backend, model, "/responses", request, _passed_on(body, earlier))
    chat = as_chat(body, earlier)
    stored = wants_kept(server, store=body.store, default=True)
    log_unlike(model, chat.messages)
    inference, headers = server.get(Inference), ignored_header(body)
    prepared = await anyio.to_thread.run_sync(prepare_chat, inference, model, chat)
    turn = _Turn(server, caller, body, _head(body, server.now(), stored=stored))
    if body.stream:
        return sent_events(_events(inference, prepared, turn), headers)
    (answer,) = await whole_answers(inference, prepared, request)
    reply = turn.ended(prepared, answer)
    await turn.keep(reply)
    return JSONResponse(reply, headers=headers)


@router.post("/responses/input_tokens")
def count_input_tokens(body: ResponseBody, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """How many tokens a model would read; raises `ApiError`."""
    refuse_unsupported(body)
    earlier = _resolved(server, caller, body)
    model = server.models.resolve(body.model, caller)
    if backend_of(server, model) is not None:
        raise ApiError(400, "Another server counts the tokens of this model.", param="model")
    chat = as_chat(body, earlier)
    tokens = count_prompt(server.get(Inference), model, chat)
    return {"object": "response.input_tokens", "input_tokens": tokens}


@router.get("/responses/{response_id}")
def retrieve_response(
    response_id: str, server: ServerDep, caller: CallerDep, *, stream: bool = False
) -> dict[str, Any]:
    """A response that was kept; raises `ApiError` 404."""
    if stream:
        raise ApiError(
            400,
            "This server keeps whole responses, not their events: leave out 'stream'.",
            param="stream",
            code="unsupported_parameter",
        )
    with server.database.read() as session:
        return find_kept(server, session, caller, RESPONSE, response_id).body


@router.get("/responses/{response_id}/input_items")
def list_input_items(
    response_id: str, server: ServerDep, caller: CallerDep, paging: ItemPaging
) -> dict[str, Any]:
    """What a kept response answered; raises `ApiError` 404."""
    with server.database.read() as session:
        items = find_kept(server, session, caller, RESPONSE, response_id).input
    return page_of_list(items, paging)


@router.delete("/responses/{response_id}")
def delete_response(response_id: str, server: ServerDep, caller: CallerDep) -> Deleted:
    """Delete a kept response; raises `ApiError` 404."""
    delete_kept(server, caller, RESPONSE, response_id)
    return Deleted(id=response_id, object="response")


@router.post("/responses/{response_id}/cancel")
def cancel_response(response_id: str, server: ServerDep, caller: CallerDep) -> None:
    """Nothing here runs in the background; raises `ApiError` 404 or 400."""
    with server.database.read() as session:
        find_kept(server, session, caller, RESPONSE, response_id)
    raise invalid_state("Cannot cancel a response that does not run in the background.")


def _resolved(server: Server, caller: Caller, body: ResponseBody) -> list[Any]:
    """The items before those of the body, whose references become the items that they mean."""
    if isinstance(body.input, list):
        body.input = [
            InputItem.model_validate(
                referenced_item(server, caller, item.id or "", f"input.{index}.id")
            )
            if item.type == "item_reference"
            else item
            for index, item in enumerate(body.input)
        ]
    return conversation_before(server, caller, body.previous_response_id)


class _Turn:
    """A response in the making."""

    def __init__(
        self, server: Server, caller: Caller, body: ResponseBody, head: dict[str, Any]
    ) -> None:
        self.head = head
        self._server = server
        self._caller = caller
        self._body = body

    def ended(self, prepared: Prepared, answer: "EngineAnswer") -> dict[str, Any]:
        """The whole response."""
        from jangin.inference.engine.streamed import read_answer

        cut = answer.finish_reason == "length"
        generation = answer.generation
        content, calls = read_answer(prepared.wording, generation, with_tools=prepared.tools)
        status = "incomplete" if cut else "completed"
        return {
            **self.head,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": output_items(self.head["id"], content, call_objects(calls), status),
            "usage": {
                "input_tokens": answer.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": answer.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": generation.reasoning_tokens},
                "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            },
        }

    async def keep(self, reply: dict[str, Any]) -> None:
        """Keep the response, if the client wants that; raises `ApiError`."""
        if reply["store"]:
            given = kept_items(self._body, reply["id"])
            await anyio.to_thread.run_sync(
                keep, self._server, self._caller, RESPONSE, reply, given, self._body.metadata
            )


class _Events:
    """Writes the events of one response."""

    def __init__(self, response_id: str) -> None:
        self._numbers = count()
        name = item_id("msg", response_id, 0)
        self.where: dict[str, Any] = {"item_id": name, "output_index": 0, "content_index": 0}

    def __call__(self, kind: str, **more: Any) -> bytes:
        kind = f"response.{kind}"
        return data_event({"type": kind, "sequence_number": next(self._numbers), **more}, kind)

    def opening(self) -> bytes:
        """The message begins."""
        item = message_item(self.where["item_id"], [])
        started = self("output_item.added", output_index=0, item=item)
        return started + self("content_part.added", **self.where, part=text_part(""))

    def closing(self, index: int, item: dict[str, Any]) -> bytes:
        """An item ends; a call begins with it, too, because it is read as a whole."""
        if item["type"] == "message":
            (part,) = item["content"]
            events = self("output_text.done", **self.where, text=part["text"], logprobs=[])
            events += self("content_part.done", **self.where, part=part)
        else:
            begun = {**item, "status": "in_progress", "arguments": ""}
            named = {"output_index": index, "item_id": item["id"]}
            written = {"arguments": item["arguments"], "name": item["name"]}
            events = self("output_item.added", output_index=index, item=begun)
            events += self("function_call_arguments.delta", **named, delta=item["arguments"])
            events += self("function_call_arguments.done", **named, **written)
        return events + self("output_item.done", output_index=index, item=item)


async def _events(inference: Inference, prepared: Prepared, turn: _Turn) -> AsyncIterator[bytes]:
    from jangin.inference.engine.streamed import StreamedAnswer

    event, opened = _Events(turn.head["id"]), False
    yield event("created", response=turn.head) + event("in_progress", response=turn.head)
    stream = StreamedAnswer(
        prepared.wording, prepared.requests[0].generation.prompt_ids, prepared.tools
    )
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
                if not opened:
                    yield event.opening()
                opened = True
                yield event("output_text.delta", **event.where, delta=pieces.content, logprobs=[])
            if report.answer is not None:
                break
    whole = turn.ended(prepared, report.answer)
    if not opened and whole["output"][0]["type"] == "message":
        yield event.opening()
    for index, ended in enumerate(whole["output"]):
        yield event.closing(index, ended)
    await turn.keep(whole)
    yield event(whole["status"], response=whole)


def _head(body: ResponseBody, now: int, *, stored: bool) -> dict[str, Any]:
    choice, extra = body.tool_choice, body.model_extra or {}
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
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": stored,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": body.format.model_dump(by_alias=True, exclude_none=True)}
        if body.format.type == "json_schema"
        else {"format": {"type": body.format.type}},
        "tool_choice": (choice or "auto")
        if isinstance(choice, str | None)
        else choice.model_dump(exclude_none=True),
        "tools": [
            {"parameters": None, "strict": None, **tool.model_dump()} for tool in body.tools or ()
        ],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": extra.get("user"),
    }


def _passed_on(body: ResponseBody, earlier: list[Any]) -> dict[str, Any]:
    """What changes in a body for another server, which keeps nothing; raises `ApiError` 400."""
    if body.store:
        raise ApiError(
            400,
            f"Another server answers for the model '{body.model}', and its responses are not kept "
            "here. Send the whole conversation as 'input', and 'store': false.",
            param="store",
            code="unsupported_parameter",
        )
    if not earlier:
        return {"store": False}
    items = [*earlier, *(item.model_dump(exclude_none=True) for item in body.items)]
    return {"store": False, "previous_response_id": None, "input": items}
