"""`GET /healthz`: whether the server can answer."""

from fastapi import APIRouter

from jangin import __version__
from jangin.serving.state.server import ServerDep

router = APIRouter()


@router.get("/healthz")
def healthz(server: ServerDep) -> dict[str, str]:
    """That the database answers; needs no key."""
    server.database.check()
    return {"status": "ok", "version": __version__}
