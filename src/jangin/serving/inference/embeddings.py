"""`POST /embeddings`, where the settings name an encoder."""

import base64
import threading
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from jangin.core.errors import JanginError
from jangin.core.ledger import Ledger
from jangin.serving.inference.bodies import Ignoring
from jangin.serving.inference.service import api_error, load_libraries
from jangin.serving.protocol.errors import ApiError, no_such_model
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import Server, ServerDep

router = APIRouter()
MOST_INPUTS = 2048
_lock = threading.Lock()
_encoders: dict[tuple[str, str], Any] = {}
"""{(folder of the server, name): encoder}."""


class EmbeddingBody(Ignoring):
    """Texts to embed."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)


@router.post("/embeddings")
def create_embeddings(
    body: EmbeddingBody,
    server: ServerDep,
    caller: CallerDep,
) -> dict[str, Any]:
    """A unit vector for each text; raises `ApiError`."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= MOST_INPUTS or not all(isinstance(t, str) and t for t in texts):
        raise ApiError(
            400,
            f"Invalid 'input': expected 1 to {MOST_INPUTS} texts that are not empty; token ids "
            "are not supported.",
            param="input",
            code="invalid_value",
        )
    if body.dimensions is not None:
        raise ApiError(
            400,
            "This model does not support specifying dimensions.",
            param="dimensions",
            code="unsupported_parameter",
        )
    try:
        encoder = _encoder(server, body.model, caller)
        with _lock:
            vectors_ND = encoder.encode([str(text) for text in texts], "passage")
            tokens = encoder.count_tokens([str(text) for text in texts], "passage")
    except JanginError as error:
        raise api_error(error, "input") from error
    data = [
        {"object": "embedding", "index": index, "embedding": _coded(vector_D, body.encoding_format)}
        for index, vector_D in enumerate(vectors_ND)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


def _coded(vector_D: Any, encoding: str) -> list[float] | str:
    if encoding == "float":
        return [float(value) for value in vector_D]
    return base64.b64encode(vector_D.astype("<f4").tobytes()).decode()


def _encoder(server: Server, name: str, caller: CallerDep) -> Any:
    config = server.settings.encoders.get(name)
    if config is None and any(m.id == name for m in server.models.names(caller)):
        known = ", ".join(server.settings.encoders) or "none yet; add one under `encoders`"
        raise ApiError(
            400,
            f"The model '{name}' writes text and gives no embeddings. Models that do: {known}.",
            param="model",
            code="invalid_value",
        )
    if config is None:
        raise no_such_model(name)
    load_libraries()
    from jangin.inference.encoder import open_encoder

    key = (str(server.settings.folder), name)
    with _lock:
        if key not in _encoders:
            ledger = Ledger(server.settings.folder / "ledger.sqlite")
            _encoders[key] = open_encoder(config, server.settings.folder, ledger)
        return _encoders[key]
