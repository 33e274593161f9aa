"""How much a client may send: the size of a body, from whom it is read, requests per minute."""

import ctypes
import hashlib
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.core.errors import counted
from jangin.serving.protocol.context import address_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.caller import LOCAL, Caller
from jangin.serving.state.settings import Limits

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


class RateLimit:
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
