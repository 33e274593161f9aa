"""Requests that a web page sends without its reader's knowledge are refused.

A page of another origin could call a server on loopback that takes any key, and a page whose name
resolves to 127.0.0.1 (DNS rebinding) would even have the same origin. The browser sends the origin
of the first in `Origin`, the name of the second in `Host`.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.settings import ServerSettings

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
