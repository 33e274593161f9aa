"""Items of `/responses`: those of the input as messages of a chat, and answers as items."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from jangin.serving.inference.bodies import (
    AnswerBody,
    ChatBody,
    ChatMessage,
    FunctionCall,
    Ignoring,
    JsonSchema,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolFunction,
)
from jangin.serving.inference.kept import item_id
from jangin.serving.protocol.errors import ApiError, invalid_value, missing_parameter
from jangin.serving.protocol.objects import Metadata

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
    content: str | list[TextPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[TextPart] | None = None


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


def _check_parts(content: str | list[TextPart] | None, param: str) -> None:
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
    response_id: str, content: str, calls: Sequence[Mapping[str, Any]], status: str
) -> list[dict[str, Any]]:
    """A message, unless there are calls and no text, and the calls: `tool_calls` of a chat.

    `status` is that of the last of them, which may be cut off; those before it are complete.
    """
    items: list[dict[str, Any]] = []
    if content or not calls:
        name = item_id("msg", response_id, 0)
        items.append({**message_item(name, [text_part(content)]), "status": "completed"})
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


def text_part(text: str) -> dict[str, Any]:
    """Text of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
