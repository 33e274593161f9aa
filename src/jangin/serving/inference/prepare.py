"""Bodies of requests as requests to an engine: rendered, limited to the context, with grammars."""

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jangin.core.errors import JanginError
from jangin.core.records import Message, Role
from jangin.inference.taught_form import TaughtForm
from jangin.models.tokens.token_bytes import token_bytes
from jangin.serving.inference.bodies import (
    ChatBody,
    ChatMessage,
    NamedTool,
    ResponseFormat,
    SamplingBody,
    ToolCallPart,
)
from jangin.serving.inference.passages import NO_SOURCES, Sources
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.protocol.errors import ApiError, invalid_value
from jangin.serving.state.server import ServedModel

if TYPE_CHECKING:
    from jangin.inference.constraints import Adjustments, Grammar
    from jangin.inference.engine.engine import Engine, ModelTexts
    from jangin.inference.engine.requests import EngineAnswer, EngineRequest


# Counts of tokens, at least and in replies, and texts of single tokens.


def refuse_long(
    texts: Sequence[str], wording: "ModelTexts", context: int, param: str = "messages"
) -> None:
    """Refuse texts that cannot fit before they are tokenised; raises `ApiError`.

    Each has at least a token, and as many as its bytes are times the longest token.
    """
    least = max(len(texts), sum(len(text.encode()) for text in texts) // wording.longest_token)
    if least > context:
        raise ApiError(
            400,
            f"This model's maximum context length is {context} tokens. However, your {param} have "
            f"at least {least} tokens. Please reduce their length.",
            param=param,
            code="context_length_exceeded",
        )


def usage_of(answers: Sequence["EngineAnswer"], prompts: int) -> dict[str, Any]:
    """The object `usage` of a reply; the choices of one prompt count it once.

    `prompts`: how many there were; the answers to each follow each other.
    """
    each = len(answers) // prompts
    prompt = sum(answer.prompt_tokens for answer in answers[:: max(each, 1)])
    completion = sum(answer.completion_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(answer.generation.reasoning_tokens for answer in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def token_text(tokenizer: Any, token: int) -> str:
    """One token as text; a part of a character is the replacement character."""
    return str(tokenizer.decode([token], skip_special_tokens=False))


def plain_token(tokenizer: Any, token: int) -> str:
    r"""One token in `/completions`: text, or `bytes:\xec\x95` for a part of a character."""
    text = token_text(tokenizer, token)
    if "\ufffd" not in text:
        return text
    written = "".join(f"\\x{byte:02x}" for byte in token_bytes(tokenizer, token))
    return f"bytes:{written}"


log = logging.getLogger("jangin.serving")
MOST_STOPS = 4
_SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class PreparedRequests:
    """Requests to an engine that answer one request of a client."""

    model: str
    """The name in the request."""
    engine: "Engine"
    wording: "ModelTexts"
    requests: list["EngineRequest"] = field(default_factory=list)
    """The choices of the first prompt, then those of the second, ..."""
    tools: bool = False
    """Whether answers may call tools."""
    forced: bool = False
    """Whether the client named the tool, so that a call ends with the reason `stop`."""
    sources: Sources = NO_SOURCES
    """What of the project's documents the answers are generated from."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of every answer, beside the sampling."""

    max_tokens: int | None = None
    usual_tokens: int | None = None
    """Most tokens where there is no `max_tokens`; None for all that the context has room for."""
    logprobs: int | None = None
    """How many of the most likely tokens at each position; None for no log-probabilities."""
    grammar: "Grammar | None" = None
    streamed: bool = False
    raw_text: bool = False
    prompt_tops: int | None = None
    param: str = "messages"
    """Field that holds the prompt."""


def prepare_chat(inference: Inference, model: ServedModel, body: ChatBody) -> PreparedRequests:
    """The requests of a chat completion.

    Raises:
        ApiError: the model cannot answer it.

    """
    conversation, sources = with_passages(inference, model, body)
    messages = [plain_message(message, index) for index, message in enumerate(conversation)]
    if not body.logprobs and body.top_logprobs is not None:
        raise ApiError(
            400,
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            param="top_logprobs",
            code="invalid_value",
        )
    try:
        opened = inference.open(model)
        from jangin.inference.engine.prompts import render_conversation

        wording = opened.engine.wording(opened.artifact)
        offered = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
        calling = bool(offered) and body.tool_choice != "none"
        grammar = _grammar(wording, body, offered if calling else [])
        texts = [text_of(message) for message in conversation]
        texts += [tool.function.description or "" for tool in body.tools or ()] if calling else []
        refuse_long(texts, wording, opened.engine.context_length)
        ids = render_conversation(wording.tokenizer, messages, offered if calling else ())
        wish = Wish(
            body.max_completion_tokens or body.max_tokens,
            inference.answer_tokens,
            (body.top_logprobs or 0) if body.logprobs else None,
            grammar,
            streamed=bool(body.stream),
        )
        return PreparedRequests(
            body.model,
            opened.engine,
            wording,
            engine_requests(opened, wording, [ids], body, wish),
            tools=calling,
            forced=isinstance(body.tool_choice, NamedTool),
            sources=sources,
        )
    except (JanginError, ValueError) as error:
        raise api_error(error) from error


def with_passages(
    inference: Inference, model: ServedModel, body: ChatBody
) -> tuple[list[ChatMessage], Sources]:
    """(the messages with passages before the last question, those passages).

    The messages as they are for a model that was trained without passages. Raises: ApiError: the
    index cannot be read.
    """
    *before, last = body.messages
    if body.passages is False or last.role != "user":
        return body.messages, NO_SOURCES
    try:
        turns, sources = inference.passages.read_by(
            model, [Message(role="user", content=text_of(last))]
        )
    except JanginError as error:
        raise api_error(error) from error
    if not sources.hits:
        return body.messages, sources
    return [*before, *(ChatMessage(role=m.role, content=m.content) for m in turns)], sources


def count_prompt(inference: Inference, model: ServedModel, body: ChatBody) -> int:
    """Tokens of the prompt of a chat, which may be longer than the context; raises `ApiError`."""
    conversation, _ = with_passages(inference, model, body)
    messages = [plain_message(message, index) for index, message in enumerate(conversation)]
    tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
    try:
        opened = inference.open(model)
        from jangin.inference.engine.prompts import render_conversation

        wording = opened.engine.wording(opened.artifact)
        offered = tools if body.tool_choice != "none" else []
        return len(render_conversation(wording.tokenizer, messages, offered))
    except (JanginError, ValueError) as error:
        raise api_error(error) from error


def log_unlike(model: ServedModel, messages: Sequence[ChatMessage]) -> None:
    """A line in the log for a conversation of another form than the model was taught."""
    if model.adapter_folder is None:
        return
    roles: dict[str, Role] = {"developer": "system", "system": "system", "user": "user"}
    turns = [
        Message(role=roles.get(one.role, "assistant"), content=text_of(one)) for one in messages
    ]
    unlike = TaughtForm.read(model.adapter_folder).unlike(turns)
    if unlike.turns:
        log.info(
            "%s was taught on single questions, and this request has several turns", model.name
        )
    if unlike.system:
        log.info("%s never saw the system message of this request in training", model.name)


def text_of(message: ChatMessage) -> str:
    """The text of a message, with those of its parts."""
    content = message.content
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def engine_requests(
    opened: Any,
    wording: "ModelTexts",
    prompts: Sequence[Sequence[int]],
    body: SamplingBody,
    wish: Wish,
    choices: int | None = None,
) -> list["EngineRequest"]:
    """One request for each choice of each prompt.

    Raises:
        ApiError: 400 where a prompt leaves no room, or a setting is wrong.

    """
    from jangin.inference.continuous_batching import GenerationRequest
    from jangin.inference.engine.requests import EngineRequest

    if len(body.stop_strings) > MOST_STOPS:
        raise ApiError(
            400,
            f"Invalid 'stop': array too long. Expected at most {MOST_STOPS}.",
            param="stop",
            code="array_above_max_length",
        )
    seed = secrets.randbits(_SEED_BITS) if body.seed is None else body.seed
    context, adjustments = opened.engine.context_length, _adjustments(body, wish.grammar)
    return [
        EngineRequest(
            GenerationRequest(
                ids,
                room_for(len(ids), wish, context),
                temperature=1.0 if body.temperature is None else body.temperature,
                top_p=1.0 if body.top_p is None else body.top_p,
                seed=seed + choice,
                stop_strings=body.stop_strings,
                logprobs=wish.logprobs is not None,
                top_logprobs=wish.logprobs or 0,
                stop_ids=wording.stop_ids,
                streamed=wish.streamed,
                raw_text=wish.raw_text,
                adapter=str(opened.adapter) if opened.adapter is not None else None,
                adjustments=adjustments,
            ),
            wish.prompt_tops if choice == 0 else None,
            opened.artifact,
        )
        for ids in prompts
        for choice in range(choices or body.choices)
    ]


def room_for(prompt: int, wish: Wish, context: int) -> int:
    """Tokens of an answer at most: what the request asks for, up to the room that is left.

    vLLM refuses a prompt and `max_tokens` that together exceed the context
    (https://github.com/vllm-project/vllm/pull/33425), llama.cpp's server a prompt that does
    (https://github.com/ggml-org/llama.cpp/issues/17284). Here, too, only the prompt must fit: a
    client's fixed `max_tokens` is a limit, and an answer that fills the context ends with `length`.

    Raises:
        ApiError: 400 where no room is left, or the request asks for more than the whole context.

    """
    wanted, param, room = wish.max_tokens, wish.param, context - prompt
    if room < (0 if wanted == 0 else 1) or (wanted or 0) > context:
        completion = f" ({prompt} in the {param}, {wanted} in the completion)" if wanted else ""
        total = prompt + (wanted or 0)
        raise ApiError(
            400,
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{total} tokens{completion}. Please reduce the length of the {param}"
            f"{' or completion' if wanted else ''}.",
            param=param,
            code="context_length_exceeded",
        )
    return min(room, (wish.usual_tokens or room) if wanted is None else wanted)


def plain_message(message: ChatMessage, index: int) -> dict[str, Any]:
    """A message as chat templates take it; raises `ApiError` for parts that are no text."""
    content = message.content
    if isinstance(content, list):
        for number, part in enumerate(content):
            if part.type not in ("text", "input_text", "output_text", "refusal"):
                raise invalid_value(f"messages.{index}.content.{number}.type", part.type, ["text"])
        content = text_of(message)
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    plain: dict[str, Any] = {"role": role, "content": content}
    called = message.function_call
    if message.tool_calls:
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    elif called is not None:
        call = ToolCallPart(id=f"call_{called.name}", function=called)
        plain["tool_calls"] = [call.model_dump()]
    elif content is None:
        raise ApiError(
            400,
            f"Invalid value for 'messages.{index}.content': expected a string, got null.",
            param=f"messages.{index}.content",
            code="invalid_type",
        )
    if message.tool_call_id or message.role == "function":
        plain["tool_call_id"] = message.tool_call_id or f"call_{message.name}"
    if message.name:
        plain["name"] = message.name
    return plain


def schema_of(answer_format: ResponseFormat | None) -> Mapping[str, Any] | None:
    """The schema of a structured answer; None for text."""
    if answer_format is None or answer_format.type == "text":
        return None
    if answer_format.type == "json_object":
        return {"type": "object"}
    given = answer_format.json_schema
    if given is None or given.json_schema is None:
        raise ApiError(
            400,
            "Missing required parameter: 'response_format.json_schema.schema'.",
            param="response_format.json_schema.schema",
            code="missing_required_parameter",
        )
    return given.json_schema


def _grammar(
    wording: "ModelTexts", body: ChatBody, offered: Sequence[Mapping[str, Any]]
) -> "Grammar | None":
    choice = body.tool_choice
    if isinstance(choice, NamedTool):
        named = [tool for tool in offered if tool["function"]["name"] == choice.function.name]
        if not named:
            raise ApiError(
                400,
                f"Invalid value for 'tool_choice': no tool has the name '{choice.function.name}'.",
                param="tool_choice",
                code="invalid_value",
            )
        return wording.grammars.lark(wording.tools.grammar(named, parallel=False))
    if choice == "required":
        if not offered:
            raise ApiError(
                400,
                "Invalid value for 'tool_choice': 'required' needs 'tools'.",
                param="tool_choice",
                code="invalid_value",
            )
        several = body.parallel_tool_calls is not False
        return wording.grammars.lark(wording.tools.grammar(offered, parallel=several))
    schema = schema_of(body.response_format)
    if schema is None:
        return None
    if not offered:
        return wording.grammars.json_schema(schema)
    from jangin.inference.constraints import USUAL_SPACE

    # The model calls a tool or answers in the format; a call is no JSON of the schema.
    calls = wording.tools.grammar(offered, parallel=body.parallel_tool_calls is not False)
    calls = calls.replace("start:", "calls:", 1)
    answer = json.dumps({**schema, **USUAL_SPACE}, ensure_ascii=False)
    return wording.grammars.lark(f"start: calls | answer\nanswer: %json {answer}\n{calls}")


def _adjustments(body: SamplingBody, grammar: "Grammar | None") -> "Adjustments | None":
    from jangin.inference.constraints import Adjustments

    changes = Adjustments(
        body.logit_bias or {}, body.presence_penalty or 0.0, body.frequency_penalty or 0.0, grammar
    )
    return None if changes == Adjustments() else changes
