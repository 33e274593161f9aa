"""The outermost layer: request ids, the headers of every reply, an envelope for every failure."""

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.serving.protocol.errors import server_error
from jangin.serving.protocol.ids import new_id

VERSION = "2020-10-01"
"""The version of the API, in the header `openai-version`."""
log = logging.getLogger("jangin.serving")


class RequestContext:
    """ASGI middleware that gives each request an id and each reply its headers.

    It also accepts a slash at the end of a path, and answers 500 where a route failed.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

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
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if status:
                raise  # the reply has begun; the connection ends here
            await server_error().response()(scope, receive, send_with_headers)


def _without_slash(scope: MutableMapping[str, Any]) -> None:
    path = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        scope["path"] = path.rstrip("/") or "/"
        scope["raw_path"] = scope.get("raw_path", path.encode()).rstrip(b"/") or b"/"
