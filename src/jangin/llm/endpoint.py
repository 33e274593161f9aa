"""A ChatModel behind any OpenAI-compatible URL, asked with aiohttp.

aiohttp and not the openai SDK: at concurrency 64 the SDK's default transport takes 25 times the
CPU per call, and its aiohttp transport 7 times (measured once, not recorded).
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jangin.core.digest import canonical_json
from jangin.core.errors import (
    ChatError,
    ConfigError,
    PortableError,
    RefusedError,
    StoppedError,
    TooLongError,
)
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.llm.learned import (
    NO_ROUTE,
    NO_SYSTEM,
    Learned,
    is_cut_by_thinking,
    refused_names,
)
from jangin.llm.rate_limits import MAX_CONCURRENCY, Concurrency, RateLimit
from jangin.llm.retry import Backoff, RetryAfter, RetryPolicy, parse_retry_after, wait_in_text
from jangin.llm.token_estimates import TOKENS_PER_OTHER_CHARACTER, estimate_prompt
from jangin.llm.wire_format import (
    FILTERED,
    NO_MONEY,
    NO_QUOTA,
    REFUSED,
    RETRIED,
    TOO_LONG,
    LengthName,
    RequestFormat,
    Structured,
    TooLargeError,
    encode,
    error_message,
    error_status,
    parse_completion,
    read_body,
    read_events,
    request_body,
    why_unreachable,
)

if TYPE_CHECKING:
    import aiohttp


# Several servers of one model: each request goes to the one with the fewest in flight.


_REST_SECONDS = 10.0


class Addresses:
    """URLs of servers that answer alike, with their requests in flight."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self._in_flight = dict.fromkeys(urls, 0)
        self._rests_until = dict.fromkeys(urls, 0.0)

    @contextmanager
    def lease(self) -> Iterator[str]:
        """The URL for one request, which is in flight inside the block."""
        now = time.monotonic()
        url = min(
            self._in_flight, key=lambda url: (self._rests_until[url] > now, self._in_flight[url])
        )
        self._in_flight[url] += 1
        try:
            yield url
        finally:
            self._in_flight[url] -= 1

    def rest(self, url: str) -> None:
        """Avoid this server for some seconds, because it cannot be reached."""
        self._rests_until[url] = time.monotonic() + _REST_SECONDS


# API keys: from the environment, or from a file of the user that no one else may read.


VARIABLE = "JANGIN_KEYS"
"""Names another file."""


def key_file() -> Path:
    """The file of keys, with lines `NAME=KEY`; never in a project."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get(VARIABLE) or folder / "jangin" / "keys")


def find_key(variable: str) -> str:
    """The key of an environment variable, or else of the file; empty where neither has it.

    Raises: ConfigError: others may read the file.
    """
    return os.environ.get(variable, "").strip() or dict(_rows()).get(variable, "")


def keep_key(variable: str, key: str) -> Path:
    """Write a key into the file, which gets mode 600; returns its path.

    Raises: ConfigError: it cannot be written, or others may read it.
    """
    path = key_file()
    rows = dict(_rows()) | {variable: key}
    text = "".join(f"{name}={value}\n" for name, value in rows.items())
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        part.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Set the environment variable {variable}."
        ) from error
    return path


def _rows() -> Iterator[tuple[str, str]]:
    path = key_file()
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path} holds keys, and others may read it. Close it with: chmod 600 {path}"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()


T = TypeVar("T")

JSON = {"Content-Type": "application/json"}
REPORTED_WAIT_SECONDS = 5.0
"""The user is notified of a longer wait that the endpoint asks for."""


class Sender(Protocol):
    """Sends the attempts of an endpoint from other machines."""

    async def attempt(self, request: ChatRequest) -> ChatReply | RetryAfter:
        """One attempt, as `EndpointChat.attempt`."""
        ...

    def recovered(self, request: ChatRequest) -> ChatReply | None:
        """A reply that an interrupted run received and did not record."""
        ...

    async def close(self) -> None:
        """Release connections; `attempt` may be called again afterwards."""
        ...


@dataclass(slots=True)
class EndpointChat:
    """Client of `{base_url}/chat/completions`; retries transient errors, stops at others."""

    model: str
    base_url: str
    key_variable: str = ""
    """Name of the environment variable that holds the key; empty where none is needed."""
    secret: str = field(default="", repr=False)
    """A key that is known, in place of `key_variable`."""
    further_urls: tuple[str, ...] = ()
    """More servers of the same model; each request goes to the one with the fewest in flight."""
    structured: Structured = "json_schema"
    """Falls back to a weaker form by itself if the endpoint does not support this one."""
    timeout_seconds: float = 120.0
    """Timeout of a reply; of the next piece if it is streamed."""
    retries: int = 5
    first_wait_seconds: float = 0.5
    source: str = ""
    revision: str = ""
    """Which weights are behind the name; part of `source`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the body of every request; None removes a field. They are part of `source`."""
    length_name: LengthName = "max_tokens"
    stream: bool = False
    context_tokens: int = 0
    """Maximum length of prompt and reply together; 0: unknown."""
    tokens_per_character: float = TOKENS_PER_OTHER_CHARACTER
    max_concurrency: int = MAX_CONCURRENCY
    """Upper bound; 429 replies lower the actual concurrency for a while."""
    requests_per_minute: float = 0.0
    """0: no limit."""
    tokens_per_minute: float = 0.0
    """0: no limit."""
    patience_seconds: float = 600.0
    """Maximum time that a request waits because the endpoint asks it to or answers 429."""
    largest_reply_bytes: int = 200_000
    learned: Learned = field(default_factory=Learned)
    """What it does not take, as far as known."""
    keep: Callable[[Learned], None] = field(default=lambda _learned: None, repr=False)
    """Called with `learned` when it has changed."""
    notify: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    on_lost: Callable[[ChatRequest], None] = field(default=lambda _request: None, repr=False)
    """Called for an attempt that got no reply but may have been charged."""
    on_piece: Callable[[str], None] = field(default=lambda _piece: None, repr=False)
    """Called with each piece of a streamed reply. A reply that is asked for again begins again."""
    sender: Sender | None = field(default=None, repr=False)
    """Sends the attempts in place of this process."""
    _session: "aiohttp.ClientSession | None" = field(default=None, repr=False)
    _addresses: Addresses = field(init=False, repr=False)
    _concurrency: Concurrency = field(init=False, repr=False)
    _requests: RateLimit | None = field(default=None, repr=False)
    _tokens: RateLimit | None = field(default=None, repr=False)
    _refusal: RefusedError | StoppedError | None = field(default=None, repr=False)
    """If set, nothing more is sent: the error that every further request raises."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _wait_reported: bool = field(default=False, repr=False)
    _thinking_reported: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Create the rate limits; `source` depends on the request parameters."""
        if not self.source:
            source = canonical_json(self.parameters) if self.parameters else ""
            if self.revision:
                source = f"{self.base_url} revision {self.revision} {source}".strip()
            self.source = source
        self._addresses = Addresses((self.base_url, *self.further_urls))
        self._concurrency = Concurrency(self.max_concurrency)
        self._requests = RateLimit(self.requests_per_minute) if self.requests_per_minute else None
        self._tokens = RateLimit(self.tokens_per_minute) if self.tokens_per_minute else None

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The endpoint's reply to a request.

        Raises:
            TooLongError: Prompt and reply exceed the context; raised before anything is sent.
            RefusedError: The endpoint refuses in a way that a retry cannot change.
            StoppedError: `stop_sending` was called.
            ChatError: No reply after the last retry, or the reply is too large.
            ConfigError: The key is not set, or `base_url` is not a URL.

        """
        tokens = self.check_length(request) + request.max_tokens + request.thinking_tokens

        async def attempt() -> ChatReply | RetryAfter:
            outcome = await self._paced(request, tokens)
            if isinstance(outcome, RetryAfter) and outcome.lost:
                self.on_lost(request)
            return outcome

        try:
            reply = await self._retry(attempt, request.messages[-1].content)
        except TooLargeError as error:
            self.on_lost(request)
            raise ChatError(
                f"a reply of model {self.model!r} is larger than the {self.largest_reply_bytes:,} "
                "bytes allowed. Lower max_tokens, or raise largest_reply_bytes of the teacher."
            ) from error
        self._watch_thinking(request, reply)
        return reply

    async def fetch(
        self, method: str, path: str, body: Callable[[], Any] = lambda: None, most: int = 2**20
    ) -> bytes:
        """The response body of another API endpoint, such as `files`; at most `most` bytes.

        `body` builds the request body for each attempt. Raises like `complete`.
        """

        async def attempt() -> bytes | RetryAfter:
            try:
                return await self._try(method, path, body, partial(read_body, most_bytes=most))
            except _StatusError as error:
                return self._stop(error.status, error.text, error.headers)

        try:
            return await self._retry(attempt, path)
        except TooLargeError as error:
            raise ChatError(
                f"{self.base_url}/{path} is larger than the {most:,} bytes that are read at once."
            ) from error

    async def _retry(self, attempt: "Callable[[], Awaitable[T | RetryAfter]]", name: str) -> T:
        """The first result of `attempt` that is not `RetryAfter`; backs off between attempts.

        `name` seeds the jitter of the waits. Raises `ChatError` when retries or patience run out.
        """
        policy = RetryPolicy(self.retries, self.first_wait_seconds, self.patience_seconds)
        backoff = Backoff(policy, name)
        while True:
            self._check_stop()
            outcome = await attempt()
            if not isinstance(outcome, RetryAfter):
                return outcome
            wait = backoff.wait_after(outcome)
            if backoff.out_of_retries or backoff.out_of_patience:
                bound = "" if backoff.out_of_retries else self._bound(wait)
                raise ChatError(
                    f"{self.base_url} did not answer for model {self.model!r} after "
                    f"{backoff.attempts} tries: {outcome.reason}{bound}. Run again later; finished "
                    "calls are kept."
                )
            if outcome.wait >= REPORTED_WAIT_SECONDS and not self._wait_reported:
                self._wait_reported = True
                self.notify(
                    f"{self.base_url} asks to wait {outcome.wait:,.0f} s ({outcome.reason})"
                )
            if wait:
                await self._rest(wait)

    def _bound(self, wait: float) -> str:
        return f"; it asks for {wait:,.0f} s more, patience_seconds is {self.patience_seconds:g}"

    async def _rest(self, seconds: float) -> None:
        """Wait; raises `StoppedError` as soon as `stop_sending` is called."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def stop_sending(self) -> int:
        """Send nothing more until the chat is closed; returns the number of calls in flight."""
        self._refusal = self._refusal or StoppedError("the run is stopping; nothing more is sent")
        self._stopping.set()
        return self._concurrency.inside

    async def close(self) -> None:
        """Close the connections."""
        self._concurrency.forget_waiters()
        self._refusal = None
        self._stopping = asyncio.Event()
        self._wait_reported = False
        if self.sender is not None:
            await self.sender.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def key(self) -> str:
        """The API key from the environment; raises `ConfigError` if the variable is not set."""
        if self.secret or not self.key_variable:
            return self.secret
        key = find_key(self.key_variable)
        if not key:
            raise ConfigError(
                f"environment variable {self.key_variable} is not set, and {self.base_url} needs "
                f"it. Set it with: export {self.key_variable}=..."
            )
        return key

    def check_length(self, request: ChatRequest) -> int:
        """Upper estimate of the prompt's tokens; raises `TooLongError` if it may not fit.

        0 if neither `context_tokens` nor `tokens_per_minute` is set.
        """
        if not self.context_tokens and self._tokens is None:
            return 0
        prompt = estimate_prompt(
            request.messages,
            request.json_schema,
            self.tokens_per_character,
            len(request.images),
        )
        reply = request.max_tokens + request.thinking_tokens
        if self.context_tokens and prompt + reply > self.context_tokens:
            raise TooLongError(
                f"the prompt may take {prompt:,} tokens and the reply {reply:,}, more "
                f"than the {self.context_tokens:,} of model {self.model!r}. Make the text or "
                "max_tokens smaller, or lower tokens_per_character where its vocabulary is kinder."
            )
        return prompt

    def request_format(self) -> RequestFormat:
        """Current request format, after what was learned."""
        return RequestFormat(
            self.structured,
            self.length_name,
            self.parameters,
            self.stream,
            frozenset(self.learned.refused),
        )

    def _watch_thinking(self, request: ChatRequest, reply: ChatReply) -> None:
        """Learn that a model needs room for reasoning, or report that the room is not enough."""
        room = request.thinking_tokens
        if not room:
            return
        if not is_cut_by_thinking(reply):
            if not self.learned.thinking_tokens:
                self.learned = self.learned.with_thinking(room)
                self.keep(self.learned)
                self.notify(
                    f"model {self.model!r} spends max_tokens on reasoning, so its replies may take "
                    f"{room:,} tokens more, which are charged. `parameters: {{reasoning_effort: "
                    "low}` of the teacher makes it think less."
                )
        elif not self._thinking_reported:
            self._thinking_reported = True
            self.notify(
                f"model {self.model!r} spent {request.max_tokens + room:,} tokens on reasoning and "
                "did not come to an answer. Set `parameters: {reasoning_effort: low}` of the "
                "teacher, or choose another model."
            )

    async def _paced(self, request: ChatRequest, tokens: int) -> ChatReply | RetryAfter:
        """One attempt, as soon as the rate limits and the concurrency limit allow it."""
        waits = [self._requests.take(1) if self._requests else 0.0]
        waits.append(self._tokens.take(tokens) if self._tokens else 0.0)
        if max(waits):
            await self._rest(max(waits))
        async with self._concurrency.slot():
            self._check_stop()
            outcome = await (self.sender or self).attempt(request)
        self._concurrency.record(refused=isinstance(outcome, RetryAfter) and outcome.busy)
        if self._tokens:
            self._tokens.give_back(tokens - _used(outcome, tokens))
        return outcome

    async def attempt(self, request: ChatRequest) -> ChatReply | RetryAfter:
        """One request to the server, without limits and retries."""
        form, most = self.request_format(), self.largest_reply_bytes

        async def read(response: "aiohttp.ClientResponse") -> ChatReply:
            if response.content_type == "text/event-stream":
                return await read_events(response, most, self.on_piece)
            body = await read_body(response, most)
            reply = parse_completion(body)
            failed = error_status(body) if reply is None or not reply.content else 0
            if failed:
                raise _StatusError(failed, body.decode(errors="replace"), response.headers)
            if reply is None:
                shown = body[:200].decode(errors="replace").strip()
                raise ValueError(f"not a chat completion; is base_url right? {shown!r}")
            return reply

        with self._addresses.lease() as base_url:
            try:
                return await self._try(
                    "POST",
                    "chat/completions",
                    lambda: encode(request_body(request, form)),
                    read,
                    JSON,
                    base_url,
                )
            except _StatusError as error:
                return self.interpret_status(error.status, error.text, error.headers, request, form)

    async def _try(
        self,
        method: str,
        path: str,
        body: Callable[[], Any],
        read: "Callable[[aiohttp.ClientResponse], Awaitable[T]]",
        headers: Mapping[str, str] | None = None,
        base_url: str = "",
    ) -> T | RetryAfter:
        """One HTTP request; raises `_StatusError` for every status but 200."""
        import aiohttp

        base_url = base_url or self.base_url
        url = f"{base_url.rstrip('/')}/{path}"
        try:
            async with self._open_session().request(
                method, url, data=body(), headers=headers
            ) as response:
                if response.status == 200:
                    return await read(response)
                text = (await read_body(response, 2**20)).decode(errors="replace")
                raise _StatusError(response.status, text, response.headers)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ConfigError(
                f"base_url {base_url!r} is not the URL of an endpoint. "
                "Write it like http://HOST:PORT/v1 in the project file."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError)
            if not sent:
                self._addresses.rest(base_url)
            return RetryAfter(why_unreachable(error), lost=sent)
        except ValueError as error:
            return RetryAfter(str(error), lost=True)

    def interpret_status(
        self,
        status: int,
        text: str,
        headers: Mapping[str, str],
        request: ChatRequest,
        form: RequestFormat,
    ) -> ChatReply | RetryAfter:
        """The reply, or the retry, that a status other than 200 amounts to.

        Raises `TooLongError` or `RefusedError` if a retry cannot help.
        """
        said = text.lower()
        can_adapt = status in (400, 413, 422) or (status == 404 and NO_ROUTE in said)
        # A server whose chat template raises has status 500.
        can_adapt |= status == 500 and any(phrase in said for phrase in NO_SYSTEM)
        if (can_adapt or status in (429, 500)) and any(word in text for word in TOO_LONG):
            raise TooLongError(
                f"the prompt is longer than the context of model {self.model!r}: "
                f"{error_message(text)}. Make the text or max_tokens smaller."
            )
        if can_adapt:
            if any(word in text for word in FILTERED):
                return ChatReply(content=error_message(text), finish_reason="content_filter")
            if self._adapts(request, form, text):
                return RetryAfter(error_message(text), immediately=True)
            if request.thinking_tokens and not self.learned.thinking_tokens:
                raise TooLongError(f"model {self.model!r} has no room: {error_message(text)}")
        return self._stop(status, text, headers)

    def _remedy(self, status: int) -> str:
        if status == 404:
            return "See with `jangin plan` which models it offers, correct `model` or `base_url`,"
        if status != 401:
            return "Fix that"
        if self.key_variable:
            return f"Correct the environment variable {self.key_variable}"
        return "Name the environment variable of the key as `key_variable`"

    def _stop(self, status: int, text: str, headers: Mapping[str, str]) -> RetryAfter:
        """The retry for a transient status; raises `RefusedError` for a permanent one."""
        reason = f"HTTP {status}: {error_message(text)}"
        out_of_money = any(word in text for word in NO_MONEY)
        out_of_quota = status == 429 and any(word in text for word in NO_QUOTA)
        if status in RETRIED and not out_of_money and not out_of_quota:
            wait = parse_retry_after(headers) or wait_in_text(text)
            return RetryAfter(reason, wait, busy=status == 429)
        why = REFUSED[402] if out_of_money else REFUSED.get(status, "the endpoint refuses")
        why = "the quota of the account is used up" if out_of_quota else why
        refusal = RefusedError(
            f"{self.base_url} refused model {self.model!r}: {why} ({reason}). "
            f"{self._remedy(status)} and run again; finished calls are kept."
        )
        refusal.reason = f"{why} ({reason})"
        self._refusal = refusal
        self._stopping.set()
        raise refusal

    def _adapts(self, request: ChatRequest, form: RequestFormat, text: str) -> bool:
        """Learn what the error of a request is about; True if it can be sent without that."""
        names = refused_names(request_body(request, form), form, text)
        if set(names) - set(self.learned.refused):
            self.learned = self.learned.with_refused(names)
            self.keep(self.learned)
            self._report_refused(form, names, text)
        return bool(names)

    def _report_refused(self, form: RequestFormat, names: tuple[str, ...], text: str) -> None:
        strongest = form.structured_form()
        if strongest in names:
            weaker = self.request_format().structured_form()
            self.notify(
                f"{self.base_url} does not support {strongest} for model {self.model!r}; "
                f"falling back to {weaker}. Set `structured: {weaker}` to skip the failed attempt."
            )
            return
        self.notify(
            f"{self.base_url} does not take {', '.join(names)} for model {self.model!r} "
            f"({error_message(text)}). Requests are sent without from now on."
        )

    def _open_session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            key = self.key()
            limit = self.timeout_seconds
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=aiohttp.ClientTimeout(None if self.stream else limit, sock_read=limit),
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session


def _used(outcome: ChatReply | RetryAfter, at_most: int) -> int:
    """Tokens that the endpoint reports; `at_most` if it reports none, 0 without a reply."""
    if isinstance(outcome, RetryAfter):
        return 0
    return outcome.prompt_tokens + outcome.completion_tokens or at_most


class _StatusError(PortableError):
    """A response with a status other than 200."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.text, self.headers = status, text, headers
