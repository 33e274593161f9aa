"""`GET /healthz`: whether the server can answer."""

from fastapi import APIRouter

from jangin import __version__
from jangin.core.errors import StoreError
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.server import ServerDep

router = APIRouter()


@router.get("/healthz")
def healthz(server: ServerDep) -> dict[str, str]:
    """That the database answers; needs no key."""
    try:
        server.database.check()
    except StoreError as error:
        raise ApiError(503, str(error), kind="server_error") from error
    return {"status": "ok", "version": __version__}
