"""The paths and the header of Azure's clients: `/openai/...` is what `/v1/...` is."""

import json
import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = re.compile(rb"/openai/(?:v1/|deployments/([^/]+)/)?(.+)")
DEPLOYMENT = "deployment"
"""In the state of a request: the name in its path, which decides over the model of the body."""


class AzurePaths:
    """ASGI middleware, outside of everything that looks at paths and keys."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; `api-version` may be any."""
        raw = scope.get("raw_path", b"")
        if scope["type"] == "http" and (match := PATH.fullmatch(raw)) is not None:
            scope["raw_path"] = b"/v1/" + match[2]
            scope["path"] = unquote(scope["raw_path"].decode("latin-1"))
            if match[1]:
                scope.setdefault("state", {})[DEPLOYMENT] = unquote(match[1].decode("latin-1"))
            key = next((v for name, v in scope["headers"] if name == b"api-key"), None)
            if key and not any(name == b"authorization" for name, _ in scope["headers"]):
                scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + key)]
        await self._app(scope, receive, send)


class DeploymentBody:
    """ASGI middleware, inside of the limit of bodies: the deployment becomes the model."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        name = scope.get("state", {}).get(DEPLOYMENT)
        if name is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None  # the route says what is wrong
        if isinstance(body, dict):
            content = json.dumps({**body, "model": name}).encode()
        unread: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def read() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, read, send)
