"""What an endpoint does not take, learned from its own errors and kept beside the ledger.

Nothing of it is part of an artifact's identity: the endpoint refuses the model any other request,
so it has one way to answer. What changes answers and can be chosen is under `parameters`, which
is part of it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jangin.core.model_protocols import ChatReply
from jangin.core.records import Record
from jangin.llm.wire_format import (
    LENGTHS,
    NO_FORM,
    STREAM_OPTIONS,
    WEAKER,
    RequestFormat,
    refuses_stream_options,
)
from jangin.text.reasoning import split_reasoning

FILE = "endpoints.json"
"""Name of the file in the store."""
KEPT_DAYS = 30
"""After this time an endpoint is tried again without its changes: servers are upgraded."""
THINKING_TOKENS = 8192
"""Tokens for reasoning beside `max_tokens`, for a model that has spent `max_tokens` on it."""

OPTIONAL = (
    *("temperature", "top_p", "top_k", "seed", "reasoning_effort"),
    *("presence_penalty", "frequency_penalty", STREAM_OPTIONS),
)
"""Fields of a request that it can do without."""
SYSTEM = "system"
NO_SYSTEM = (
    "system role not supported",  # vLLM and llama.cpp with Gemma's older templates
    "developer instruction is not enabled",  # Gemini's endpoint for Gemma
    "does not support 'system'",  # OpenAI's o1-mini
    "system messages are not supported",
    "only user and assistant roles are supported",  # templates of Mistral's first models
)
NO_ROUTE = "no endpoints found that"
"""OpenRouter's status 404 where no provider of the model takes every field; it names none."""
_ECHO = re.compile(r"['\"]input['\"]\s*:")
"""Begins what FastAPI repeats of a request in its status 422, after the fault itself."""
_ABOUT_VALUE = re.compile(r"supported values|to be one of|must be one of|must be between|enum")
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|instead|unknown|unrecognized|not permitted|unexpected"
)


class Learned(Record):
    """How requests to one endpoint for one model differ from those that were asked for."""

    refused: tuple[str, ...] = ()
    """See `RequestFormat.refused`."""
    thinking_tokens: int = 0
    """See `ChatRequest.thinking_tokens`."""
    since: date | None = None
    """Day of the newest lesson; None for what was known beforehand."""

    def with_refused(self, names: tuple[str, ...]) -> "Learned":
        """This and further refused names."""
        refused = tuple(dict.fromkeys((*self.refused, *names)))
        return self.model_copy(update={"refused": refused, "since": _today()})

    def with_thinking(self, tokens: int) -> "Learned":
        """This with room for reasoning."""
        return self.model_copy(update={"thinking_tokens": tokens, "since": _today()})


def _today() -> date:
    return datetime.now(UTC).date()


def refused_names(body: Mapping[str, Any], form: RequestFormat, text: str) -> tuple[str, ...]:
    """What of a request its error is about, as `RequestFormat.refused` names it; empty if unknown.

    `body` is the request as it was sent, `text` the body of the error. Each name is one that the
    request had, so asking again with one less comes to an end.
    """
    said = _ECHO.split(text.lower(), maxsplit=1)[0]
    has_system = any(message["role"] == SYSTEM for message in body["messages"])
    if has_system and any(phrase in said for phrase in NO_SYSTEM):
        return (SYSTEM,)
    named = tuple(name for name in OPTIONAL if name in body and _is_refused(name, form, said))
    length = form.length_field()
    other = next(name for name in LENGTHS if name != length)
    if _mentions(length, said) and _UNSUPPORTED.search(said) and other not in form.refused:
        named = (*named, length)
    if named:
        return named
    structured = form.structured_form()
    if "response_format" in body and structured in WEAKER:
        if any(word in said for word in NO_FORM):
            return (structured,)
        if NO_ROUTE in said and "seed" not in body:
            return (structured,)
    if NO_ROUTE in said and "seed" in body:
        return ("seed",)
    if STREAM_OPTIONS in body and refuses_stream_options(text):
        return (STREAM_OPTIONS,)
    return ()


def _is_refused(name: str, form: RequestFormat, said: str) -> bool:
    """Whether an error refuses a field, not a wrong value that the user gave to it."""
    if not _mentions(name, said):
        return False
    return name not in form.parameters or not _ABOUT_VALUE.search(said)


def _mentions(name: str, said: str) -> bool:
    return re.search(rf"(?<![\w-]){name}(?![\w-])", said) is not None


def is_cut_by_thinking(reply: ChatReply) -> bool:
    """Whether reasoning took the tokens that the answer needed."""
    if reply.finish_reason != "length":
        return False
    answer = split_reasoning(reply.content).answer
    return not answer or 2 * reply.reasoning_tokens > reply.completion_tokens


@dataclass(slots=True)
class LearnedFile:
    """The file with what was learned of every endpoint and model that a store's runs have asked."""

    path: Path
    _known: dict[str, Learned] | None = field(default=None, repr=False)

    def find(self, base_url: str, model: str) -> Learned:
        """What is known of a model at an endpoint, unless it is too old."""
        return self.read().get(_key(base_url, model), Learned())

    def read(self) -> dict[str, Learned]:
        """{"URL model": what is known}; empty where there is no file, or none that can be read."""
        if self._known is None:
            self._known = dict(self._load())
        return self._known

    def _load(self) -> Iterator[tuple[str, Learned]]:
        oldest = _today() - timedelta(days=KEPT_DAYS)
        with suppress(OSError, ValueError, AttributeError):
            for key, value in json.loads(self.path.read_text(encoding="utf-8")).items():
                with suppress(ValidationError):
                    learned = Learned.model_validate(value)
                    if learned.since is not None and learned.since >= oldest:
                        yield key, learned

    def keep(self, base_url: str, model: str, learned: Learned) -> None:
        """Write what was learned; a file that cannot be written is no reason to stop a run."""
        self._known = dict(self._load()) | {_key(base_url, model): learned}
        rows = {key: row.model_dump(mode="json") for key, row in sorted(self._known.items())}
        part = self.path.with_suffix(".part")
        with suppress(OSError):
            part.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(self.path)


def _key(base_url: str, model: str) -> str:
    return f"{base_url.rstrip('/')} {model}"
