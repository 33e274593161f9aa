"""`/models/NAME/...`: every path of the server once more, for requests that name no model.

Some clients, such as lm-evaluation-harness, ask for tokens without saying of which model; their
base URL can name it. The rest of the path is what it is without the prefix.
"""

from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/models/"


class ModelPath:
    """ASGI middleware that takes the name of a model off the path."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; the name is in `request.state.model`."""
        raw = scope.get("raw_path", b"").decode("latin-1")
        if scope["type"] == "http" and raw.startswith(PREFIX):
            name, slash, rest = raw.removeprefix(PREFIX).partition("/")
            if slash:
                scope["path"], scope["raw_path"] = unquote(f"/{rest}"), f"/{rest}".encode()
                scope.setdefault("state", {})["model"] = unquote(name)
        await self._app(scope, receive, send)
