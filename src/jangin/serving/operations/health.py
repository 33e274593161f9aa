"""`GET /healthz` and `GET /readyz`: whether the process answers, and whether it can do its work.

Neither needs a key, so neither says more than which part fails; the log has the reason.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from jangin import __version__
from jangin.core.errors import JanginError, MachineError, StoreError
from jangin.serving.inference.service import Inference
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Job

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
    """200 where database, disk and queue of jobs work, else 503; and how many models are loaded."""
    checks = {name: _state(name, check, server) for name, check in CHECKS.items()}
    ready = set(checks.values()) == {"ok"}
    reply = {
        "status": "ok" if ready else "not ready",
        "checks": checks,
        "models_loaded": server.get(Inference).loaded,
    }
    return JSONResponse(reply, 200 if ready else 503)


def _state(name: str, check: Callable[[Server], None], server: Server) -> str:
    try:
        check(server)
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


def _scheduler(server: Server) -> None:
    if not server.get(Scheduler).is_alive:
        raise MachineError("the queue of jobs has ended. Start the server again.")


CHECKS: dict[str, Callable[[Server], None]] = {
    "database": _database,
    "disk": _disk,
    "scheduler": _scheduler,
}
