"""The application: one table of routers, one of background services."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from jangin import __version__
from jangin.serving.batches import routes as batches
from jangin.serving.batches.runner import BatchRunner
from jangin.serving.files import prepare, uploads
from jangin.serving.files import routes as files
from jangin.serving.files.keeper import FileKeeper
from jangin.serving.graders import comparison
from jangin.serving.graders import routes as graders
from jangin.serving.inference import chat, completions, embeddings, models, responses, tokenize
from jangin.serving.inference.model_path import ModelPath
from jangin.serving.inference.service import Inference
from jangin.serving.jobs import export, permissions
from jangin.serving.jobs import routes as jobs
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.models.registry import Registry
from jangin.serving.operations import health, metrics
from jangin.serving.operations.logs import PromptLog, log_request
from jangin.serving.operations.metrics import Metrics
from jangin.serving.pages import rendering, sign_in
from jangin.serving.pages.compare import routes as compare
from jangin.serving.pages.compare.overview import Comparisons
from jangin.serving.pages.data import document_pages, pictures
from jangin.serving.pages.data import routes as data
from jangin.serving.pages.guard import PageHeaders, add_error_pages, check_form
from jangin.serving.pages.jobs import keys as keys_pages
from jangin.serving.pages.jobs import routes as jobs_pages
from jangin.serving.pages.playground import routes as playground
from jangin.serving.pages.playground.taught import TaughtModels
from jangin.serving.pages.preparing import FirstReplies, Preparations
from jangin.serving.pages.preparing import public as preparing
from jangin.serving.pages.project import Workbench
from jangin.serving.pages.review import documents as review_documents
from jangin.serving.pages.review import exchange
from jangin.serving.pages.review import routes as review
from jangin.serving.pages.review.queue import ReviewQueues
from jangin.serving.pages.runs import routes as runs
from jangin.serving.pages.runs import start
from jangin.serving.pages.runs.follow import Follow
from jangin.serving.protocol.context import RequestContext
from jangin.serving.protocol.errors import add_handlers
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.security.access import needs
from jangin.serving.security.browsers import BrowserGuard
from jangin.serving.security.limits import BodyLimit, RateLimit
from jangin.serving.security.signer import Signer
from jangin.serving.state.server import BackgroundService, Server
from jangin.serving.webhooks import routes as webhooks
from jangin.serving.webhooks.sender import WebhookSender

THREADS = 64
"""Route functions that run at once."""


@dataclass(frozen=True, slots=True)
class Routes:
    """A router, the scope that a key needs for it, and the beginning of its paths."""

    router: APIRouter
    scope: str
    prefix: str = "/v1"


ROUTERS: tuple[Routes, ...] = (
    Routes(files.router, "files"),
    Routes(uploads.router, "files"),
    Routes(prepare.router, "files"),
    Routes(jobs.router, "jobs"),
    Routes(permissions.router, "jobs"),
    Routes(export.router, "models"),
    Routes(graders.router, "jobs"),
    Routes(batches.router, "batches"),
    Routes(models.router, "models"),
    *(
        Routes(answering.router, "inference")
        for answering in (chat, completions, responses, embeddings, tokenize, comparison)
    ),
    Routes(tokenize.router, "inference", prefix=""),
    Routes(webhooks.router, "admin"),
)
"""Everything that needs a key; a row here is all that a new router needs."""
OPEN_ROUTERS: tuple[APIRouter, ...] = (health.router, metrics.router)
"""Routers at the top, without a key."""
PAGES: tuple[APIRouter, ...] = (
    sign_in.router,
    pictures.router,
    data.router,
    document_pages.router,
    compare.router,
    playground.router,
    review_documents.router,
    review.router,
    exchange.router,
    jobs_pages.jobs,
    jobs_pages.models,
    jobs_pages.files,
    keys_pages.router,
    runs.router,
    start.router,
)
"""Pages for browsers; a row here is all that a new room needs."""
PUBLIC_PAGES: tuple[APIRouter, ...] = (rendering.router, sign_in.public, preparing)
"""What a browser reaches before it has signed in."""
SERVICES: tuple[Callable[[Server], BackgroundService], ...] = (
    FileKeeper,
    Inference,
    WebhookSender,
    Scheduler,
    BatchRunner,
)
"""Background services in the order in which they start; they stop in the opposite one.

Each is called with the server; `server.get(CLASS)` finds it again."""


def create_app(server: Server) -> FastAPI:
    """The application that answers requests for a server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.add(InternalRequests(app, asyncio.get_running_loop()))
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        started: list[BackgroundService] = []
        try:
            for create in SERVICES:
                service = create(server)
                server.add(service)
                await anyio.to_thread.run_sync(service.start)
                started.append(service)
            if server.settings.warm_up:
                await anyio.to_thread.run_sync(_prepare_pages, server)
            yield
        finally:
            for service in reversed(started):
                await anyio.to_thread.run_sync(service.stop)

    app = FastAPI(
        title="jangin",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.server = server
    server.models = Registry(server)
    add_handlers(app)
    for routes in ROUTERS:
        allowed = Depends(needs(routes.scope))
        app.include_router(routes.router, prefix=routes.prefix, dependencies=[allowed])
    for router in OPEN_ROUTERS:
        app.include_router(router)
    _add_pages(app, server)
    # The last one is the outermost.
    app.add_middleware(FirstReplies, server=server)
    if server.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.settings.origins,
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=("x-request-id",),
        )
    if server.settings.log_prompts:
        app.add_middleware(PromptLog)
    app.add_middleware(PageHeaders)
    app.add_middleware(BodyLimit, limits=server.settings.limits)
    app.add_middleware(RateLimit, limits=server.settings.limits)
    app.add_middleware(BrowserGuard, settings=server.settings)
    counters = Metrics(server)
    server.add(counters)
    app.add_middleware(RequestContext, observers=(counters.observe, log_request))
    app.add_middleware(ModelPath)
    return app


def _prepare_pages(server: Server) -> None:
    """Load what the first reader of every page would wait for, and begin to build the rest."""
    project = server.get(Workbench).project
    if project is None:
        return
    rendering.load_templates()
    if project.exists:
        server.get(ReviewQueues).build_early(project)


def _add_pages(app: FastAPI, server: Server) -> None:
    """The pages of the workbench, and errors that look like them."""
    server.add(Signer(server.settings.folder))
    server.add(Workbench(server))
    server.add(Preparations())
    server.add(Comparisons())
    server.add(TaughtModels())
    server.add(playground.Undos())
    server.add(ReviewQueues())
    server.add(Follow(server))
    add_error_pages(app)
    for router in PUBLIC_PAGES:
        app.include_router(router)
    for router in PAGES:
        app.include_router(router, dependencies=[Depends(check_form)])
