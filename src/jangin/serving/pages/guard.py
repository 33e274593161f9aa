"""What protects the pages: forms of other sites are refused, only our scripts run.

`security/browsers.py` has checked `Host` and `Origin` of every request before.
"""

import hmac
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.core.errors import ConfigError, DataError, JanginError, StoreError
from jangin.report.data.review_queue import NothingToReviewError
from jangin.report.i18n.translate import Words
from jangin.serving.pages.rendering import YEAR, render, render_plain, set_cookie
from jangin.serving.pages.visit import (
    LANGUAGE,
    LANGUAGES,
    MOST_NAME,
    NAME,
    SESSION,
    THEME,
    THEMES,
    NameNeededError,
    NothingYetError,
    PageError,
    SignInError,
    Visit,
    VisitDep,
    find_visit,
    is_htmx,
    language_of,
    session_cookie,
)
from jangin.serving.protocol.errors import ApiError
from jangin.serving.security import sessions
from jangin.serving.security.keys import caller_of_key
from jangin.serving.security.limits import STREAMED
from jangin.serving.security.sessions import BrowserSession, Signer
from jangin.serving.state.caller import LOCAL
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import Key, SignIn

# Sign in with a key, sign out, and what a browser remembers: language, colours, a name.


router = APIRouter()
public = APIRouter()
"""Routes that a browser reaches before it has signed in."""


@public.get("/sign-in")
def sign_in_page(request: Request) -> Response:
    """Ask for a key."""
    return render_plain(request, Words(language_of(request)), "sign_in.html.jinja", 200, problem="")


@public.post("/sign-in")
def sign_in(request: Request, server: ServerDep, key: Annotated[str, Form()] = "") -> Response:
    """Remember in a cookie which key the browser has; never the key itself."""
    words = Words(language_of(request))
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise PageError(403, "pages_other_site")
    with server.database.read() as database:
        known = caller_of_key(database, key.strip())
    if known is None:
        problem = words("pages_wrong_key")
        return render_plain(request, words, "sign_in.html.jinja", 401, problem=problem)
    response = RedirectResponse("/", 303)
    session = BrowserSession(secrets.token_urlsafe(16), known[1].id, "")
    with server.database.write() as database:
        browser = request.headers.get("user-agent", "")
        sessions.sign_in(database, session.id, known[1], browser, server.now())
    set_cookie(response, server, SESSION, server.get(Signer).cookie(session))
    return response


@router.post("/sign-out")
def sign_out(visit: VisitDep) -> Response:
    """End the session, here and in the browser."""
    mine = sessions.digest_of(visit.session.id)
    _end(visit, next((row for row, _ in _sessions(visit) if row.id == mine), None))
    settings = visit.server.settings
    response = RedirectResponse("/sign-in" if settings.needs_keys else "/", 303)
    response.delete_cookie(session_cookie(settings), secure=settings.is_encrypted, httponly=True)
    return response


@router.post("/sessions/{session}/end")
def end_session(visit: VisitDep, session: int) -> Response:
    """End a session of one's own key; administrators also those of others."""
    row = next((row for row, _ in _sessions(visit) if row.rowid == session), None)
    if row is None:
        raise PageError(404, "pages_no_session")
    _end(visit, row)
    return RedirectResponse("/preferences", 303)


def _end(visit: Visit, row: SignIn | None) -> None:
    if row is not None:
        with visit.server.database.write() as database:
            sessions.end(database, row, visit.caller, visit.server.now())


def _sessions(visit: Visit) -> list[tuple[SignIn, Key]]:
    """The sessions that the visitor may end."""
    sees_all = visit.server.settings.shows_project_to(visit.caller.project)
    with visit.server.database.read() as database:
        return sessions.open_sessions(
            database, visit.caller, visit.server.now(), all_projects=sees_all
        )


@router.get("/preferences")
def preferences(visit: VisitDep) -> Response:
    """Language, colours, name."""
    mine = sessions.digest_of(visit.session.id)
    rows = _sessions(visit)
    return render(visit, "preferences.html.jinja", sessions=rows, mine=mine)


@router.post("/preferences")
def set_preferences(
    visit: VisitDep,
    language: Annotated[str, Form()] = "",
    theme: Annotated[str, Form()] = "",
    name: Annotated[str | None, Form(max_length=MOST_NAME)] = None,
) -> Response:
    """Remember what was chosen, and show the page again that the form was on."""
    response = RedirectResponse(local_address(visit.request.headers.get("referer", "")), 303)
    for cookie, chosen, known in ((LANGUAGE, language, LANGUAGES), (THEME, theme, THEMES)):
        if chosen in known:
            set_cookie(response, visit.server, cookie, chosen, YEAR)
    if name is not None:
        _remember(visit, response, name)
    return response


def _remember(visit: Visit, response: Response, name: str) -> None:
    """Keep the name in the signed cookie; without keys also in one that every server reads."""
    kept = visit.session
    renamed = BrowserSession(kept.id, kept.key_id, " ".join(name.split()))
    lasts = YEAR if kept.key_id == LOCAL else None
    set_cookie(response, visit.server, SESSION, visit.server.get(Signer).cookie(renamed), lasts)
    if kept.key_id == LOCAL:
        set_cookie(response, visit.server, NAME, quote(renamed.name), YEAR)


@router.get("/name")
def name_page(visit: VisitDep, then: str = "/review") -> Response:
    """Ask who decides, before the first decision."""
    return render(visit, "name.html.jinja", then=local_address(then), problem="")


@router.post("/name")
def set_name(
    visit: VisitDep,
    name: Annotated[str, Form(max_length=MOST_NAME)] = "",
    then: Annotated[str, Form()] = "/review",
) -> Response:
    """Remember the name, and go to where it was needed."""
    if not name.strip():
        problem = visit.words("pages_name_needed")
        return render(visit, "name.html.jinja", 400, then=local_address(then), problem=problem)
    response = RedirectResponse(local_address(then), 303)
    _remember(visit, response, name)
    return response


def local_address(address: str) -> str:
    """Path and query of an address of this server, so that no visitor is sent to another site."""
    if not address:
        return "/preferences"
    try:
        parts = urlsplit(address)
    except ValueError:  # such as a bracket that is not closed
        return "/preferences"
    path = "/" + parts.path.lstrip("/\\")
    return f"{path}?{parts.query}" if parts.query else path


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
