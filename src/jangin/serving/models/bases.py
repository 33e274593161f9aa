"""The base of a job: a local model, or one that an earlier job fine-tuned."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jangin.core.store import moved_with
from jangin.models.catalog import Base, Starter, name_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.caller import Caller
from jangin.serving.state.settings import ModelEntry, ServerSettings
from jangin.serving.state.tables import Permission, StoredModel

TUNED = "ft:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}")
STARTER = Starter(type="starter", context_length=4096)
"""What every name trains on a server without `models`."""
COMPLETION_NAMES = frozenset({"babbage-002", "davinci-002"})
"""OpenAI's completion models: of kind `completion` on a server without `models` too."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the training of a job starts."""

    entry: ModelEntry
    shown: str
    """Name of the local model."""
    parent: StoredModel | None = None
    """The tuned model to continue from."""


def origin_of(session: Session, settings: ServerSettings, name: str, caller: Caller) -> Origin:
    """The base that the model name of a new job refers to.

    Raises:
        ApiError: 400 `model_not_available`.

    """
    if name.startswith(TUNED):
        parent = _tuned(session, name, caller)
        if parent is None:
            raise not_available(name)
        entry = entry_of(settings, base_part(name))
        return Origin(entry or ModelEntry(base=STARTER), name, parent)
    entry = entry_of(settings, name)
    if entry is None or not entry.trainable:
        raise not_available(name)
    return Origin(entry, name_of(entry.base))


def entry_of(settings: ServerSettings, name: str) -> ModelEntry | None:
    """The local model of a name; without a table of models every name is a starter."""
    if settings.models:
        slugs = {slug_of(alias): entry for alias, entry in settings.models.items()}
        return settings.models.get(name) or slugs.get(name)
    kind: Literal["chat", "completion"] = "completion" if name in COMPLETION_NAMES else "chat"
    return ModelEntry(base=STARTER, kind=kind) if _NAME.fullmatch(name) else None


def base_of(entry: ModelEntry) -> Base:
    """The local model, with the chat template of its kind.

    A model of kind `completion` trains the text that `/completions` sends: prompt, completion and
    the end of text, without a template around them, unless the entry chooses one.
    """
    if entry.kind == "chat" or entry.base.chat_template != "auto":
        return entry.base
    return entry.base.model_copy(update={"chat_template": "raw"})


def not_available(name: str) -> ApiError:
    """No job can start from this model."""
    return ApiError(
        400,
        f"Model {name} is not available for fine-tuning or does not exist.",
        param="model",
        code="model_not_available",
    )


def slug_of(name: str) -> str:
    """A base in the name of a tuned model: without `/` and `:`, in which a path would begin."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.rsplit("/", 1)[-1]).lower() if name else "model"


def base_part(name: str) -> str:
    """The base in the name of a tuned model."""
    parts = name.split(":")
    return parts[1] if len(parts) > 1 else ""


def _tuned(session: Session, name: str, caller: Caller) -> StoredModel | None:
    shared = select(Permission.model).where(Permission.project == caller.project)
    return session.scalars(
        select(StoredModel).where(
            StoredModel.name == name,
            StoredModel.deleted_at.is_(None),
            or_(StoredModel.project == caller.project, StoredModel.name.in_(shared)),
        )
    ).first()


def catalog_of(entry: ModelEntry, parent_base: Path | None) -> Mapping[str, Any]:
    """The `base:` of the stage `catalog`.

    A starter's tokenizer depends on the training text, so a job that continues one takes the base
    of its parent as a local model.
    """
    base = base_of(entry)
    if parent_base is not None and isinstance(base, Starter):
        location = parent_base / "runtime" / "location.json"
        if location.exists():  # the parent continued one itself
            path = moved_with(parent_base, json.loads(location.read_text())["path"])
            return {"type": "local", "path": str(path)}
        return {"type": "local", "path": str(parent_base / "model")}
    settings: dict[str, Any] = base.model_dump(mode="json", exclude_none=True)
    if "path" in settings:
        settings["path"] = str(Path(settings["path"]).absolute())
    return settings
