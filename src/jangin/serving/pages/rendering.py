"""Pages as HTML: templates, static files, navigation."""

import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from jangin import __version__
from jangin.report.i18n.translate import Words, strings
from jangin.serving.pages.visit import LANGUAGES, SESSION, THEMES, PageError, Visit, session_cookie
from jangin.serving.security.sessions import Signer
from jangin.serving.state.server import Server

SHARED = ("theme.css", "charts.css", "sections.css")
"""Style sheets of the report that the pages use too."""
YEAR = 31_536_000
NAVIGATION = (
    ("/", "pages_nav_pipeline"),
    ("/review", "pages_nav_review"),
    ("/data", "pages_nav_data"),
    ("/runs", "pages_nav_runs"),
    ("/compare", "pages_nav_compare"),
    ("/playground", "pages_nav_playground"),
    ("/jobs", "pages_nav_jobs"),
)
"""(address, key of the name) of every room, in the order of the work."""
PARTS_OF_JOBS = ("/models", "/files", "/keys")
"""Addresses of pages that belong to the room of jobs."""
_BACKTICKS = re.compile(r"`([^`]+)`")
router = APIRouter()


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that never changes under its digest."""

    content: bytes
    media_type: str
    digest: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """{name: file} of all style sheets and scripts."""
    own = files("jangin.serving.pages") / "static"
    shared = files("jangin.report") / "templates"
    folders = (own, own / "runs")
    paths: list[Traversable] = [
        path for folder in folders for path in folder.iterdir() if path.is_file()
    ]
    paths += [shared / name for name in SHARED]
    return {path.name: _static_file(path) for path in paths}


def _static_file(path: Traversable) -> StaticFile:
    content = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return StaticFile(content, kind, hashlib.sha256(content).hexdigest()[:12])


def static(name: str) -> str:
    """The address of a static file."""
    return f"/static/{name}?v={static_files()[name].digest}"


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """A style sheet or script; browsers keep it for a year."""
    known = static_files().get(name)
    if known is None:
        raise PageError(404, "pages_no_such_page")
    headers = {"cache-control": f"public, max-age={YEAR}, immutable"}
    return Response(known.content, media_type=known.media_type, headers=headers)


def render(visit: Visit, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page or a part of one; `context` are the names of the template.

    A template also has `visit`, `words` and `static`. A browser without a cookie gets one.
    """
    html = (
        environment()
        .get_template(template)
        .render(visit=visit, words=visit.words, **_page(visit.request), **context)
    )
    response = HTMLResponse(html, status, headers={"cache-control": "no-store"})
    if visit.is_new:
        keep_session(visit, response)
    return response


def keep_session(visit: Visit, response: Response) -> None:
    """Give the browser the cookie of the session."""
    value = visit.server.get(Signer).cookie(visit.session)
    set_cookie(response, visit.server, SESSION, value, YEAR)


def set_cookie(
    response: Response, server: Server, name: str, value: str, max_age: int | None = None
) -> None:
    """Set a cookie that scripts cannot read, and that goes over TLS only where there is TLS."""
    settings = server.settings
    name = session_cookie(settings) if name == SESSION else name
    response.set_cookie(
        name, value, max_age, httponly=True, samesite="lax", secure=settings.is_encrypted
    )


def render_plain(
    request: Request, words: Words, template: str, status: int, **context: Any
) -> HTMLResponse:
    """A page without a visit: an error, or the one to sign in on."""
    html = (
        environment()
        .get_template(template)
        .render(visit=None, words=words, **_page(request), **context)
    )
    return HTMLResponse(html, status, headers={"cache-control": "no-store"})


def _page(request: Request) -> dict[str, Any]:
    path = request.url.path
    room = "/jobs" if path.startswith(PARTS_OF_JOBS) else path
    here = next((a for a, _ in reversed(NAVIGATION) if room == a or room.startswith(f"{a}/")), "")
    return {
        "navigation": NAVIGATION,
        "here": here,
        "path": path,
        "languages": LANGUAGES,
        "themes": THEMES,
        "project_name": getattr(request.state, "project_name", ""),
    }


def with_code(text: str) -> Markup:
    """A sentence with what stands between backticks as code."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped


def moment(seconds: int) -> str:
    """Unix seconds as `2026-01-31T12:00:00`, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@cache
def environment() -> Environment:
    """Jinja, where every value is text unless it says otherwise."""
    environment = Environment(
        loader=PackageLoader("jangin.serving.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["with_code"] = with_code
    environment.globals |= {"static": static, "moment": moment, "version": __version__}
    return environment


def load_templates() -> None:
    """Compile all templates and read the sentences of both languages, which takes half a second."""
    for name in environment().list_templates(extensions=["jinja"]):
        environment().get_template(name)
    for language in LANGUAGES:
        strings(language)
    static_files()
