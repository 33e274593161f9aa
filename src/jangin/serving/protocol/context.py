"""The outermost layer: request ids, the headers of every reply, an envelope for every failure."""

import logging
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from jangin import __version__
from jangin.serving.protocol.errors import add_handlers, server_error
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server

VERSION = "2020-10-01"
"""The version of the API, in the header `openai-version`."""
GONE = 499
"""Status of requests whose client left, as nginx writes it."""
log = logging.getLogger("jangin.serving")


@dataclass(frozen=True, slots=True)
class Handled:
    """A request that was answered, without its contents."""

    request_id: str
    method: str
    path: str
    """Without the query, which may contain anything."""
    route: str
    """Such as `/files/{file_id}`; empty where no route matched."""
    status: int
    seconds: float
    """From the first byte of the request to the last of the reply."""
    caller: Caller | None
    client: str = ""
    """The address that it came from."""


class RequestContext:
    """ASGI middleware that gives each request an id and each reply its headers.

    It also accepts a slash at the end of a path, and answers 500 where a route failed.
    """

    def __init__(
        self,
        app: ASGIApp,
        observers: Sequence[Callable[[Handled], None]] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """`app`: what answers; `observers` learn of every request that was answered.

        `headers` are added to every reply.
        """
        self._app = app
        self._headers = headers
        self._observers = tuple(observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = new_id("req_", 32)
        scope.setdefault("state", {})["request_id"] = request_id
        _without_slash(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                milliseconds = round((time.perf_counter() - start) * 1000)
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", str(milliseconds).encode()),
                    (b"openai-version", VERSION.encode()),
                    *self._headers,
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or GONE
        except Exception:
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if status:
                raise  # the reply has begun; the connection ends here
            await server_error().response()(scope, receive, send_with_headers)
        finally:
            self._tell(scope, request_id, status, time.perf_counter() - start)

    def _tell(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        handled = Handled(
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            route=getattr(scope.get("route"), "path", ""),
            status=status,
            seconds=seconds,
            caller=scope["state"].get("caller"),
            client=address_of(scope),
        )
        for observe in self._observers:
            observe(handled)


def address_of(scope: Scope) -> str:
    """The address that a request comes from; see `proxies` among the settings."""
    return str((scope.get("client") or ("",))[0])


def new_application(server: Server, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """An application without routes, to be put inside a `RequestContext`."""
    app = FastAPI(
        title="jangin",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.server = server
    add_handlers(app)

    @app.exception_handler(Exception)
    def _unknown(_request: object, _error: Exception) -> ASGIApp:
        return _say_nothing  # Starlette raises the error again, and `RequestContext` answers

    return app


async def _say_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pass


def _without_slash(scope: MutableMapping[str, Any]) -> None:
    path = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        scope["path"] = path.rstrip("/") or "/"
        scope["raw_path"] = scope.get("raw_path", path.encode()).rstrip(b"/") or b"/"
