"""Bodies of requests for answers.

Unknown fields are no error here, unlike elsewhere: clients send many that change nothing. What
becomes of those of a request is in `parameters.py`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import Metadata

MOST_CHOICES = 128


class Ignoring(BaseModel):
    """A body, or a part of one, whose unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


class AnswerBody(Ignoring):
    """A request for an answer; `model_extra` has its unknown fields."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    model: str
    stream: bool | None = False
    passages: bool | None = None
    """False: a model that was trained with passages of the project is asked without them. It is no
    parameter of OpenAI's."""


class MessageTextPart(Ignoring):
    """A part of a message."""

    type: str
    text: str | None = None


class FunctionCall(Ignoring):
    """What a call of a tool names."""

    name: str
    arguments: str


class ToolCallPart(Ignoring):
    """A call of a tool in an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Ignoring):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[MessageTextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallPart] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    """As `tool_calls` was called in 2023."""


class StreamOptions(Ignoring):
    """Settings of a stream."""

    include_usage: bool | None = False


class JsonSchema(Ignoring):
    """The schema of a structured answer."""

    name: str = "answer"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Ignoring):
    """What an answer has to look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ToolFunction(Ignoring):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Ignoring):
    """A tool."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(Ignoring):
    """The function of a named choice."""

    name: str


class NamedTool(Ignoring):
    """The tool that has to be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


Penalty = Annotated[float, Field(ge=-2, le=2)]


class SamplingBody(AnswerBody):
    """What chat completions and completions have in common."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream_options: StreamOptions | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, without empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)

    @property
    def choices(self) -> int:
        """How many answers to each prompt."""
        return self.n or 1

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatBody(SamplingBody):
    """Body of `POST /chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[ToolFunction] | None = None
    """As `tools` was called in 2023; a reply then has `function_call`."""
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    store: bool | None = None
    metadata: Metadata | None = None


class CompletionBody(SamplingBody):
    """Body of `POST /completions`."""

    prompt: str | list[str] | list[int] | list[list[int]] = "<|endoftext|>"
    max_tokens: int | None = Field(default=None, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    best_of: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    suffix: str | None = None


# Parameters of OpenAI's API that this server lacks: refused, or named in a header of the reply.


REFUSED: Mapping[str, str] = {
    "audio": "Answers are texts.",
    "background": "A file of requests is answered in the background at /v1/batches.",
    "conversation": "Send 'previous_response_id', or the whole conversation as 'input'.",
    "modalities": "Answers are texts: leave it out, or send ['text'].",
    "moderation": "This server judges no texts.",
    "prompt": "No prompts are stored here; send 'instructions' and 'input'.",
    "web_search_options": "This server searches nothing; put what was found into a message.",
}
"""{parameter without which the answer would be another one: what to do instead}."""
WITHOUT_EFFECT = frozenset(
    {
        *("user", "safety_identifier", "service_tier", "metadata", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
"""Parameters that concern cost, speed or accounts, never the answer."""
HEADER = "x-jangin-ignored"
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_MOST_NAMES = 20


def refuse_unsupported(body: AnswerBody) -> None:
    """Raises `ApiError` 400 for a parameter that this server cannot do and must not leave out."""
    for name, advice in REFUSED.items():
        given = (body.model_extra or {}).get(name)
        if given and not (name == "modalities" and given == ["text"]):
            raise ApiError(
                400,
                f"This server does not support the parameter '{name}'. {advice}",
                param=name,
                code="unsupported_parameter",
            )


def ignored_header(body: AnswerBody) -> dict[str, str]:
    """The header of the reply with the names of parameters that changed nothing; often empty."""
    names = [
        name
        for name, value in (body.model_extra or {}).items()
        if value not in (None, False, [], {}) and name not in WITHOUT_EFFECT | {*REFUSED}
    ]
    shown = [name for name in names if _NAME.fullmatch(name)][:_MOST_NAMES]
    return {HEADER: ", ".join(shown)} if shown else {}
