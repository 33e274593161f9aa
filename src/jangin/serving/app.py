"""The applications of a server: one table of the API's routers, one of background services."""

import asyncio
import json
import logging
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from starlette.routing import Match
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from jangin import __version__
from jangin.core.errors import JanginError, StoreError
from jangin.serving import batches
from jangin.serving.batches import BatchRunner
from jangin.serving.evals import routes as evals
from jangin.serving.evals.runner import EvalRunner
from jangin.serving.files import routes as files
from jangin.serving.files import uploads
from jangin.serving.files.uploads import FileKeeper
from jangin.serving.graders import routes as graders
from jangin.serving.inference import (
    chat,
    completions,
    embeddings,
    models,
    responses,
    stored_chats,
    tokenize,
)
from jangin.serving.inference.model_path import ModelPath
from jangin.serving.inference.service import Inference
from jangin.serving.jobs import export, permissions
from jangin.serving.jobs import routes as jobs
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.models.registry import Registry
from jangin.serving.operations import metrics
from jangin.serving.operations.logs import PromptLog, log_request
from jangin.serving.operations.metrics import Metrics
from jangin.serving.protocol.context import RequestContext, new_application
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.security.access import Needs, is_known
from jangin.serving.security.audit import AuditRequests
from jangin.serving.security.limits import BodyLimit, BrowserGuard, KnownBodies, RateLimitMiddleware
from jangin.serving.state.server import BackgroundService, Server, ServerDep
from jangin.serving.state.tables import Job
from jangin.serving.webhooks import routes as webhooks
from jangin.serving.webhooks.sender import WebhookSender

# `GET /healthz` and `GET /readyz`: whether the process answers, and whether it can do its work.
#
# Neither needs a key, so neither says more than which part fails; the log has the reason.


router = APIRouter()
LEAST_FREE = 64 << 20
"""Bytes of disk below which nothing more should be sent here."""
log = logging.getLogger("jangin.serving")


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """That the process answers: one that does not is to be started again."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz")
def readyz(server: ServerDep) -> JSONResponse:
    """200 where database, disk and queue of jobs work, else 503 with what does not."""
    own = {"database": lambda: _database(server), "disk": lambda: _disk(server)}
    checks = {name: _state(name, check) for name, check in (own | server.checks).items()}
    ready = set(checks.values()) == {"ok"}
    reply = {"status": "ok" if ready else "not ready", "checks": checks}
    return JSONResponse(reply, 200 if ready else 503)


def _state(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except (JanginError, DBAPIError, OSError) as error:
        log.warning("not ready: %s: %s", name, error)
        return "failed"
    return "ok"


def _database(server: Server) -> None:
    server.database.check()
    with server.database.read() as session:
        session.scalar(select(func.count()).select_from(Job))


def _disk(server: Server) -> None:
    folder = server.settings.folder
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"ready")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise StoreError(f"the disk of {folder} has {free >> 20} MB left. Free some space.")


# The paths and the header of Azure's clients: `/openai/...` is what `/v1/...` is.


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


THREADS = 64
"""Route functions that run at once."""
STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")


@dataclass(frozen=True, slots=True)
class Routes:
    """A router, the scope that a key needs for it, and the beginning of its paths."""

    router: APIRouter
    scope: str
    prefix: str = "/v1"


ROUTERS: tuple[Routes, ...] = (
    Routes(files.router, "files"),
    Routes(uploads.router, "files"),
    Routes(jobs.router, "jobs"),
    Routes(permissions.router, "jobs"),
    Routes(export.router, "models"),
    Routes(graders.router, "jobs"),
    Routes(evals.router, "jobs"),
    Routes(batches.router, "batches"),
    Routes(models.router, "models"),
    Routes(stored_chats.router, "files"),
    *(
        Routes(answering.router, "inference")
        for answering in (chat, completions, responses, embeddings, tokenize)
    ),
    Routes(tokenize.router, "inference", prefix=""),
    Routes(webhooks.router, "admin"),
)
"""Everything that needs a key; a row here is all that a new router needs."""
OPEN_ROUTERS: tuple[APIRouter, ...] = (router, metrics.router)
"""Routers at the top, without a key."""
SERVICES: tuple[Callable[[Server], BackgroundService], ...] = (
    FileKeeper,
    Inference,
    WebhookSender,
    Scheduler,
    BatchRunner,
    EvalRunner,
)
"""Background services in the order in which they start; they stop in the opposite one.

Each is called with the server; `server.get(CLASS)` finds it again."""


def create_app(server: Server) -> ASGIApp:
    """What answers every request for a server: the API, and the workbench where it is on."""

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        server.add(InternalRequests(app, asyncio.get_running_loop()))
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        started: list[BackgroundService] = []
        try:
            for create in SERVICES:
                service = create(server)
                server.add(service)
                await anyio.to_thread.run_sync(service.start)
                started.append(service)
            if server.settings.warm_up and server.settings.workbench:
                await anyio.to_thread.run_sync(prepare_pages, server)
            yield
        finally:
            for service in reversed(started):
                await anyio.to_thread.run_sync(service.stop)

    server.models = Registry(server)
    api = create_api(server, lifespan)
    app: ASGIApp = api
    if server.settings.workbench:
        from jangin.serving.workbench import create_workbench, prepare_pages

        app = Applications(api, create_workbench(server))
    counters = Metrics(server)
    server.add(counters)
    # The last one is the outermost.
    app = BodyLimit(app, server.settings.limits)
    app = RateLimitMiddleware(app, server.settings.limits)
    app = BrowserGuard(app, server.settings)
    app = AuditRequests(app, server)
    headers = (STRICT_TRANSPORT,) if server.settings.is_encrypted else ()
    app = RequestContext(app, (counters.observe, log_request), headers)
    return AzurePaths(ModelPath(app))


def create_api(server: Server, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """The application for programs: OpenAI's API."""
    api = new_application(server, lifespan)
    api.add_middleware(DeploymentBody)
    api.add_middleware(KnownBodies, is_known=partial(is_known, server=server))
    for routes in ROUTERS:
        allowed = Depends(Needs(routes.scope))
        api.include_router(routes.router, prefix=routes.prefix, dependencies=[allowed])
    for router in OPEN_ROUTERS:
        api.include_router(router)
    if server.settings.origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=server.settings.origins,
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=("x-request-id",),
        )
    if server.settings.log_prompts:
        api.add_middleware(PromptLog)
    return api


class Applications:
    """ASGI application that gives each request to the API or to the workbench."""

    def __init__(self, api: FastAPI, workbench: ASGIApp) -> None:
        """`api`: gets what one of its routes matches, everything below `/v1/`, and the lifespan."""
        self._api = api
        self._workbench = workbench

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        await (self._workbench if self._is_page(scope) else self._api)(scope, receive, send)

    def _is_page(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["path"].startswith("/v1/"):
            return False
        return all(route.matches(scope)[0] is Match.NONE for route in self._api.routes)
