"""Pages that need time to prepare: a notice is shown at once, and the page when it is ready.

An index over a million rows takes seconds. Code that builds one says so with `preparing`; a page
that waits for it longer than a moment is answered with a page that says what is being prepared and
loads the real one as soon as that is finished.
"""

import asyncio
import logging
import time
from asyncio import FIRST_COMPLETED
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import Visit, is_htmx, session_cookie
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.server import Server

PATIENCE_SECONDS = 0.05
"""Seconds that a page waits for its preparation before a notice is shown."""
LOOK_SECONDS = 0.02
"""Seconds between two checks whether a slow request is preparing anything."""
KEPT_SECONDS = 60.0
"""Seconds that a prepared page is remembered, so that its notice is not shown a second time."""
MOST_KEPT = 1_000
ACCEPTED = 202
"""Status of the page that says what is being prepared; a browser's console reports no error."""
Page = tuple[str, bytes, str]
"""(path, query, cookie of the session)."""
log = logging.getLogger("jangin.serving")
public = APIRouter()


@dataclass(slots=True)
class PageProgress:
    """What a request is doing."""

    preparing: str = ""
    """Key of the name of what is being prepared; empty while nothing is."""


_progress: ContextVar[PageProgress | None] = ContextVar("progress", default=None)


@contextmanager
def preparing(what: str) -> Iterator[None]:
    """Say that the request prepares something, or waits for it; `what`: key of its name."""
    progress = _progress.get()
    if progress is None:
        yield
        return
    before, progress.preparing = progress.preparing, what
    try:
        yield
    finally:
        progress.preparing = before


@dataclass(slots=True)
class Preparations:
    """The requests that are being worked on after their readers were told to wait."""

    running: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    """{token: task}."""
    ended: "OrderedDict[Page, float]" = field(default_factory=OrderedDict)
    """{page: moment at which it was prepared}."""

    def add(self, page: Page, task: "asyncio.Task[None]") -> str:
        """The token of a request that has not ended yet."""
        token = new_id("wait-", 24)
        self.running[token] = task

        def end(done: "asyncio.Task[None]") -> None:
            self.running.pop(token, None)
            self.ended[page] = time.monotonic()
            self.ended.move_to_end(page)
            while len(self.ended) > MOST_KEPT:
                self.ended.popitem(last=False)
            if not done.cancelled() and (error := done.exception()) is not None:
                log.debug("%s could not be prepared: %r", page[0], error)

        task.add_done_callback(end)
        return token

    def is_prepared(self, page: Page) -> bool:
        """True if the page was prepared a moment ago."""
        moment = self.ended.get(page)
        return moment is not None and time.monotonic() - moment < KEPT_SECONDS


@public.get("/preparing/{token}")
async def has_ended(request: Request, token: str) -> Response:
    """Tells a page that waits to load again, once what it waits for is there."""
    server: Server = request.app.state.server
    waiting = token in server.get(Preparations).running
    return Response(status_code=204, headers={} if waiting else {"hx-refresh": "true"})


class FirstReplies:
    """ASGI middleware that tells a reader at once when a page has to be prepared first."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        """`app`: what answers; `server` has the `Preparations`."""
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what is no page that a browser opens is left alone."""
        if not _opens_a_page(scope):
            await self._app(scope, receive, send)
            return
        page = _page_of(scope, session_cookie(self._server.settings))
        if self._server.get(Preparations).is_prepared(page):
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, send, page)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, page: Page) -> None:
        """The page itself, or the one that says what is being prepared for it."""
        begun, late = asyncio.Event(), False

        async def send_unless_late(message: Message) -> None:
            if not late:
                begun.set()
                await send(message)

        progress = PageProgress()
        reset = _progress.set(progress)
        task = asyncio.ensure_future(self._run(scope, receive, send_unless_late))
        _progress.reset(reset)
        reply = asyncio.ensure_future(begun.wait())
        try:
            seconds = PATIENCE_SECONDS
            while True:
                await asyncio.wait({task, reply}, timeout=seconds, return_when=FIRST_COMPLETED)
                what = progress.preparing
                if task.done() or begun.is_set() or what:
                    break
                seconds = LOOK_SECONDS
            if task.done() or begun.is_set():
                await task
                return
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            reply.cancel()
        late = True
        token = self._server.get(Preparations).add(page, task)
        response = await run_in_threadpool(self._told, Request(scope), token, what)
        await response(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _told(self, request: Request, token: str, what: str) -> HTMLResponse:
        visit: Visit = request.state.visit  # of the route, which has begun to prepare something
        return render(visit, "notices/preparing.html.jinja", ACCEPTED, token=token, what=what)


def _opens_a_page(scope: Scope) -> bool:
    """True where a browser opens a page; parts of pages, pictures and streams are not."""
    if scope["method"] != "GET" or scope["path"].startswith(("/static/", "/preparing/")):
        return False
    request = Request(scope)
    return "text/html" in request.headers.get("accept", "") and not is_htmx(request)


def _page_of(scope: Scope, cookie: str) -> Page:
    return scope["path"], scope["query_string"], Request(scope).cookies.get(cookie, "")
