"""Validation of a training file, line by line, in constant memory.

The file may hold any bytes. Everything that is wrong with it becomes an error (it cannot be trained
on) or a warning, with the number of the example from 1; blank lines are no examples.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, BinaryIO, Literal

from jangin.core.errors import counted, counted_of
from jangin.text.normalize import text_key
from jangin.text.pii import kinds_in

# Checks of one row of a training file: chat, completion or preference.
#
# Rows are what a client sent, so any JSON value may be anywhere; no check raises.


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
class RowProblem:
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
    errors: list[RowProblem] = field(default_factory=list)
    warnings: list[RowProblem] = field(default_factory=list)
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
        self.errors.append(RowProblem(rule, text, message))

    def warn(self, rule: str, text: str, message: int = 0) -> None:
        """Add a warning."""
        self.warnings.append(RowProblem(rule, text, message))


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


# Distributions of counts in bounded memory, and epochs that suit a number of examples.


_EXACT = 2048
"""Larger values are counted with three significant digits."""
_EPOCHS, _MOST_EPOCHS = 3, 25
_FEW_ROWS, _MANY_ROWS = 100, 25_000


class CountSpread:
    """Counts of whole numbers from 0; values above 2048 are rounded to three digits."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._rows = 0
        self._total = 0
        self._least = 0
        self._most = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self._least = min(self._least, value) if self._rows else value
        self._most = max(self._most, value)
        self._rows += 1
        self._total += value
        self._counts[value if value <= _EXACT else _rounded(value)] += 1

    @property
    def total(self) -> int:
        """Sum of all values, exact."""
        return self._total

    def over(self, limit: int) -> int:
        """Number of values above a limit, as far as rounding tells."""
        return sum(count for value, count in self._counts.items() if value > limit)

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of all values does not exceed."""
        reached, values = 0, sorted(self._counts)
        for value in values:
            reached += self._counts[value]
            if reached >= share * self._rows:
                return min(max(value, self._least), self._most)
        return self._most

    def summary(self) -> dict[str, float | int]:
        """Smallest, largest, mean, median, and the 10th and 90th percentile."""
        return {
            "min": self._least,
            "max": self._most,
            "mean": round(self._total / self._rows, 2) if self._rows else 0.0,
            "median": self.quantile(0.5),
            "p10": self.quantile(0.1),
            "p90": self.quantile(0.9),
            "total": self._total,
        }


def _rounded(value: int) -> int:
    unit: int = 10 ** (len(str(value)) - 3)
    return value // unit * unit


def suggested_epochs(examples: int) -> int:
    """Number of epochs by number of examples: 3, more for few examples and fewer for very many.

    The rule of OpenAI's cookbook, *Data preparation and analysis for chat model fine-tuning*.
    """
    if examples <= 0:
        return _EPOCHS
    if examples * _EPOCHS < _FEW_ROWS:
        return min(_MOST_EPOCHS, _FEW_ROWS // examples)
    if examples * _EPOCHS > _MANY_ROWS:
        return max(1, _MANY_ROWS // examples)
    return _EPOCHS


MIN_EXAMPLES = 10
MOST_EMPTY = 0.05
"""Share of rows with nothing to train on beyond which a job fails."""
MAX_ROW_BYTES = 32 << 20
_LISTED_ERRORS = 100
_LISTED_EXAMPLES = 10
_HASHED_ROWS = 2_000_000
"""Rows among which copies are searched: 16 MB of hashes."""
_COMPARED_ROWS, _COMPARED_CHARACTERS = 10_000, 1_000
"""Rows, and characters of each, among which near-duplicates are searched."""
_SIMILAR = 0.95
"""Least share of equal characters (Levenshtein) of two rows that are nearly the same."""
_NUMBERS = re.compile(r"\d+")
_SYSTEM_ROWS, _SYSTEM_SHARE, _SYSTEM_TOKENS = 0.5, 0.5, 200
"""A system message is over-long if it is in this share of the rows, makes this share of all tokens,
and has this many itself."""
_LABELS = 100
_RARE_LABEL = 10
"""A label is rare when another one has this many times its rows."""
_FEW = 50
_READ_BYTES = 1 << 20
_TICK_ROWS = 1_000

FORMAT_NAMES: dict[Format, str] = {
    "chat": "fine-tune-chat",
    "completion": "fine-tune-completion",
    "preference": "fine-tune-preference",
}
METHOD_OF: dict[Format, str] = {
    "chat": "supervised",
    "completion": "supervised",
    "preference": "dpo",
}


@dataclass(slots=True)
class FileCheck:
    """What a training file holds, and what is wrong with it."""

    format: Format | None = None
    """Of the first row that has one."""
    examples: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """The first ones: `example`, `rule`, `message`."""
    error_count: int = 0
    warnings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{rule: `count`, `examples`, `message`}."""
    messages: CountSpread = field(default_factory=CountSpread)
    tokens: CountSpread = field(default_factory=CountSpread)
    """Estimated, of all texts of a row."""
    answer_tokens: CountSpread = field(default_factory=CountSpread)
    """Estimated, of what is trained on."""
    rows: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of each of the first rows."""
    prompts: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of each of their prompts."""
    texts: list[str] = field(default_factory=list)
    """Beginning of each of the first rows."""
    system: "Counter[str]" = field(default_factory=Counter)
    """Rows with each of the first system messages."""
    labels: "Counter[str]" = field(default_factory=Counter)
    empty: list[int] = field(default_factory=list)
    """Numbers of the first rows whose answers are empty; they are left out of training."""
    empty_count: int = 0

    @property
    def trained_examples(self) -> int:
        """Rows that have an answer to train on."""
        return self.examples - self.empty_count

    @property
    def valid(self) -> bool:
        """Whether it can be trained on."""
        return not self.error_count

    def fail(self, example: int, rule: str, message: str) -> None:
        """Add an error; only the first ones are kept in words."""
        self.error_count += 1
        if len(self.errors) < _LISTED_ERRORS:
            self.errors.append({"example": example, "rule": rule, "message": message})

    def warn(self, rule: str, message: str, example: int = 0, count: int = 1) -> None:
        """Count a warning; the message of its first example is kept."""
        warning = self.warnings.setdefault(rule, {"count": 0, "examples": [], "message": message})
        warning["count"] += count
        if example and len(warning["examples"]) < _LISTED_EXAMPLES:
            warning["examples"].append(example)

    def report(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "object": "file.report",
            "valid": self.valid,
            "format": self.format,
            "examples": self.examples,
            "error_count": self.error_count,
            "errors": self.errors,
            "warnings": [{"rule": rule, **w} for rule, w in sorted(self.warnings.items())],
            "distribution": {
                "messages_per_example": self.messages.summary(),
                "estimated_tokens_per_example": self.tokens.summary(),
                "estimated_answer_tokens_per_example": self.answer_tokens.summary(),
            },
            "suggested_n_epochs": suggested_epochs(self.examples),
        }


def check_file(
    stream: BinaryIO,
    min_examples: int = MIN_EXAMPLES,
    context_tokens: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> FileCheck:
    """The check of a file; never raises for what is in it.

    `context_tokens`: most tokens that the model reads; 0 where it is not known. `tick` is called
    every some rows; what it raises ends the check.
    """
    check = FileCheck()
    for line in _lines(stream):
        check.examples += 1
        if check.examples % _TICK_ROWS == 0:
            tick()
        if isinstance(line, RowProblem):
            check.fail(check.examples, line.rule, line.sentence(check.examples))
        else:
            _add_row(check, check_row(line))
    _check_whole(check, min_examples, context_tokens)
    return check


def _lines(stream: BinaryIO) -> Iterator[Any]:
    """The JSON value of each line that is not blank, or the problem with that line."""
    offset = 0
    while line := stream.readline(MAX_ROW_BYTES + 1):
        start, offset = offset, offset + len(line)
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_READ_BYTES)
                offset += len(line)
            yield RowProblem("too_long", f"has more than {MAX_ROW_BYTES >> 20} MB in one line")
            continue
        body = line.removeprefix(b"\xef\xbb\xbf") if start == 0 else line
        if body.strip():
            yield _parsed(body, start + len(line) - len(body))


def _parsed(line: bytes, offset: int) -> Any:
    """The JSON value of a line that begins at a byte of the file, or the problem with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return RowProblem(
            "not_utf8", f"is not UTF-8 (byte {offset + error.start} of the file){_guess(line)}"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at")
        return RowProblem("not_json", f"is not valid JSON: {reason} at character {error.pos + 1}")
    except (ValueError, RecursionError):
        return RowProblem(
            "not_json", "is not valid JSON: it is nested too deep or has a huge number"
        )


def _guess(line: bytes) -> str:
    """What other encoding a line may have."""
    if line[:1] in (b"\xff", b"\xfe") or b"\x00" in line[:64]:
        return ". It looks like UTF-16; save the file as UTF-8"
    try:
        text = line.decode("cp949")
    except UnicodeDecodeError:
        return ". Save the file as UTF-8"
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("\uac00" <= character <= "\ud7a3" for character in foreign)
    if hangul < 0.6 * len(foreign):
        return ". Save the file as UTF-8"
    return ". It looks like CP949 (EUC-KR); convert it: iconv -f cp949 -t utf-8"


def _add_row(check: FileCheck, row: RowCheck) -> None:
    number = check.examples
    for problem in row.errors:
        whole = problem.rule == "unexpected_format"
        text = UNEXPECTED if whole else problem.sentence(number)
        check.fail(number, problem.rule, text)
    for problem in row.warnings:
        check.warn(problem.rule, problem.sentence(number), number)
    if row.format is not None:
        check.format = check.format or row.format
        if row.format != check.format:
            check.fail(
                number,
                "mixed_formats",
                f"Example {number} is in the {row.format} format, but the examples before are in "
                f"the {check.format} format",
            )
    if row.errors:
        return
    if row.trains_nothing:
        check.empty_count += 1
        if len(check.empty) < _LISTED_EXAMPLES:
            check.empty.append(number)
    check.messages.add(row.messages)
    answers = sum(estimated_tokens(text) for text in row.answers)
    check.answer_tokens.add(answers)
    check.tokens.add(answers + sum(estimated_tokens(text) for text in row.prompt))
    if len(check.rows) < _HASHED_ROWS:
        prompt_hash, row_hash = _hashes(row)
        check.prompts.append(prompt_hash)
        check.rows.append(row_hash)
    if len(check.texts) < _COMPARED_ROWS:
        check.texts.append("\n".join((*row.prompt, *row.answers))[:_COMPARED_CHARACTERS])
    if row.system and (row.system in check.system or len(check.system) < _LABELS):
        check.system[row.system] += 1
    if len(check.labels) <= _LABELS:
        check.labels[row.label[:200]] += 1


def _hashes(row: RowCheck) -> tuple[int, int]:
    """64 bits of the prompt and of the row; equal where only case, spaces and NFC differ."""
    digest = blake2b(digest_size=8)
    for text in row.prompt:
        digest.update(text_key(text).encode(errors="replace") + b"\x1f")
    prompt = digest.digest()
    for text in row.answers:
        digest.update(text_key(text).encode(errors="replace") + b"\x1e")
    return int.from_bytes(prompt, "little"), int.from_bytes(digest.digest(), "little")


def estimated_tokens(text: str) -> int:
    """Tokens that a vocabulary with Korean spends on a text, roughly.

    A quarter of a token for each ASCII character, as in English prose, and one for any other.
    """
    others = 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
    return others + -(-(len(text) - others) // 4)


def _check_whole(check: FileCheck, min_examples: int, context_tokens: int) -> None:
    """What only the whole file shows."""
    if check.trained_examples < min_examples:
        answered = " with an answer to train on" if check.empty_count else ""
        check.fail(
            0,
            "n_examples",
            f"has {check.trained_examples} example(s){answered}, but must have at least "
            f"{min_examples} examples",
        )
    elif check.examples < _FEW:
        check.warn(
            "few_examples",
            f"{counted(check.examples, 'example is', 'examples are')} few; {_FEW} to {2 * _FEW} "
            "good ones are recommended",
        )
    _check_empty(check)
    repeated = _repeated(check.rows)
    if repeated:
        check.warn(
            "duplicates",
            f"{counted(repeated, 'example repeats', 'examples repeat')} another one; each is "
            "trained on once per epoch",
            count=repeated,
        )
    _check_near_duplicates(check)
    _check_system(check)
    asked_again = _repeated(check.prompts) - repeated
    if asked_again > 0 and check.format != "preference":
        check.warn(
            "conflicts",
            f"{counted(asked_again, 'example has', 'examples have')} the prompt of another one "
            "with another answer",
            count=asked_again,
        )
    over = check.tokens.over(context_tokens) if context_tokens else 0
    if over:
        check.warn(
            "too_long",
            f"{counted(over, 'example')} may be longer than {context_tokens} tokens; they are "
            "truncated at the end",
            count=over,
        )
    _check_labels(check)


def _check_empty(check: FileCheck) -> None:
    """Say which rows are left out for want of an answer; too many of them are an error."""
    if not check.empty_count:
        return
    more = ", ..." if check.empty_count > len(check.empty) else ""
    listed = ", ".join(map(str, check.empty)) + more
    rows = (
        f"{counted_of(check.empty_count, check.examples, 'example', 'has', 'have')} an empty answer"
    )
    if check.empty_count > MOST_EMPTY * check.examples:
        check.fail(
            0,
            "no_trainable_tokens",
            f"{rows}, so they have no tokens to train on: {listed}. Write the answers, or remove "
            "these examples",
        )
    check.warn("no_trainable_tokens", f"{rows} and are left out of training: {listed}")
    check.warnings["no_trainable_tokens"]["examples"] = list(check.empty)


def _check_near_duplicates(check: FileCheck) -> None:
    """Warn about rows that are nearly the same; rows that differ in a number are not."""
    from jangin.text.dedup.near_duplicates import DuplicateRules, find_matches

    texts, check.texts = check.texts, []
    numbers = [_NUMBERS.findall(text) for text in texts]
    pairs = find_matches(texts, DuplicateRules(threshold=_SIMILAR)).pairs.tolist()
    near = {later for first, later in pairs if numbers[first] == numbers[later]}
    if near:
        first_rows = f" of the first {len(texts)}" if len(texts) == _COMPARED_ROWS else ""
        check.warn(
            "near_duplicates",
            counted(len(near), f"example{first_rows} is", f"examples{first_rows} are")
            + " nearly the same as an earlier one",
            count=len(near),
        )


def _check_system(check: FileCheck) -> None:
    """Warn about a system message that most rows repeat and that is most of what is read."""
    if not check.system:
        return
    (text, rows), tokens = check.system.most_common(1)[0], check.tokens.total
    length = estimated_tokens(text)
    share = length * rows / max(1, tokens)
    if (
        length >= _SYSTEM_TOKENS
        and rows >= _SYSTEM_ROWS * check.examples
        and share >= _SYSTEM_SHARE
    ):
        check.warn(
            "long_system",
            f"the same system message of about {length} tokens is in {counted(rows, 'example')} "
            f"and makes {share:.0%} of all tokens; a tuned model needs a short one only",
            count=rows,
        )


def _check_labels(check: FileCheck) -> None:
    """Warn about rare labels where answers are labels: few different ones, each repeated."""
    rows = sum(check.labels.values())
    if not 2 <= len(check.labels) <= min(_LABELS, rows // 3):
        return
    (most, many), (least, few) = check.labels.most_common(1)[0], check.labels.most_common()[-1]
    if many >= _RARE_LABEL * few:
        check.warn(
            "label_imbalance",
            f"the answer {most[:40]!r} has {counted(many, 'example')}, {least[:40]!r} has {few}",
        )


def _repeated(hashes: "array[int]") -> int:
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64))) if len(hashes) else 0


def overlap(training: FileCheck, validation: FileCheck) -> int:
    """Rows of the validation file whose prompt is also one of the training file."""
    import numpy as np

    if not len(training.prompts) or not len(validation.prompts):
        return 0
    trained = np.frombuffer(training.prompts, np.uint64)
    return int(np.isin(np.frombuffer(validation.prompts, np.uint64), trained).sum())


@dataclass(frozen=True, slots=True)
class JobFault:
    """Why a file fails a job: its `error`."""

    code: str
    param: str
    message: str


def job_fault(
    check: FileCheck, method: str, file_id: str, *, validation: bool = False
) -> JobFault | None:
    """The error of a job with this file and method; None for a file that fits."""
    which = "validation" if validation else "training"
    param, code = f"{which}_file", f"invalid_{which}_file"
    few, empty = (_of_file(check, rule) for rule in ("n_examples", "no_trainable_tokens"))
    others = [e for e in check.errors if e not in (few, empty)]
    start = f"The job failed due to an invalid {which} file."
    if few is not None and not others:
        return JobFault("invalid_n_examples", param, f"{which.capitalize()} file {few['message']}")
    if empty is not None and not others:
        return JobFault("no_trainable_tokens", param, f"{start} {empty['message']}.")
    if others:
        more = check.error_count - (few is not None) - (empty is not None) - 1
        rest = f" ({more} more problems are in the report of the file.)" if more else ""
        return JobFault(code, param, f"{start} {_first_problem(check, others[0])}{rest}")
    if check.format is not None and METHOD_OF[check.format] != method:
        return JobFault(
            code,
            param,
            f"{start} Invalid file format. Input file {file_id} is in the "
            f"{FORMAT_NAMES[check.format]} format, but the specified fine-tuning job is not using "
            f"'{METHOD_OF[check.format]}' as the training method (provided method={method}). ",
        )
    return None


def _of_file(check: FileCheck, rule: str) -> dict[str, Any] | None:
    """The error of a rule about the file as a whole; None where the file keeps it."""
    return next((e for e in check.errors if not e["example"] and e["rule"] == rule), None)


def _first_problem(check: FileCheck, error: Mapping[str, Any]) -> str:
    """An error of a row in OpenAI's words; its number where other rows have a known format."""
    message = str(error["message"])
    if error["rule"] != "unexpected_format":
        return f"Invalid file format. {message}"
    return message if check.format is None else f"Example {error['example']}: {message}"
