"""Read and validate chats in a column `messages`, the format of fine-tuning files."""

import json
from typing import TYPE_CHECKING, Any

from jangin.prepare.tables.schema import REASON

if TYPE_CHECKING:
    import polars as pl

CHAT_COLUMNS = ("system", "prompt", "completion")
"""Columns that `unpack_messages` adds."""
ROLES = ("system", "user", "assistant")


def read_messages(text: str) -> list[dict[str, str]] | str:
    """The messages of a chat that ends with an answer, or the reason why it is not usable."""
    try:
        value = json.loads(text or "null")
    except ValueError:
        return "messages is no JSON"
    if not isinstance(value, list):
        return "messages is no list"
    if not value:
        return "messages is empty"
    messages: list[dict[str, str]] = []
    for message in value:
        fault = _fault(message)
        if fault:
            return fault
        messages.append({"role": message["role"], "content": _text(message["content"])})
    if messages[-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    if not any(message["role"] == "user" for message in messages):
        return "there is no message of the user"
    return messages


def _fault(message: Any) -> str:
    """The reason why a message is not usable; empty if it is."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
        other = next((kind for kind in kinds if kind != "text"), None)
        if other is not None:
            return f"content of type {other} is not text"
        content = _text(content) if all(map(_is_text, content)) else None
    if not isinstance(content, str):
        return "a message has no text"
    if message.get("role") not in ROLES:
        return f"a message has the role {message.get('role')!r}"
    return ""


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _text(content: str | list[dict[str, str]]) -> str:
    """The content as text; OpenAI's list of text parts is joined."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def unpack_messages(frame: "pl.LazyFrame") -> "pl.LazyFrame":
    """Add `CHAT_COLUMNS` from the column `messages`; chats that are not one turn are dropped."""
    import polars as pl

    kind = pl.Struct(dict.fromkeys((*CHAT_COLUMNS, "fault"), pl.String))
    parsed = pl.col("messages").map_batches(_unpack, return_dtype=kind, is_elementwise=True)
    fields = [pl.col("__chat").struct.field(name) for name in CHAT_COLUMNS]
    fault = pl.coalesce(REASON, pl.col("__chat").struct.field("fault"))
    return (
        frame.with_columns(parsed.alias("__chat"))
        .with_columns(fault.alias(REASON), *fields)
        .drop("__chat")
    )


def _unpack(texts: "pl.Series") -> "pl.Series":
    import polars as pl

    rows = [_columns_of(text or "") for text in texts]
    kind = pl.Struct(dict.fromkeys((*CHAT_COLUMNS, "fault"), pl.String))
    return pl.Series(rows, dtype=kind)


def _columns_of(text: str) -> dict[str, str | None]:
    none: dict[str, str | None] = dict.fromkeys((*CHAT_COLUMNS, "fault"))
    messages = read_messages(text)
    if isinstance(messages, str):
        return {**none, "fault": messages}
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [message for message in messages if message["role"] != "system"]
    if [message["role"] for message in rest] != ["user", "assistant"]:
        return {**none, "fault": "a conversation of several turns"}
    return {
        **none,
        "system": system,
        "prompt": rest[0]["content"],
        "completion": rest[1]["content"],
    }
