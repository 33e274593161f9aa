"""How much a client may send: the size of a body, from whom it is read, requests per minute."""

import asyncio
import ctypes
import hashlib
import ipaddress
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import h11
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from jangin.core.errors import counted
from jangin.serving.protocol.context import address_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.caller import LOCAL, Caller
from jangin.serving.state.settings import Limits, ServerSettings

MB = 1_000_000
STREAMED = re.compile(r"(/v1)?/files|/v1/uploads/[^/]+/parts|/start/upload")
"""Paths whose routes read the body piece by piece and check its size themselves."""
MOST_CLIENTS = 10_000
LARGE = 1_000_000
"""Bytes of a body after which memory is given back."""
WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
MOST_DROPPED = 16 * MB
"""Bytes of the body of a stranger that are read, and not kept, after the reply."""


class BodyLimit:
    """ASGI middleware that refuses large bodies: what routes hold in memory is limited by it."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        """`limits`: its `body_mb` counts."""
        self._app = app
        self._most = int(limits.body_mb * MB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413."""
        if scope["type"] != "http" or STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        length = next((v for name, v in scope["headers"] if name == b"content-length"), b"0")
        if not length.isdigit() or int(length) > self._most:
            await ApiError(413, self._message).response()(scope, receive, send)
            return
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._most:  # a body in chunks, which does not say its length
                raise HTTPException(413, self._message)
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            if total > LARGE:
                await anyio.to_thread.run_sync(give_memory_back)

    @property
    def _message(self) -> str:
        return f"The body of the request is larger than the maximum of {self._most / MB:g} MB."


class KnownBodies:
    """ASGI middleware that keeps the bodies of strangers from the application.

    FastAPI parses a body before it asks who sent it. A stranger's request has none here, and is
    refused as one without a key; what arrives of its body after the reply is dropped, because a
    client that still sends when the connection closes never sees the reply.
    """

    def __init__(self, app: ASGIApp, is_known: Callable[[Request], bool]) -> None:
        """`is_known` is called in a thread, for requests that can have a body."""
        self._app = app
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with or without its body."""
        if (
            scope["type"] != "http"
            or scope["method"] in WITHOUT_BODY
            or await anyio.to_thread.run_sync(self._is_known, Request(scope))
        ):
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        is_waiting = any(name == b"expect" for name, _ in headers)  # and never sends its body
        scope["headers"] = [each for each in headers if not each[0].startswith(b"content-")]
        nothing: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive_nothing() -> Message:
            return nothing.pop() if nothing else {"type": "http.disconnect"}

        async def send_and_drop(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body") or is_waiting:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _drop(receive)
            await send({"type": "http.response.body"})

        await self._app(scope, receive_nothing, send_and_drop)


async def _drop(receive: Receive) -> None:
    """Read the rest of a body without keeping it."""
    left, more = MOST_DROPPED, True
    with suppress(HTTPException):  # larger than `BodyLimit` allows
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)


class RateLimitMiddleware:
    """ASGI middleware that limits the requests per minute of a key, or else of an address.

    A key counts from the reply on that shows it to be one of this server: who invents keys is one
    client.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`limits`: its `requests_per_minute` counts."""
        self._app = app
        self._most = limits.requests_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[Any, tuple[float, float]] = {}
        """{client: (requests left, when that was)}."""
        self._keys: OrderedDict[bytes, None] = OrderedDict()
        """Digests of headers whose key is one of this server."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 429."""
        if scope["type"] != "http" or not self._most or "caller" in scope.get("state", {}):
            await self._app(scope, receive, send)
            return
        key = _digest(scope)
        wait = self.seconds_to_wait(key if key in self._keys else address_of(scope))
        if wait > 0:
            await too_many(self._most, wait).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)
        self._note(key, scope.get("state", {}).get("caller"))

    def _note(self, key: bytes, caller: Caller | None) -> None:
        if caller is None or caller.key_id == LOCAL:
            self._keys.pop(key, None)
            return
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > MOST_CLIENTS:
            self._keys.popitem(last=False)

    def seconds_to_wait(self, client: object) -> float:
        """0 if the client may send a request now, which then counts."""
        most = float(self._most or 0)
        now = self._clock()
        with self._lock:
            left, since = self._left.pop(client, (most, now))
            left = min(most, left + (now - since) * most / 60)
            allowed = left >= 1
            self._left[client] = (left - 1 if allowed else left, now)
            if len(self._left) > MOST_CLIENTS:  # the one that was silent longest is the first
                del self._left[next(iter(self._left))]
        return 0.0 if allowed else (1 - left) * 60 / most


def too_many(most: int, wait: float) -> ApiError:
    """429, with the time after which the official clients try again."""
    return ApiError(
        429,
        f"Rate limit reached: {counted(most, 'request')} per minute. Please try again in "
        f"{wait:.1f} s.",
        kind="requests",
        code="rate_limit_exceeded",
        headers={
            "retry-after-ms": str(int(wait * 1000) + 1),
            "retry-after": str(int(wait) + 1),
        },
    )


def _digest(scope: Scope) -> bytes:
    """The key of a request, not readable."""
    value = next((v for name, v in scope["headers"] if name == b"authorization"), b"")
    return hashlib.sha256(value).digest()


def give_memory_back() -> None:
    """Return to the system what large requests left free; glibc keeps it otherwise."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


# Requests that a web page sends without its reader's knowledge are refused.
#
# A page of another origin could call a server on loopback that takes any key, and a page whose
# name resolves to 127.0.0.1 (DNS rebinding) would even have the same origin. The browser sends the
# origin of the first in `Origin`, the name of the second in `Host`.


ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104  # compared, not bound


class BrowserGuard:
    """ASGI middleware that checks `Host` and `Origin`."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        """`settings`: its `host`, `hosts` and `origins` count."""
        self._app = app
        self._names = {"localhost", settings.host.lower(), *(h.lower() for h in settings.hosts)}
        self._public = settings.public_url
        self._names.add(urlsplit(self._public).hostname or "localhost")
        self._origins = {origin.rstrip("/").lower() for origin in settings.origins}
        # Such a server does not know its names, and asks for keys, which no page has.
        self._any_host = settings.host in ANY_HOST and not settings.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            error = self._refusal(headers.get(b"host", ""), headers.get(b"origin"))
            if error is not None:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, host: str, origin: str | None) -> ApiError | None:
        if not self._any_host and not self._is_own(host):
            return ApiError(
                403,
                f"This server is not called '{host[:100]}'. If it is, add the name to `hosts` in "
                "server.yaml.",
            )
        if origin is not None and not self._may_call(origin, host):
            return ApiError(
                403,
                f"Web pages of '{origin[:100]}' may not call this server. If they should, add the "
                "address to `origins` in server.yaml.",
            )
        return None

    def _is_own(self, host: str) -> bool:
        """True for a name of the server, and for addresses, which no DNS answer can forge."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _may_call(self, origin: str, host: str) -> bool:
        if origin.rstrip("/").lower() in self._origins:
            return True
        if host.lower() == self._public.partition("://")[2] != "":
            return origin.lower() == self._public
        return origin.lower().partition("://")[2] == host.lower() != ""


# How long a client may take to send a request, and how many connections there may be.
#
# uvicorn waits without end for the rest of a request. Here its head has to be complete after
# `limits.stalled_seconds`, and its body has to bring at least `LEAST_BYTES` in each such time; a
# reply that nobody reads ends the connection alike.


LEAST_BYTES = 1_000
"""Of a body, in `limits.stalled_seconds`."""
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Connection(H11Protocol):
    """One connection of a client; `limited` gives it its limits."""

    limits = Limits()

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = self._unread = 0
        if len(self.connections) > self.limits.connections:
            transport.write(TOO_MANY)
            transport.close()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; the time begins again with its first byte and its body."""
        before, was_idle = self.conn.their_state, self.timeout_keep_alive_task is not None
        self._bytes += len(data)
        super().data_received(data)
        if self._timer is None or was_idle or before is not self.conn.their_state:
            self._watch()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._before = self._bytes
        self._timer = self.loop.call_later(self.limits.stalled_seconds, self._look)

    def _look(self) -> None:
        """Close a connection whose client owes bytes or reads none; else look again later."""
        self._timer = None
        if self.transport.is_closing():
            return
        unread = self.transport.get_write_buffer_size()
        if self._is_stalled() or (self.flow.write_paused and unread == self._unread):
            self.transport.abort()
            return
        self._unread = unread
        is_idle = self.timeout_keep_alive_task is not None  # uvicorn ends it soon
        if not is_idle:
            self._watch()

    def _is_stalled(self) -> bool:
        if self.conn.their_state is h11.IDLE:
            return self.timeout_keep_alive_task is None
        if self.conn.their_state is not h11.SEND_BODY or self.flow.read_paused:
            return False
        waits_for_us = self.cycle.waiting_for_100_continue
        return not waits_for_us and self._bytes - self._before < LEAST_BYTES


def limited(limits: Limits) -> type[Connection]:
    """The class of the connections of a server."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
