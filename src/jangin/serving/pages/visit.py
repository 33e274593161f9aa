"""Who looks at a page, in which language and colours, and the errors that a page shows.

Every route of a page gets a `Visit`.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Depends, Request

from jangin.core.errors import JanginError
from jangin.report.i18n.translate import Language, Words
from jangin.serving.security.sessions import BrowserSession, Signer, key_of
from jangin.serving.state.caller import LOCAL, LOCAL_CALLER, Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.settings import ServerSettings

SESSION, LANGUAGE, THEME = "jangin_session", "jangin_language", "jangin_theme"
NAME = "jangin_name"
"""Names of cookies."""
SIGN_IN = "/sign-in"
Theme = Literal["auto", "light", "dark"]
MOST_NAME = 60
"""Characters of a reviewer's name."""
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")
LANGUAGES: tuple[Language, ...] = ("ko", "en")


class PageError(JanginError):
    """A request that a page cannot answer, with the key of its sentence."""

    def __init__(self, status: int, key: str, **values: Any) -> None:
        """`values` are filled into the sentence."""
        super().__init__(key)
        self.status = status
        self.key = key
        self.values = values


class NothingYetError(PageError):
    """A page about what is not there yet: no mistake, so a browser gets a page that says so."""

    def __init__(self, key: str, **values: Any) -> None:
        """`values` are filled into the sentence."""
        super().__init__(404, key, **values)


class NameNeededError(JanginError):
    """A decision of a person who has not said who they are; they are asked first."""


class SignInError(JanginError):
    """The browser has to sign in with a key first."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a browser."""

    request: Request
    server: Server
    caller: Caller
    words: Words
    theme: Theme
    reviewer: str
    """Name that decisions are signed with; empty until the person has said it."""
    csrf: str
    """What forms send back, so that no page of another site can send them."""
    session: BrowserSession
    is_new: bool
    """The browser has no valid cookie yet."""

    @property
    def is_fragment(self) -> bool:
        """True where htmx asks for a part of a page."""
        return is_htmx(self.request)

    def note(self, name: str) -> None:
        """Name what the request changes, for the audit log."""
        noted = getattr(self.request.state, "changed", "")
        self.request.state.changed = f"{noted} {name}".strip()

    @property
    def is_signed_in(self) -> bool:
        """True if the browser sent a key once."""
        return self.session.key_id != LOCAL


def is_htmx(request: Request) -> bool:
    """True where htmx asks for a part of a page."""
    headers = request.headers
    return headers.get("hx-request") == "true" and "hx-history-restore-request" not in headers


def find_visit(request: Request, server: ServerDep) -> Visit:
    """The visit of a request.

    Raises:
        SignInError: the server needs keys, and the browser has not signed in, or its key is gone.

    """
    signer = server.get(Signer)
    session = signer.session(request.cookies.get(session_cookie(server.settings), ""))
    known = _caller(session, server) if session is not None else None
    is_new = known is None
    if session is None or known is None:
        if server.settings.needs_keys:
            raise SignInError
        session, known = BrowserSession(secrets.token_urlsafe(16), LOCAL, ""), (LOCAL_CALLER, "")
    caller, key_name = known
    request.state.caller = caller
    visit = Visit(
        request=request,
        server=server,
        caller=caller,
        words=Words(language_of(request)),
        theme=theme_of(request),
        reviewer=session.name or key_name or (name_of(request) if caller is LOCAL_CALLER else ""),
        csrf=signer.form_token(session),
        session=session,
        is_new=is_new,
    )
    request.state.visit = visit
    return visit


def is_known(request: Request, server: Server) -> bool:
    """Whether a browser has a session; to begin one it sends a form without."""
    if request.url.path == SIGN_IN:
        return True
    with suppress(SignInError):
        return not find_visit(request, server).is_new
    return False


def session_cookie(settings: ServerSettings) -> str:
    """Name of the session's cookie: browsers take `__Host-` over TLS only, from no other host."""
    return f"__Host-{SESSION}" if settings.is_encrypted else SESSION


def _caller(session: BrowserSession, server: Server) -> tuple[Caller, str] | None:
    """(caller, name of the key) of a session; None where a key is needed or was removed."""
    if session.key_id == LOCAL:
        return None if server.settings.needs_keys else (LOCAL_CALLER, "")
    key = key_of(server, session.id, session.key_id)
    return None if key is None else (key.caller, key.name)


def language_of(request: Request) -> Language:
    """The language that was chosen, else the first of the browser's that there is, else English."""
    chosen = request.cookies.get(LANGUAGE, "")
    accepted = request.headers.get("accept-language", "").lower().split(",")
    for tag in (chosen, *(part.partition(";")[0].strip() for part in accepted)):
        language = tag.partition("-")[0]
        if language in LANGUAGES:
            return language
    return "en"


def name_of(request: Request) -> str:
    """The name that was said to a server of this machine, also to one of another folder."""
    return " ".join(unquote(request.cookies.get(NAME, "")).split())[:MOST_NAME]


def theme_of(request: Request) -> Theme:
    """The colour theme that was chosen."""
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else "auto"


VisitDep = Annotated[Visit, Depends(find_visit)]
"""`visit: VisitDep` as a parameter of a route function of a page."""


def named(visit: VisitDep) -> Visit:
    """The visit of someone who has said who they are; raises `NameNeededError` for others."""
    if not visit.reviewer:
        raise NameNeededError
    return visit


NamedDep = Annotated[Visit, Depends(named)]
"""`visit: NamedDep` where a decision of a person is made."""


@dataclass(frozen=True, slots=True)
class NeedsScope:
    """A dependency that refuses visitors whose keys lack a scope; as `Needs`, for pages."""

    scope: str

    def __call__(self, visit: VisitDep) -> None:
        """Raises `PageError`."""
        if not visit.caller.may(self.scope):
            raise PageError(403, "pages_no_scope", scope=self.scope)


def needs(*scopes: str) -> list[Any]:
    """Dependencies of a page, or of a router, that needs all of these scopes."""
    return [Depends(NeedsScope(scope)) for scope in scopes]
