"""Sign in with a key, sign out, and what a browser remembers: language, colours, a name."""

import secrets
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

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
    PageError,
    Visit,
    VisitDep,
    language_of,
    session_cookie,
)
from jangin.serving.security import sessions
from jangin.serving.security.keys import caller_of_key
from jangin.serving.security.signer import BrowserSession, Signer
from jangin.serving.state.caller import LOCAL
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import Key, SignIn

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
