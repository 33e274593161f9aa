"""`/responses`: answers as OpenAI's newer API has them, kept unless `store` is false."""

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import JSONResponse, Response

from jangin.serving.inference.bodies import (
    AnswerBody,
    ChatBody,
    ChatMessage,
    FunctionCall,
    Ignoring,
    JsonSchema,
    MessageTextPart,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolCallPart,
    ToolFunction,
    ignored_header,
    refuse_unsupported,
)
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
from jangin.serving.inference.prepare import (
    PreparedRequests,
    count_prompt,
    log_unlike,
    prepare_chat,
)
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import PING, data_event, news, sent_events, whole_answers
from jangin.serving.protocol.errors import ApiError, invalid_state, invalid_value, missing_parameter
from jangin.serving.protocol.objects import Deleted, Metadata, new_id
from jangin.serving.protocol.pagination import ItemPaging, page_of_list
from jangin.serving.security.access import CallerDep
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.requests import EngineAnswer


# Items of `/responses`: those of the input as messages of a chat, and answers as items.


ROLES = ("user", "assistant", "system", "developer")
TEXTS = ("input_text", "output_text", "text", "refusal")
"""Types of parts of a content."""
TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
"""Types of items of an input; a model is not shown the reasoning of earlier turns."""


class InputItem(Ignoring):
    """An item of the input; which fields it has depends on its type."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str | None = "message"
    id: str | None = None
    role: str | None = None
    content: str | list[MessageTextPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[MessageTextPart] | None = None


class TextFormat(Ignoring):
    """What the answer has to look like."""

    type: str = "text"
    name: str = "answer"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class TextSettings(Ignoring):
    """Settings of the answer's text."""

    format: TextFormat = TextFormat()


class ResponseTool(Ignoring):
    """A tool that the model may call."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Ignoring):
    """The function that has to be called, or the only ones that may be."""

    type: str
    name: str | None = None
    mode: str = "auto"
    tools: list[dict[str, Any]] | None = None


class ResponseBody(AnswerBody):
    """Body of `POST /responses`."""

    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    text: TextSettings | None = TextSettings()
    tools: list[ResponseTool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: Metadata | None = None

    @property
    def items(self) -> list[InputItem]:
        """The input; a text is a message of the user."""
        if isinstance(self.input, str):
            return [InputItem(role="user", content=self.input)]
        return self.input

    @property
    def format(self) -> TextFormat:
        """What the answer has to look like."""
        return (self.text or TextSettings()).format


def as_chat(body: ResponseBody, earlier: Sequence[Mapping[str, Any]]) -> ChatBody:
    """The chat that a response continues; raises `ApiError` 400.

    `earlier`: the items before those of the body.
    """
    if not body.input:
        raise ApiError(
            400, "Invalid 'input': it is empty.", param="input", code="array_below_min_length"
        )
    messages = []
    if body.instructions:
        messages.append(ChatMessage(role="system", content=body.instructions))
    calls: set[str] = set()
    for item in map(InputItem.model_validate, earlier):
        _add(messages, item, calls, "input")
    for index, item in enumerate(body.items):
        _add(messages, item, calls, f"input.{index}")
    if not messages:
        raise missing_parameter("input")
    tools, choice = _tools(body)
    return ChatBody(
        model=body.model,
        messages=messages,
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stream=body.stream,
        response_format=_format(body),
        tools=tools or None,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls,
        passages=body.passages,
    )


def _add(messages: list[ChatMessage], item: InputItem, calls: set[str], param: str) -> None:
    """Add an item to the messages; a call belongs to the message of the assistant before it."""
    if item.type in (None, "message"):
        if item.role not in ROLES:
            raise invalid_value(f"{param}.role", item.role, ROLES)
        _check_parts(item.content, f"{param}.content")
        messages.append(ChatMessage.model_validate({"role": item.role, "content": item.content}))
    elif item.type == "function_call":
        for name in ("call_id", "name", "arguments"):
            if getattr(item, name) is None:
                raise missing_parameter(f"{param}.{name}")
        called = FunctionCall(name=item.name or "", arguments=item.arguments or "")
        call = ToolCallPart(id=item.call_id or "", function=called)
        calls.add(call.id)
        if not messages or messages[-1].role != "assistant":
            messages.append(ChatMessage(role="assistant"))
        messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), call]
    elif item.type == "function_call_output":
        if item.call_id not in calls:
            raise ApiError(
                400,
                f"No tool call found for function call output with call_id {item.call_id}.",
                param=param,
            )
        _check_parts(item.output, f"{param}.output")
        output = item.output or ""
        messages.append(ChatMessage(role="tool", content=output, tool_call_id=item.call_id))
    elif item.type != "reasoning":
        raise invalid_value(f"{param}.type", item.type, TYPES)


def _check_parts(content: str | list[MessageTextPart] | None, param: str) -> None:
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if part.type not in TEXTS:
            raise invalid_value(f"{param}.{number}.type", part.type, TEXTS)


def _tools(body: ResponseBody) -> tuple[list[Tool], Any]:
    """The tools of a chat and its `tool_choice`; raises `ApiError` 400."""
    tools = []
    for index, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            raise ApiError(
                400,
                f"This server runs no tools of type '{tool.type}': a model calls functions, which "
                "the client runs. Send tools of type 'function'.",
                param=f"tools.{index}.type",
                code="unsupported_parameter",
            )
        given = tool.model_dump(exclude={"type"}, exclude_none=True)
        tools.append(Tool(type="function", function=ToolFunction.model_validate(given)))
    choice = body.tool_choice
    if isinstance(choice, ToolChoice) and choice.type == "allowed_tools":
        allowed = {tool.get("name") for tool in choice.tools or ()}
        tools, choice = [t for t in tools if t.function.name in allowed], choice.mode
    if isinstance(choice, ToolChoice):
        if choice.type != "function":
            raise invalid_value("tool_choice.type", choice.type, ["function", "allowed_tools"])
        return tools, NamedTool(function=NamedFunction(name=choice.name or ""))
    if choice not in (None, "none", "auto", "required"):
        raise invalid_value("tool_choice", choice, ["none", "auto", "required"])
    return tools, choice


def _format(body: ResponseBody) -> ResponseFormat:
    wanted = body.format
    formats = ("text", "json_object", "json_schema")
    if wanted.type not in formats:
        raise invalid_value("text.format.type", wanted.type, formats)
    schema = JsonSchema(name=wanted.name, schema=wanted.json_schema)
    return ResponseFormat.model_validate(
        {"type": wanted.type, "json_schema": schema.model_dump(by_alias=True)}
    )


def kept_items(body: ResponseBody, response_id: str) -> list[dict[str, Any]]:
    """The items of the input as they are kept, each with an id."""
    kept = []
    for number, item in enumerate(body.items):
        prefix = {"function_call": "fc", "function_call_output": "fco"}.get(item.type or "", "msg")
        given = {"type": "message", **item.model_dump(exclude_none=True)}
        kept.append({"id": item_id(prefix, response_id, f"i{number}"), **given})
    return kept


def output_items(
    response_id: str,
    part: dict[str, Any],
    calls: Sequence[Mapping[str, Any]],
    status: str,
) -> list[dict[str, Any]]:
    """A message of a `text_part`, unless it is empty and there are calls, and these `tool_calls`.

    `status` is that of the last of them, which may be cut off; those before it are complete.
    """
    items: list[dict[str, Any]] = []
    if part["text"] or not calls:
        name = item_id("msg", response_id, 0)
        items.append({**message_item(name, [part]), "status": "completed"})
    for call in calls:
        items.append(
            {
                "id": item_id("fc", response_id, len(items)),
                "type": "function_call",
                "status": "completed",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
        )
    items[-1]["status"] = status
    return items


def message_item(name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A message of the assistant that is being written."""
    head = {"id": name, "type": "message", "status": "in_progress", "role": "assistant"}
    return {**head, "content": parts}


def text_part(text: str, annotations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Text of a message."""
    return {"type": "output_text", "text": text, "annotations": [*annotations], "logprobs": []}


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

    def ended(self, prepared: PreparedRequests, answer: "EngineAnswer") -> dict[str, Any]:
        """The whole response."""
        from jangin.inference.engine.streamed import read_answer

        cut = answer.finish_reason == "length"
        generation = answer.generation
        content, calls = read_answer(prepared.wording, generation, with_tools=prepared.tools)
        status = "incomplete" if cut else "completed"
        part = text_part(content, prepared.sources.of_response(content) if content else ())
        return {
            **self.head,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": output_items(self.head["id"], part, call_objects(calls), status),
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
            events = b"".join(
                self("output_text.annotation.added", **self.where, annotation_index=n, annotation=a)
                for n, a in enumerate(part["annotations"])
            )
            events += self("output_text.done", **self.where, text=part["text"], logprobs=[])
            events += self("content_part.done", **self.where, part=part)
        else:
            begun = {**item, "status": "in_progress", "arguments": ""}
            named = {"output_index": index, "item_id": item["id"]}
            written = {"arguments": item["arguments"], "name": item["name"]}
            events = self("output_item.added", output_index=index, item=begun)
            events += self("function_call_arguments.delta", **named, delta=item["arguments"])
            events += self("function_call_arguments.done", **named, **written)
        return events + self("output_item.done", output_index=index, item=item)


async def _events(
    inference: Inference, prepared: PreparedRequests, turn: _Turn
) -> AsyncIterator[bytes]:
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
