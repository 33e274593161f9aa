"""What protects the pages: forms of other sites are refused, only our scripts run.

`security/browsers.py` has checked `Host` and `Origin` of every request before.
"""

import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.core.errors import ConfigError, DataError, JanginError, StoreError
from jangin.report.data.review_queue import NothingToReviewError
from jangin.report.i18n.translate import Words
from jangin.serving.pages.rendering import render, render_plain
from jangin.serving.pages.sign_in import local_address
from jangin.serving.pages.visit import (
    NameNeededError,
    NothingYetError,
    PageError,
    SignInError,
    Visit,
    VisitDep,
    find_visit,
    is_htmx,
    language_of,
)
from jangin.serving.protocol.errors import ApiError
from jangin.serving.security.limits import STREAMED

HEADER, FIELD = "x-csrf-token", "csrf"
"""Where a request says the token of its session."""
SAFE = ("GET", "HEAD", "OPTIONS")
NOTED_ELSEWHERE = (
    *("/jobs/", "/models/", "/files", "/keys", "/sign-out", "/sessions/"),
    *("/preferences", "/name"),
    *("/playground/answer", "/playground/whole", "/playground/source", "/start/check"),
)
"""Beginnings of forms that the audit log need not note: the functions behind them do, they are
about the browser alone, or they change nothing."""
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
FIRST_ERROR = 400
STATUS = {ConfigError: 400, DataError: 400, StoreError: 507}
"""{kind of error: status}; the first that fits, any other is a fault of the server."""


async def check_form(request: Request, visit: VisitDep) -> None:
    """Refuse what changes something unless a page of this session sent it.

    The token is read from a header, or from a field of a form whose body is limited. Raises
    `PageError`.
    """
    if request.method in SAFE:
        return
    fetched = request.headers.get("sec-fetch-site", "same-origin")
    if "origin" not in request.headers and "sec-fetch-site" not in request.headers:
        raise PageError(403, "pages_no_origin")
    if fetched not in ("same-origin", "none"):
        raise PageError(403, "pages_other_site")
    sent = request.headers.get(HEADER, "")
    is_form = request.headers.get("content-type", "").startswith(FORMS)
    if not sent and is_form and not (visit.is_new or STREAMED.fullmatch(request.url.path)):
        field = (await request.form()).get(FIELD, "")
        sent = "" if isinstance(field, UploadFile) else field
    if visit.is_new or not hmac.compare_digest(sent.encode(), visit.csrf.encode()):
        raise PageError(403, "pages_form_expired")
    request.state.changes = not request.url.path.startswith(NOTED_ELSEWHERE)


class PageHeaders:
    """ASGI middleware that gives every reply its security headers."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def add_error_pages(app: FastAPI) -> None:
    """Show errors as pages; programs get envelopes as before."""
    for kind, handler in list(app.exception_handlers.items()):
        if isinstance(kind, type) and kind is not Exception:
            app.add_exception_handler(kind, _or_page(handler))

    @app.exception_handler(SignInError)
    def _sign_in(request: Request, _error: Exception) -> Response:
        if is_htmx(request):
            return Response(status_code=401, headers={"hx-redirect": "/sign-in"})
        return RedirectResponse("/sign-in", 303)

    @app.exception_handler(NameNeededError)
    def _name(request: Request, _error: Exception) -> Response:
        is_form = request.method != "GET"
        there = request.headers.get("referer", "") if is_form else str(request.url)
        then = quote(local_address(there)) if there else ""
        address = f"/name?then={then}" if then else "/name"
        if is_htmx(request):
            return Response(status_code=204, headers={"hx-redirect": address})
        return RedirectResponse(address, 303)

    @app.exception_handler(PageError)
    def _page_error(request: Request, error: PageError) -> Response:
        words = _words(request)
        text = words(error.key, **error.values)
        if not _wants_page(request):
            return ApiError(error.status, text).response()
        return _error_page(request, 200 if _is_empty(request, error) else error.status, text)


def _or_page(handler: Callable[..., Any]) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        if not _wants_page(request):
            response: JSONResponse = handler(request, error)
            return response
        if isinstance(error, JanginError) and not isinstance(error, ApiError):
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
            status = 200 if _is_empty(request, error) else status
            return _error_page(request, status, _words(request).reason(str(error)))
        envelope: JSONResponse = handler(request, error)
        words = _words(request)
        if envelope.status_code in (404, 405) and not isinstance(error, ApiError):
            return _error_page(request, envelope.status_code, words("pages_no_such_page"))
        message = words.reason(json.loads(bytes(envelope.body))["error"]["message"])
        return _error_page(request, envelope.status_code, message)

    return handle


def _is_empty(request: Request, error: Exception) -> bool:
    """True for a whole page where nothing is wrong, and there is nothing to show yet."""
    return not is_htmx(request) and isinstance(error, NothingYetError | NothingToReviewError)


def _wants_page(request: Request) -> bool:
    """True for a browser."""
    return is_htmx(request) or "text/html" in request.headers.get("accept", "")


def _error_page(request: Request, status: int, text: str) -> Response:
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is None:
        with suppress(SignInError):
            visit = find_visit(request, request.app.state.server)
    if is_htmx(request) or visit is None:
        template = "notices/notice.html.jinja" if is_htmx(request) else "notices/error.html.jinja"
        return render_plain(
            request, _words(request), template, status, text=text, title=_title(status)
        )
    return render(visit, "notices/error.html.jinja", status, text=text, title=_title(status))


def _title(status: int) -> str:
    """Key of the heading."""
    return "pages_error" if status >= FIRST_ERROR else "pages_nothing_yet"


def _words(request: Request) -> Words:
    return Words(language_of(request))
