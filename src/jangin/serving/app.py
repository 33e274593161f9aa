"""The applications of a server: one table of the API's routers, one of background services."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from jangin.serving.batches import routes as batches
from jangin.serving.batches.runner import BatchRunner
from jangin.serving.evals import routes as evals
from jangin.serving.evals.runner import EvalRunner
from jangin.serving.files import routes as files
from jangin.serving.files import uploads
from jangin.serving.files.keeper import FileKeeper
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
from jangin.serving.operations import health, metrics
from jangin.serving.operations.logs import PromptLog, log_request
from jangin.serving.operations.metrics import Metrics
from jangin.serving.protocol.azure import AzurePaths, DeploymentBody
from jangin.serving.protocol.context import RequestContext, new_application
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.security.access import Needs, is_known
from jangin.serving.security.audit import AuditRequests
from jangin.serving.security.browsers import BrowserGuard
from jangin.serving.security.limits import BodyLimit, KnownBodies, RateLimit
from jangin.serving.state.server import BackgroundService, Server
from jangin.serving.webhooks import routes as webhooks
from jangin.serving.webhooks.sender import WebhookSender

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
OPEN_ROUTERS: tuple[APIRouter, ...] = (health.router, metrics.router)
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
    app = RateLimit(app, server.settings.limits)
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
