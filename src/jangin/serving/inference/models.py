"""`GET /models`, `GET /models/{model}`, `DELETE /models/{model}`.

Ids hold `:` and may hold `/`, which clients send as they are or as `%3A` and `%2F`.
"""

from typing import Literal
from urllib.parse import unquote

from fastapi import APIRouter

from jangin.serving.inference.service import Inference
from jangin.serving.models.registry import Registry
from jangin.serving.protocol.errors import no_such_model
from jangin.serving.protocol.objects import DeletedModel, Reply
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import Named, ServerDep

router = APIRouter()


class ModelReply(Reply):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Reply):
    """All models; OpenAI's list of them has no pages."""

    object: Literal["list"] = "list"
    data: list[ModelReply]


@router.get("/models")
def list_models(server: ServerDep, caller: CallerDep) -> ModelList:
    """Every model that the caller may use."""
    return ModelList(data=[_reply(named) for named in _registry(server).names(caller)])


@router.get("/models/{model:path}")
def retrieve_model(model: str, server: ServerDep, caller: CallerDep) -> ModelReply:
    """One model; raises `ApiError` 404."""
    name = unquote(model)
    named = next((each for each in _registry(server).names(caller) if each.id == name), None)
    if named is None:
        raise no_such_model(name)
    return _reply(named)


@router.delete("/models/{model:path}")
def delete_model(model: str, server: ServerDep, caller: CallerDep) -> DeletedModel:
    """Delete a fine-tuned model; raises `ApiError` 404 or 403.

    Its weights are erased within ten minutes, in the store and in exports, too.
    """
    name, registry = unquote(model), _registry(server)
    server.get(Inference).forget(registry.delete(name, caller))
    return DeletedModel(id=name, object="model", x_kept=registry.relatives(name))


def _reply(named: Named) -> ModelReply:
    return ModelReply(id=named.id, created=named.created, owned_by=named.owned_by)


def _registry(server: ServerDep) -> Registry:
    registry = server.models
    assert isinstance(registry, Registry)  # noqa: S101  the only one that the application sets
    return registry
