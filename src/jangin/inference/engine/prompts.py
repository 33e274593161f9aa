"""Prompts of the API's conversations, rendered as training renders them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from jangin.core.errors import TrainingError
from jangin.core.records import Message
from jangin.inference.engine.tools import ToolFormat, described
from jangin.models.tokens.chat_template import render_prompts
from jangin.models.tokens.rendering import encode_texts, guard_control_tokens

_PLAIN_ROLES = {"system", "user", "assistant"}


def render_conversation(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """Token ids to generate from.

    `messages` have a role, a text as content or None, and may have `tool_calls` and
    `tool_call_id`. Control tokens in texts are read as text. Without tools the ids are those that
    the pipeline trains and evaluates with.

    Raises:
        TrainingError: there is no chat template, or it refuses the conversation.

    """
    with_calls = any(m["role"] not in _PLAIN_ROLES or m.get("tool_calls") for m in messages)
    if not tools and not with_calls:
        plain = [Message(role=m["role"], content=m["content"] or "") for m in messages]
        return render_prompts(tokenizer, [plain], control_tokens="escape")[0]
    if ToolFormat.of(tokenizer).family == "plain" and "tools" not in (
        tokenizer.chat_template or ""
    ):
        told = _as_text(messages)
        if tools:
            told = _with_system(told, described(tools))
        return render_conversation(tokenizer, told)
    return _with_tools(tokenizer, messages, tools)


def _with_tools(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[int]:
    texts = [Message(role="user", content=m.get("content") or "") for m in messages]
    (guarded,) = guard_control_tokens(tokenizer, [texts], control_tokens="escape")
    known = [
        {**_parsed_calls(message), "content": text.content}
        for message, text in zip(messages, guarded, strict=True)
    ]
    try:
        text = tokenizer.apply_chat_template(
            known, tools=list(tools) or None, tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError) as error:
        raise TrainingError(
            f"the model's chat template refuses the conversation: {error}. Change its turns."
        ) from error
    (encoded,) = encode_texts(tokenizer, [str(text)])
    return [int(token) for token in encoded.ids]


def _parsed_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with the arguments of its calls as objects, as chat templates want them."""
    parsed = dict(message)
    if message.get("tool_calls"):
        parsed["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _object(call["function"])}}
            for call in message["tool_calls"]
        ]
    return parsed


def _object(function: Mapping[str, Any]) -> Any:
    try:
        return json.loads(function["arguments"])
    except ValueError:
        return function["arguments"]


def _as_text(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls and their results as text, for a template that has no place for them."""
    told: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content") or ""
        for call in message.get("tool_calls") or ():
            named = {"name": call["function"]["name"], "arguments": _object(call["function"])}
            content += json.dumps(named, ensure_ascii=False)
        role = "user" if message["role"] == "tool" else message["role"]
        told.append({"role": role, "content": content})
    return told


def _with_system(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    if messages and messages[0]["role"] == "system":
        first = {"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
