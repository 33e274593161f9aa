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
from jangin.core.errors import JanginError, StoreError
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
