"""Requests that the server sends to itself: those of batches and of graders.

They go through the whole application without a socket. Who calls is in the ASGI scope, which only
the server itself can write to: no header of a client gets there.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.serving.state.caller import Caller

T = TypeVar("T")


@dataclass(slots=True)
class InternalReply:
    """What the application answered."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the reply."""
        value = json.loads(bytes(self.content) or b"{}")
        return value if isinstance(value, dict) else {}


class InternalRequests:
    """Sends requests to the application, on its own event loop."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        """`loop`: that on which the application runs."""
        self._app = app
        self._loop = loop

    def response(
        self,
        path: str,
        body: Mapping[str, Any],
        caller: Caller,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The reply to a POST of a JSON body, to return from a route; `headers` are added to it."""
        return InternalResponse(self._app, path, body, caller, headers or {})

    def run(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the application's event loop, from a thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def post(self, path: str, body: Mapping[str, Any], caller: Caller) -> InternalReply:
        """The reply to a POST of a JSON body."""
        reply, content = InternalReply(), json.dumps(body).encode()
        unread = [content]

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.Event().wait()  # the connection stays open until the reply is complete
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {k.decode(): v.decode() for k, v in message.get("headers", [])}
            else:
                reply.content += message.get("body", b"")

        await self._app(_scope(path, len(content), caller), receive, send)
        return reply


class InternalResponse(Response):
    """What the application answers to a POST of a JSON body, passed on while it arrives.

    The inner request ends where the client of the outer one leaves.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: Mapping[str, Any],
        caller: Caller,
        headers: Mapping[str, str],
    ) -> None:
        """`caller`: who the request counts as; `headers` are added to the reply."""
        super().__init__()
        self._added = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._app = app
        self._content = json.dumps(body).encode()
        self._inner = _scope(path, len(self._content), caller)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the outer request."""
        unread = [self._content]

        async def receive_inner() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await receive()

        async def send_outer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._added]
            await send(message)

        await self._app(self._inner, receive_inner, send_outer)


def _scope(path: str, length: int, caller: Caller) -> Scope:
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": length}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {"caller": caller},
    }
