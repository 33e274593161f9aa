"""The workbench: the application for browsers, with a table of all pages."""

from functools import partial

from fastapi import APIRouter, Depends, FastAPI

from jangin.serving.pages import guard, rendering
from jangin.serving.pages import jobs as jobs_pages
from jangin.serving.pages import jobs as keys_pages
from jangin.serving.pages.compare import routes as compare
from jangin.serving.pages.compare.overview import Comparisons
from jangin.serving.pages.data import document_pages, pictures
from jangin.serving.pages.data import routes as data
from jangin.serving.pages.guard import PageHeaders, add_error_pages, check_form
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
from jangin.serving.pages.visit import is_known
from jangin.serving.protocol.context import new_application
from jangin.serving.security.limits import KnownBodies
from jangin.serving.security.sessions import Signer
from jangin.serving.state.server import Server

PAGES: tuple[APIRouter, ...] = (
    guard.router,
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
PUBLIC_PAGES: tuple[APIRouter, ...] = (rendering.router, guard.public, preparing)
"""What a browser reaches before it has signed in."""


def create_workbench(server: Server) -> FastAPI:
    """The application for browsers; its errors look like its pages."""
    server.add(Signer(server.settings.folder))
    server.add(Workbench(server))
    server.add(Preparations())
    server.add(Comparisons())
    server.add(TaughtModels())
    server.add(playground.Undos())
    server.add(ReviewQueues())
    server.add(Follow(server))
    workbench = new_application(server)
    add_error_pages(workbench)
    for router in PUBLIC_PAGES:
        workbench.include_router(router)
    for router in PAGES:
        workbench.include_router(router, dependencies=[Depends(check_form)])
    # The last one is the outermost.
    workbench.add_middleware(FirstReplies, server=server)
    workbench.add_middleware(PageHeaders)
    workbench.add_middleware(KnownBodies, is_known=partial(is_known, server=server))
    return workbench


def prepare_pages(server: Server) -> None:
    """Load what the first reader of every page would wait for, and begin to build the rest."""
    project = server.get(Workbench).project
    if project is None:
        return
    rendering.load_templates()
    if project.exists:
        server.get(ReviewQueues).build_early(project)
