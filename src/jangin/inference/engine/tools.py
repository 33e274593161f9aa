"""Calls of tools in the formats of the usual chat templates.

Which format a model writes is read from its chat template. A template that knows no tools gets
their description in the system message, and calls are one JSON object.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jangin.inference.constraints import USUAL_SPACE

Family = Literal["hermes", "llama", "mistral", "plain"]
Choice = Literal["none", "auto", "required"] | str

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MISTRAL, _ARGUMENTS = "[TOOL_CALLS]", "[ARGS]"
_PYTHON = "<|python_tag|>"
_BEGUN = re.compile(
    rf"(?:{_OPEN}|\[TOOL_CALLS\]\s*\[?|<\|python_tag\|>|;)?\s*"
    r'(?P<call>\{\s*"name"\s*:\s*"(?P<name>[^"\\]+)"\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*(?P<arguments>\{.*))',
    re.DOTALL,
)
"""A call up to its arguments, and what follows, with the marker before it."""
PLAIN_INSTRUCTION = (
    "You can call these tools, given as JSON Schema:\n{tools}\n"
    'To call one, answer with nothing but {{"name": NAME, "arguments": {{...}}}}.'
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call."""

    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How one model writes calls."""

    family: Family
    marker_id: int | None
    """Token of the marker before a call, where it is a special token, which texts lack."""

    @classmethod
    def of(cls, tokenizer: Any) -> "ToolFormat":
        """The format that the chat template shows."""
        template = str(tokenizer.chat_template or "")
        family: Family = "plain"
        if "tools" not in template:
            return cls("plain", None)
        if _MISTRAL in template:
            family = "mistral"
        elif _OPEN in template and "<function=" not in template:
            family = "hermes"
        elif _PYTHON in template or '"parameters"' in template:
            family = "llama"
        marker = {"hermes": _OPEN, "mistral": _MISTRAL, "llama": _PYTHON}.get(family)
        special = {t.content: n for n, t in tokenizer.added_tokens_decoder.items() if t.special}
        return cls(family, special.get(marker) if marker else None)

    def read(self, text: str, *, is_cut: bool = False) -> tuple[str, list[ToolCall]]:
        """(the text before the calls, the calls) of an answer decoded with special tokens.

        Text that is no well-formed call is content. Of an answer that is cut off, the last call
        may have the beginning of its arguments, as OpenAI sends it with `length`.
        """
        reader = {"hermes": _hermes, "mistral": _mistral}.get(self.family, _json_only)
        content, calls = reader(text)
        if calls or not is_cut or (half := _half_call(text)) is None:
            return content, calls
        content, calls = reader(text[: half.start()].rstrip())
        return content, [*calls, ToolCall(half["name"], half["arguments"])]

    def certain(self, text: str) -> int:
        """How many characters of an unfinished answer are surely content."""
        if self.marker_id is not None:
            return 0
        if self.family in ("hermes", "mistral"):
            marker = _OPEN if self.family == "hermes" else _MISTRAL
            position = text.find(marker)
            if position >= 0:
                return position
            sizes = (n for n in range(len(marker) - 1, 0, -1) if text.endswith(marker[:n]))
            return len(text) - next(sizes, 0)
        start = text.lstrip()
        return 0 if not start or start[0] in "{[<" else len(text)

    def grammar(self, tools: Sequence[Mapping[str, Any]], *, parallel: bool) -> str:
        """Lark grammar of one call of one of these tools, or of several."""
        key = "parameters" if self.family == "llama" else "arguments"
        schemas = [_call_schema(tool, key) for tool in tools]
        schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0]
        one = json.dumps({**schema, **USUAL_SPACE})
        if self.family == "hermes":
            opening = f"<[{self.marker_id}]>" if self.marker_id is not None else f'"{_OPEN}"'
            more = ' ("\\n" call)*' if parallel else ""
            return f'start: call{more}\ncall: {opening} "\\n" body "\\n{_CLOSE}"\nbody: %json {one}'
        if self.family == "mistral":
            opening = f"<[{self.marker_id}]>" if self.marker_id is not None else f'"{_MISTRAL}"'
            most = {} if parallel else {"maxItems": 1}
            items = {"type": "array", "items": schema, "minItems": 1, **most, **USUAL_SPACE}
            return f"start: {opening} body\nbody: %json {json.dumps(items)}"
        return f"start: %json {one}"


def described(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools for the system message of a template that knows none."""
    functions = [tool["function"] for tool in tools]
    return PLAIN_INSTRUCTION.format(tools=json.dumps(functions, ensure_ascii=False))


def _call_schema(tool: Mapping[str, Any], key: str) -> dict[str, Any]:
    function = tool["function"]
    parameters = function.get("parameters") or {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, key: parameters},
        "required": ["name", key],
        "additionalProperties": False,
    }


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if arguments is None:
        return None
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(value["name"], text)


def _calls(text: str) -> list[ToolCall] | None:
    """The calls in a text that is JSON and nothing else; None for any other text."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    calls = [_call(each) for each in (value if isinstance(value, list) else [value])]
    known = [call for call in calls if call is not None]
    return known if known and len(known) == len(calls) else None


def _half_call(text: str) -> re.Match[str] | None:
    """The first call that the text breaks off in; None where all are whole."""
    begun = _BEGUN.search(text)
    while begun is not None:
        try:
            _, end = json.JSONDecoder().raw_decode(text, begun.start("call"))
        except ValueError:
            return begun
        begun = _BEGUN.search(text, end)
    return None


def _hermes(text: str) -> tuple[str, list[ToolCall]]:
    calls: list[ToolCall] = []
    parts = re.findall(rf"{_OPEN}\s*(.*?)\s*(?:{_CLOSE}|$)", text, re.DOTALL)
    for part in parts:
        own = _calls(part)
        if own is None:
            return text, []
        calls += own
    return (text[: text.find(_OPEN)].strip(), calls) if calls else (text, [])


def _mistral(text: str) -> tuple[str, list[ToolCall]]:
    content, marker, rest = text.partition(_MISTRAL)
    if not marker:
        return text, []
    if _ARGUMENTS in rest:
        calls = []
        for part in rest.split(_MISTRAL):
            name, _, arguments = part.partition(_ARGUMENTS)
            own = _calls(json.dumps({"name": name.strip(), "arguments": arguments.strip()}))
            calls += own or []
    else:
        calls = _calls(rest.strip()) or []
    return (content.strip(), calls) if calls else (text, [])


def _json_only(text: str) -> tuple[str, list[ToolCall]]:
    bare = text.strip().removeprefix(_PYTHON).strip()
    whole = _calls(bare)
    if whole is None and ";" in bare:  # Llama 3 separates parallel calls with semicolons
        parts = [_calls(part) for part in bare.split(";")]
        if all(parts):
            whole = [call for part in parts for call in part or ()]
    return ("", whole) if whole else (text, [])
