"""Training rows of a client as the files that the stages `read` and `preferences` take.

Calls of tools become text in the form of Hermes and Qwen: `<tool_call>` around a JSON object in the
assistant's message, `<tool_response>` in a user's message, and the definitions in the system one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from jangin.serving.files.validation import PREFERENCE_KEYS, messages_of, text_of

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
PAIRS, VALIDATION_PAIRS = "pairs.jsonl", "validation_pairs.jsonl"
"""Names of the files in the folder of a job."""
_ROLES = {"developer": "system", "tool": "user", "function": "user"}
_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{}\n"
    "</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)


def write_chats(source: BinaryIO, target: Path) -> int:
    """Write the rows of a checked file that have an answer as chats; returns their number.

    Rows of preference pairs become chats that end with the preferred answer.
    """
    count = 0
    with target.open("w", encoding="utf-8") as stream:
        for row in _answered_rows(source):
            _write(stream, {"messages": chat_of(row)})
            count += 1
    return count


def write_pairs(source: BinaryIO, target: Path) -> int:
    """Write the pairs of a checked file whose answers are not empty; returns their number."""
    count = 0
    with target.open("w", encoding="utf-8") as stream:
        for row in _answered_rows(source):
            better, worse = _answers(row)
            pair = {
                "input": {"messages": _prompt_of_pair(row)},
                "preferred_output": [better],
                "non_preferred_output": [worse],
            }
            _write(stream, pair)
            count += 1
    return count


def read_rows(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows of a file that was checked."""
    for number, line in enumerate(source):
        body = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        if body.strip():
            yield json.loads(body)


def _answered_rows(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows without those whose answers are empty."""
    return (row for row in read_rows(source) if _has_answers(row))


def chat_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row: `role` (system, user or assistant), `content`, and any `weight`."""
    if _is_preference(row):
        return [*_prompt_of_pair(row), _answers(row)[0]]
    return _plain(list(messages_of(row)), _definitions(row))


def _has_answers(row: Mapping[str, Any]) -> bool:
    if _is_preference(row):
        return all(answer["content"].strip() for answer in _answers(row))
    return any(
        turn["role"] == "assistant" and turn["content"].strip() and turn.get("weight", 1)
        for turn in chat_of(row)
    )


def _is_preference(row: Mapping[str, Any]) -> bool:
    return any(name in row for names in PREFERENCE_KEYS for name in names)


def calls_tools(row: Mapping[str, Any]) -> bool:
    """Whether a row defines or calls tools."""
    return bool(_definitions(row) or _definitions(row.get("input") or {}))


def _prompt_of_pair(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _plain(row["input"]["messages"], _definitions(row["input"]))


def _answers(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the preferred answer, the other one)."""
    better, worse = next(names for names in PREFERENCE_KEYS if names[0] in row)
    return _plain(row[better], [])[0], _plain(row[worse], [])[0]


def _definitions(row: Mapping[str, Any]) -> list[Any]:
    return [*(row.get("tools") or ()), *(row.get("functions") or ())]


def _plain(messages: Sequence[Mapping[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
    plain = []
    for message in messages:
        role = message["role"]
        text = text_of(message.get("content")) or ""
        if role in ("tool", "function"):
            text = f"<tool_response>\n{text}\n</tool_response>"
        calls = [_call(call) for call in _calls(message)]
        turn = {
            "role": _ROLES.get(role, role),
            "content": "\n".join(part for part in (text, *calls) if part),
        }
        if role == "assistant" and not turn["content"].strip():
            turn["weight"] = 0  # beside other answers, an empty one has nothing to train on
        elif message.get("weight") is not None:
            turn["weight"] = message["weight"]
        plain.append(turn)
    if tools:
        listed = _TOOLS.format("\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
        if plain and plain[0]["role"] == "system":
            plain[0]["content"] = f"{plain[0]['content']}\n\n{listed}"
        else:
            plain.insert(0, {"role": "system", "content": listed})
    return plain


def _calls(message: Mapping[str, Any]) -> list[Any]:
    single = message.get("function_call")
    return [*(message.get("tool_calls") or ()), *([single] if single else [])]


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function", call)
    value = {"name": function["name"], "arguments": json.loads(function["arguments"])}
    return f"<tool_call>\n{json.dumps(value, ensure_ascii=False)}\n</tool_call>"


def _write(stream: TextIO, row: Mapping[str, Any]) -> None:
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
