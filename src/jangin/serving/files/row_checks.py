"""Checks of one row of a training file: chat, completion or preference.

Rows are what a client sent, so any JSON value may be anywhere; no check raises.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jangin.text.pii import kinds_in

Format = Literal["chat", "completion", "preference"]

_SYSTEM = frozenset({"system", "developer"})
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PREFERENCE_KEYS = (
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
)
"""Names of the better and the worse answer: those of the guides, and those of the reference."""
UNEXPECTED = "Unexpected file format, expected either prompt/completion pairs or chat messages."
_CHAT_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
_INPUT_KEYS = {"messages", "tools", "parallel_tool_calls"}
_MESSAGE_KEYS = {
    *("role", "content", "weight", "name", "tool_calls", "tool_call_id", "function_call"),
    "refusal",
}
_MOST_FUNCTIONS = 128
_MOJIBAKE = re.compile("[\u00ea-\u00ed][\u0080-\u00bf]{2}|\ufffd")
_DECOMPOSED = re.compile("[\u1100-\u11ff]")
_SECRET = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,200}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,200}|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
)

_SECRET_MARKS = (*("sk-", "AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "PRIVATE KEY"),)
"""One of them is in every secret; looking for them first is ten times as fast."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a row."""

    rule: str
    text: str
    """Continues `Example 3` or `Example 3, message 2`."""
    message: int = 0
    """Number of the message from 1; 0 for the row as a whole."""

    def sentence(self, example: int) -> str:
        """The problem with the number of the example, from 1."""
        where = f", message {self.message}" if self.message else ""
        return f"Example {example}{where} {self.text}"


@dataclass(slots=True)
class RowCheck:
    """One row: its format, its texts and what is wrong with it."""

    format: Format | None
    """None for a row of no known format."""
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    messages: int = 0
    prompt: list[str] = field(default_factory=list)
    """Texts that the model reads."""
    answers: list[str] = field(default_factory=list)
    """Texts that it learns to write."""
    system: str = ""
    """The first system message."""
    label: str = ""
    """The last answer."""
    trains_nothing: bool = False
    """Its answers are empty, so that it is left out of training."""

    def fail(self, rule: str, text: str, message: int = 0) -> None:
        """Add an error."""
        self.errors.append(Problem(rule, text, message))

    def warn(self, rule: str, text: str, message: int = 0) -> None:
        """Add a warning."""
        self.warnings.append(Problem(rule, text, message))


def check_row(value: object) -> RowCheck:
    """The check of one JSON value."""
    if not isinstance(value, dict):
        row = RowCheck(None)
        row.fail("not_an_object", "is not a JSON object")
        return row
    row = RowCheck(format_of(value))
    if row.format is None:
        row.fail("unexpected_format", UNEXPECTED)
    elif row.format == "chat":
        _check_chat(row, value)
    elif row.format == "completion":
        _check_completion(row, value)
    else:
        _check_preference(row, value)
    _check_texts(row)
    return row


def format_of(row: Mapping[str, Any]) -> Format | None:
    """The format that the keys of a row suggest."""
    if "messages" in row:
        return "chat"
    if any(name in row for names in PREFERENCE_KEYS for name in names):
        return "preference"
    return "completion" if "prompt" in row and "completion" in row else None


def text_of(content: object) -> str | None:
    """The text of a message's content, whose parts are joined; None for other content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    parts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in content
    ]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _check_chat(row: RowCheck, value: Mapping[str, Any]) -> None:
    _unknown_keys(row, value, _CHAT_KEYS)
    tools = _tool_names(row, value)
    messages = value["messages"]
    if not _is_conversation(row, messages):
        return
    _check_messages(row, messages, tools)
    if row.errors:
        return
    last = messages[-1]
    if not any(message["role"] == "assistant" for message in messages):
        row.fail("no_assistant", "has no message of the assistant, so there is nothing to learn")
    elif last["role"] != "assistant":
        row.fail("last_not_assistant", "does not end with a message of the assistant")
    elif not row.answers:
        row.fail("all_weights_0", "has weight 0 on every message of the assistant")
    row.trains_nothing = not any(map(str.strip, row.answers))


def _is_conversation(row: RowCheck, messages: object) -> bool:
    if isinstance(messages, list) and messages:
        row.messages = len(messages)
        return True
    row.fail("no_messages", "has no messages" if messages == [] else "messages is not a list")
    return False


def _check_messages(row: RowCheck, messages: Sequence[Any], tools: set[str] | None) -> None:
    """Every message by itself, and that results of tools follow their calls."""
    calls: set[str] = set()
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            row.fail("not_an_object", "is not an object with a role and a content", number)
            continue
        role = message.get("role")
        if "role" not in message:
            row.fail("role_missing", "Discriminator 'role' is missing in value", number)
            continue
        if role not in ROLES:
            shown = json.dumps(role, ensure_ascii=False)[:60]
            row.fail("role_unknown", f"has the role {shown}; use {', '.join(ROLES)}", number)
            continue
        _check_message(row, message, number)
        _check_calls(row, message, number, tools, calls)
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if not _SYSTEM & {role for role in roles if isinstance(role, str)}:
        row.warn("missing_system", "has no system message")
    if "user" not in roles:
        row.warn("missing_user", "has no user message")


def _check_message(row: RowCheck, message: Mapping[str, Any], number: int) -> None:
    """Content, weight and names of keys of a message with a known role."""
    for key in message:
        if key not in _MESSAGE_KEYS:
            row.warn("unknown_message_key", f"has the unknown key {key[:60]!r}", number)
    assistant = message["role"] == "assistant"
    weight = message.get("weight")
    if weight is not None and not assistant:
        row.fail("weight", "has a weight, which only messages of the assistant may have", number)
    elif weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        row.fail("weight", f"has the weight {str(weight)[:20]}; use 0 or 1", number)
    text = text_of(message.get("content"))
    if text is not None:
        if assistant and not text.strip() and not _calls_of(message):
            row.warn("empty_assistant", "is an empty answer", number)
        learned = assistant and weight != 0
        (row.answers if learned else row.prompt).append(text)
        if learned and _calls_of(message):
            row.answers.append(json.dumps(_calls_of(message), ensure_ascii=False))
        row.label = text if assistant else row.label
        if message["role"] in _SYSTEM and not row.system:
            row.system = text
    elif message.get("content") is not None:
        row.fail("content", "has a content that is neither text nor a list of text parts", number)
    elif not _calls_of(message):
        row.fail("content_missing", "has no content", number)
    elif assistant and weight != 0:
        row.answers.append(json.dumps(_calls_of(message), ensure_ascii=False))


def _calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The calls of tools and functions in a message of the assistant."""
    if message.get("role") != "assistant":
        return []
    calls = message.get("tool_calls")
    single = message.get("function_call")
    return [*(calls if isinstance(calls, list) else []), *([single] if single else [])]


def _check_calls(
    row: RowCheck,
    message: Mapping[str, Any],
    number: int,
    tools: set[str] | None,
    calls: set[str],
) -> None:
    """Calls have a definition and JSON arguments; results answer a call before them."""
    for call in _calls_of(message):
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            row.fail("tool_call", "has a tool call without the name of a function", number)
            continue
        if tools is not None and name not in tools:
            row.fail("tool_call", f"calls {name[:60]!r}, which the tools do not define", number)
        if not _is_json(function.get("arguments")):
            row.fail("tool_call", f"calls {name[:60]!r} with arguments that are no JSON", number)
        calls.add(str(call.get("id", name)))
        calls.add(name)
    if message["role"] not in ("tool", "function"):
        return
    answered = message.get("tool_call_id", message.get("name"))
    if not isinstance(answered, str) or answered not in calls:
        row.fail("tool_result", "is the result of a tool that was not called before", number)


def _is_json(arguments: object) -> bool:
    if not isinstance(arguments, str):
        return False
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _tool_names(row: RowCheck, value: Mapping[str, Any]) -> set[str] | None:
    """Names of the defined functions; None where their definition itself is wrong."""
    names: set[str] = set()
    for key in ("tools", "functions"):
        listed = value.get(key)
        if listed is None:
            continue
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_FUNCTIONS:
            row.fail("tools", f"{key} is not a list of 1 to {_MOST_FUNCTIONS} definitions")
            return None
        for tool in listed:
            function = tool.get("function", tool) if isinstance(tool, dict) else None
            name = function.get("name") if isinstance(function, dict) else None
            if not isinstance(name, str):
                row.fail("tools", f"{key} has a definition without a name")
                return None
            names.add(name)
    return names


def _unknown_keys(row: RowCheck, value: Mapping[str, Any], known: set[str]) -> None:
    for key in value:
        if key not in known:
            row.warn("unknown_key", f"has the unknown key {key[:60]!r}, which is not read")


def _check_completion(row: RowCheck, value: Mapping[str, Any]) -> None:
    _unknown_keys(row, value, {"prompt", "completion"})
    row.messages = 2
    for key in ("prompt", "completion"):
        if not isinstance(value[key], str):
            row.fail("content", f"has a {key} that is no text")
            return
    if not value["completion"].strip():
        row.warn("empty_assistant", "has an empty completion")
    row.prompt, row.answers = [value["prompt"]], [value["completion"]]
    row.label = value["completion"]
    row.trains_nothing = not row.label.strip()


def _check_preference(row: RowCheck, value: Mapping[str, Any]) -> None:
    pair = next(names for names in PREFERENCE_KEYS if {*names} & {*value})
    _unknown_keys(row, value, {"input", *pair})
    given = value.get("input")
    if not isinstance(given, dict):
        row.fail("no_messages", "has no input with messages")
        return
    _unknown_keys(row, given, _INPUT_KEYS)
    tools = _tool_names(row, given)
    if not _is_conversation(row, given.get("messages")):
        return
    _check_messages(row, given["messages"], tools)
    row.prompt, row.answers = [*row.prompt, *row.answers], []
    for key in pair:
        answer = _single_answer(row, value.get(key), key)
        if answer is not None:
            row.answers.append(answer)
    if len(row.answers) == len(pair):
        row.label = row.answers[0]
        row.trains_nothing = not all(map(str.strip, row.answers))
        if row.answers[0] == row.answers[1]:
            row.warn("equal_answers", "has the same preferred and non-preferred answer")


def _single_answer(row: RowCheck, given: object, key: str) -> str | None:
    """The text of the one message of an answer of a preference row."""
    if not isinstance(given, list) or len(given) != 1:
        row.fail("one_answer", f"{key} is not a list of one message")
        return None
    message = given[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        row.fail("one_answer", f"{key} is not a message of the assistant")
        return None
    text = text_of(message.get("content"))
    if text is None or _calls_of(message):
        row.fail("content", f"{key} is not a message of text")
        return None
    return text


def _check_texts(row: RowCheck) -> None:
    """What the texts of a row contain, in every format."""
    rules: set[str] = set()
    for text in (*row.prompt, *row.answers):
        if not text.isascii():
            if not _is_encodable(text):
                row.fail("surrogate", "contains half of a surrogate pair, which is no character")
                return
            if _MOJIBAKE.search(text):
                rules.add("mojibake")
            if _DECOMPOSED.search(text):
                rules.add("decomposed")
        if any(mark in text for mark in _SECRET_MARKS) and _SECRET.search(text):
            rules.add("secret")
        rules.update(f"personal_data_{kind}" for kind in kinds_in(text))
    for rule in sorted(rules):
        row.warn(rule, _TEXT_WARNINGS.get(rule, "contains what looks like personal data"))


_TEXT_WARNINGS = {
    "mojibake": "contains characters of a wrong encoding, such as \ufffd",
    "decomposed": "contains decomposed Hangul (NFD)",
    "secret": "contains what looks like a key or password",
}


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def messages_of(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The messages of a valid chat row, or the two of a completion row."""
    if "messages" in row:
        yield from row["messages"]
        return
    yield {"role": "user", "content": row["prompt"]}
    yield {"role": "assistant", "content": row["completion"]}
