"""Wire format of OpenAI chat completions: request bodies, replies and server-sent events."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.llm.retry import TRANSIENT_STATUSES

if TYPE_CHECKING:
    import aiohttp

Structured = Literal["json_schema", "json_object", "none"]
LengthName = Literal["max_tokens", "max_completion_tokens"]

WEAKER: Mapping[Structured, Structured] = {"json_schema": "json_object", "json_object": "none"}
"""{structured output: the fallback if an endpoint does not support it}."""

LENGTHS: tuple[LengthName, ...] = ("max_tokens", "max_completion_tokens")

RETRIED = TRANSIENT_STATUSES | {409, 529}
REFUSED = {
    400: "the request is not valid for this endpoint",
    401: "the key is missing or wrong",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "the URL or the model does not exist",
}
NO_MONEY = (
    *("insufficient_quota", "billing_hard_limit_reached"),  # OpenAI
    *("credit balance is too low", "requires more credits", "Insufficient credits"),
)
"""Anthropic's and OpenRouter's words for an account without credit are in the second line."""
NO_QUOTA = ("PerDay", "per_day", "free-models-per-day", "limit: 0,")
"""Quotas that a wait of minutes does not refill: Gemini's of a day, or none at all in its free
tier; OpenRouter's of free models. OpenAI's of a day say when to come back."""
TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "too many tokens",
    *("exceed_context_size_error", "Context size has been exceeded"),  # llama.cpp
    "Request too large for",  # OpenAI: more tokens than its limit of a minute, as status 429
)
FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
NO_FORM = (
    "response_format",
    "json_schema",
    "json_object",
    "structured output",
    "grammar",
    "guided",
)

STREAM_OPTIONS = "stream_options"
UNKNOWN = (
    *(STREAM_OPTIONS, "include_usage"),
    *("unknown parameter", "unknown field", "unrecognized request argument", "unrecognized key"),
    *("extra fields not permitted", "extra inputs are not permitted", "additional properties"),
)
"""What endpoints say to a request with a field that they do not know."""


@dataclass(frozen=True, slots=True)
class RequestFormat:
    """How requests are written for an endpoint."""

    structured: Structured = "json_schema"
    length_name: LengthName = "max_tokens"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the body; None removes a field."""
    stream: bool = False
    refused: frozenset[str] = frozenset()
    """What the endpoint does not take: fields of the body, `json_schema` and `json_object` as forms
    of structured output, and `system` as a role."""

    def structured_form(self) -> Structured:
        """The strongest form of structured output that is not refused."""
        form = self.structured
        while form in self.refused and form in WEAKER:
            form = WEAKER[form]
        return form

    def length_field(self) -> LengthName:
        """Name of the field for the longest reply."""
        names = (self.length_name, *LENGTHS)
        return next((name for name in names if name not in self.refused), self.length_name)


def request_body(request: ChatRequest, form: RequestFormat) -> dict[str, Any]:
    """The body of `/chat/completions`."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [*_messages(request, merges_system="system" in form.refused)],
        "temperature": request.temperature,
        form.length_field(): request.max_tokens + request.thinking_tokens,
    }
    if request.sample:
        body["seed"] = request.sample
    structured = form.structured_form()
    if request.json_schema and structured == "json_schema":
        schema = {"name": "reply", "strict": True, "schema": request.ordered_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.json_schema and structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    if form.stream:
        body["stream"] = True
        body[STREAM_OPTIONS] = {"include_usage": True}
    body |= form.parameters
    return {
        name: value
        for name, value in body.items()
        if value is not None and name not in form.refused
    }


def refuses_stream_options(text: str) -> bool:
    """True if the error of an endpoint may be about `stream_options`, which it need not name."""
    return any(phrase in text.lower() for phrase in UNKNOWN)


def _messages(request: ChatRequest, *, merges_system: bool) -> Iterator[dict[str, Any]]:
    """The conversation; pictures follow the text of its last message.

    `merges_system`: the system message is the beginning of the first message of the user.
    """
    system = ""
    for index, message in enumerate(request.messages, start=1):
        if merges_system and message.role == "system":
            system += f"{message.content}\n\n"
            continue
        text, system = system + message.content, ""
        content: Any = text
        if request.images and index == len(request.messages):
            pictures = [{"type": "image_url", "image_url": {"url": url}} for url in request.images]
            content = [{"type": "text", "text": text}, *pictures]
        yield {"role": message.role, "content": content}


def encode(body: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON; ASCII escapes would double the bytes of Hangul."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def parse_completion(text: str | bytes) -> ChatReply | None:
    """The reply in a response body; None if it is not a chat completion."""
    try:
        return read_completion(json.loads(text))
    except (ValueError, RecursionError):
        return None


def read_completion(data: Any) -> ChatReply | None:
    """The reply in a parsed response body; None if it is not a chat completion.

    A refusal has the finish reason `refusal` and its text as content.
    """
    try:
        choice, usage = data["choices"][0], data.get("usage") or {}
        message = choice["message"]
        content, refusal = message.get("content") or "", message.get("refusal") or ""
        details = usage.get("completion_tokens_details") or {}
        prompt_details = usage.get("prompt_tokens_details") or {}
        prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        # Gemini counts reasoning in the total alone, and charges it as output.
        uncounted = max((usage.get("total_tokens") or 0) - prompt - completion, 0)
        return ChatReply(
            content=_clean(refusal or content),
            finish_reason="refusal" if refusal else choice.get("finish_reason") or "",
            prompt_tokens=prompt,
            completion_tokens=completion + uncounted,
            reasoning=_clean(_reasoning(message)),
            reasoning_tokens=details.get("reasoning_tokens") or uncounted,
            cached_tokens=prompt_details.get("cached_tokens") or 0,
            # OpenRouter's name: openrouter.ai/docs/use-cases/usage-accounting
            cache_write_tokens=prompt_details.get("cache_write_tokens") or 0,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _reasoning(message: Mapping[str, Any]) -> str:
    """Reasoning beside the content, under either of the names that servers use (vLLM: both)."""
    return str(message.get("reasoning_content") or message.get("reasoning") or "")


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()  # replaces lone surrogates


@dataclass(slots=True)
class EventStream:
    """Assembles a reply from the lines of server-sent events."""

    reply: ChatReply | None = None
    """None until the endpoint has sent `[DONE]`."""
    on_piece: Callable[[str], None] = lambda _piece: None
    """Called with each piece of the content, as it arrives."""
    _pieces: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _finish: str = ""
    _usage: Mapping[str, Any] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """Consume one line.

        Raises:
            ValueError: The event is not part of a chat completion, or reports an error.

        """
        text = line.strip()
        if not text.startswith(b"data:"):
            return
        data = text[5:].strip()
        if data == b"[DONE]":
            self._end()
            return
        try:
            self._add(json.loads(data))
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no event of a chat completion: {data[:200]!r}") from error

    def _add(self, event: Any) -> None:
        if event.get("error"):
            raise ValueError(f"the endpoint broke off: {event['error']}")
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            piece = delta.get("content") or ""
            self._pieces.append(piece)
            if piece:
                self.on_piece(piece)
            self._refusal.append(delta.get("refusal") or "")
            self._reasoning.append(_reasoning(delta))
            self._finish = choice.get("finish_reason") or self._finish

    def _end(self) -> None:
        message = {
            "content": "".join(self._pieces),
            "refusal": "".join(self._refusal),
            "reasoning": "".join(self._reasoning),
        }
        choice = {"message": message, "finish_reason": self._finish}
        self.reply = read_completion({"choices": [choice], "usage": self._usage})


class TooLargeError(Exception):
    """A response body is larger than allowed; internal to `jangin.llm`."""


async def read_body(response: "aiohttp.ClientResponse", most_bytes: int) -> bytes:
    """The response body; raises `TooLargeError` as soon as it exceeds `most_bytes`."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most_bytes:
            response.close()
            raise TooLargeError
    return bytes(body)


async def read_events(
    response: "aiohttp.ClientResponse",
    most_bytes: int,
    on_piece: Callable[[str], None] = lambda _piece: None,
) -> ChatReply:
    """The reply of a streamed response; `on_piece` gets its content as it arrives.

    Raises:
        TooLargeError: The reply exceeds `most_bytes`.
        ValueError: The stream ended early or holds an invalid event.

    """
    events, size = EventStream(on_piece=on_piece), 0
    async for line in response.content:
        size += len(line)
        if size > EVENT_OVERHEAD * most_bytes:
            response.close()
            raise TooLargeError
        events.take(line)
    if events.reply is None:
        raise ValueError("the stream ended before the reply did")
    if len(events.reply.content.encode()) > most_bytes:
        raise TooLargeError
    return events.reply


EVENT_OVERHEAD = 100
"""An event wraps about one token, a few bytes, in a few hundred bytes of JSON."""


def error_message(text: str) -> str:
    """The error message of a body, or the first 200 characters of the body.

    OpenAI's is `{"error": {"message": ...}}`; Gemini puts that into a list, LM Studio and Ollama
    have a text as `error`, older releases of vLLM `message` at the top.
    """
    try:
        body = json.loads(text)
        body = body[0] if isinstance(body, list) else body
        error = body.get("error") or body
        return str(error if isinstance(error, str) else error["message"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return text[:200].strip() or "no message"


def error_status(body: bytes) -> int:
    """The status in a body that reports an error although the response has status 200; else 0.

    OpenRouter answers so where a provider fails behind it: openrouter.ai/docs/api/reference/errors.
    """
    try:
        data = json.loads(body)
        error = data.get("error") or data["choices"][0].get("error")
        code = int((error or {}).get("code") or 0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return 0
    return code if 400 <= code < 600 else 0


def why_unreachable(error: Exception) -> str:
    """A connection error in words, with the setting to check."""
    import aiohttp

    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no TLS connection; is it http:// and not https://? ({detail})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection; is it running, and is base_url right? ({detail})"
    if isinstance(error, TimeoutError):
        return "no reply within timeout_seconds"
    return detail
