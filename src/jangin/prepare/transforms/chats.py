"""Read and validate chats, in the form of OpenAI (`role`, `content`) or ShareGPT (`from`, `value`).

A chat becomes the columns `CHAT_COLUMNS`: the last question and its answer, the system message, and
the turns before as `history`, JSON objects with commas between them.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jangin.prepare.tables.schema import REASON

if TYPE_CHECKING:
    import polars as pl

CHAT_COLUMNS = ("system", "history", "prompt", "completion")
"""Columns that `unpack_messages` adds."""
CHAT_NAMES = ("messages", "conversations", "conversation")
"""Columns that hold chats, in order of preference."""
ROLES = ("system", "user", "assistant")
_SHAREGPT = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "system": "system",
}  # fmt: skip

Turn = dict[str, Any]
"""`role` and `content`, and `weight` where the file has one."""


def read_messages(text: str) -> list[Turn] | str:
    """The messages of a chat that ends with an answer, or the reason why it is not usable."""
    try:
        value = json.loads(text or "null")
    except ValueError:
        return "messages is no JSON"
    if not isinstance(value, list):
        return "messages is no list"
    messages = read_turns(value)
    if isinstance(messages, str):
        return messages
    if messages[-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    if not any(message["role"] == "user" for message in messages):
        return "there is no message of the user"
    return messages


def read_turns(value: Sequence[Any]) -> list[Turn] | str:
    """Parsed messages with the roles of OpenAI, or the reason why they are not usable."""
    if not value:
        return "messages is empty"
    messages: list[Turn] = []
    for given in value:
        message = _of_sharegpt(given)
        fault = _fault(message)
        if fault:
            return fault
        turn: Turn = {"role": message["role"], "content": _text(message["content"])}
        if message.get("weight") in (0, 1):
            turn["weight"] = int(message["weight"])
        messages.append(turn)
    return messages


def _of_sharegpt(message: Any) -> Any:
    """A message with `role` and `content` in place of `from` and `value`."""
    if not isinstance(message, dict) or "role" in message or "from" not in message:
        return message
    role = _SHAREGPT.get(str(message["from"]).lower(), message["from"])
    return {"role": role, "content": message.get("value"), "weight": message.get("weight")}


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


def turns_of(messages: Sequence[Turn]) -> dict[str, str] | str:
    """{system, history, prompt, completion} of a chat, or the reason why it is not usable."""
    if not any(message["role"] == "assistant" for message in messages[:-1]):
        system = [message for message in messages if message["role"] == "system"]
        rest = [message for message in messages if message["role"] != "system"]
    else:
        first = next(i for i, message in enumerate(messages) if message["role"] != "system")
        system, rest = list(messages[:first]), list(messages[first:])
    *history, question, answer = rest
    if question["role"] != "user":
        return "the message before the last answer is not the user's"
    if answer.get("weight") == 0:
        return "the last answer has weight 0, which excludes it from training"
    return {
        "system": "\n\n".join(message["content"] for message in system),
        "history": _history(history),
        "prompt": question["content"],
        "completion": answer["content"],
    }


def history_turns(history: str) -> list[Turn]:
    """The messages of a cell of `history`."""
    turns: list[Turn] = json.loads(f"[{history}]")
    return turns


def history_text(history: str) -> str:
    """The texts of a cell of `history`, which identify the chat."""
    return "\n\n".join(turn["content"] for turn in history_turns(history))


def chat_column(columns: Sequence[str]) -> str:
    """The column that holds chats; the name `messages` if there is none."""
    known = {name.lower(): name for name in columns}
    return next((known[name] for name in CHAT_NAMES if name in known), CHAT_NAMES[0])


def rewritten(column: str, change: "Callable[[pl.Series], pl.Series]") -> "pl.Expr":
    """A column of conversations with `change` applied to the text of every turn."""
    import polars as pl

    def rewrite(cells: "pl.Series") -> "pl.Series":
        chats = [history_turns(cell or "") for cell in cells]
        texts = pl.Series([turn["content"] for turns in chats for turn in turns], dtype=pl.String)
        changed = iter(change(texts))
        for turns in chats:
            for turn in turns:
                turn["content"] = next(changed)
        return pl.Series(cells.name, list(map(_history, chats)), dtype=pl.String)

    return pl.col(column).map_batches(rewrite, return_dtype=pl.String, is_elementwise=True)


def _history(turns: Sequence[Turn]) -> str:
    return ",".join(json.dumps(t, ensure_ascii=False, separators=(",", ":")) for t in turns)


def unpack_messages(
    frame: "pl.LazyFrame", column: str = "messages", system: str = ""
) -> "pl.LazyFrame":
    """Add `CHAT_COLUMNS` from a column of chats; those that are not usable are dropped.

    The column `system` gives chats without a system message their own.
    """
    names = (column, system) if system else (column,)
    return unpack(frame, names, CHAT_COLUMNS, lambda cells: _columns_of(*cells))


def unpack(
    frame: "pl.LazyFrame",
    columns: Sequence[str],
    names: Sequence[str],
    read: Callable[..., dict[str, str] | str],
) -> "pl.LazyFrame":
    """Add the columns `names` that `read` makes of the cells of `columns`, or its drop reason.

    `read` gets the tuple of cells of a row and returns {name: text}, or a reason as a text.
    """
    import polars as pl

    kind = pl.Struct(dict.fromkeys((*names, "fault"), pl.String))
    none: dict[str, str | None] = dict.fromkeys((*names, "fault"))

    def unpack_rows(given: "Sequence[pl.Series]") -> "pl.Series":
        rows = []
        for cells in zip(*given, strict=True):
            texts = read(cells)
            rows.append({**none, **({"fault": texts} if isinstance(texts, str) else texts)})
        return pl.Series(rows, dtype=kind)

    parsed = pl.map_batches(
        [pl.col(name) for name in columns], unpack_rows, return_dtype=kind, is_elementwise=True
    )
    fields = [pl.col("__chat").struct.field(name) for name in names]
    fault = pl.coalesce(REASON, pl.col("__chat").struct.field("fault"))
    return (
        frame.with_columns(parsed.alias("__chat"))
        .with_columns(fault.alias(REASON), *fields)
        .drop("__chat")
    )


def _columns_of(text: str | None, system: str | None = None) -> dict[str, str] | str:
    messages = read_messages(text or "")
    texts = messages if isinstance(messages, str) else turns_of(messages)
    if isinstance(texts, dict) and system and not texts["system"]:
        texts["system"] = system
    return texts
