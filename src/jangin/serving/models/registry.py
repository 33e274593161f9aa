"""Resolves model names: aliases, fine-tuned models, finished variants of a project."""

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from jangin.core.digest import short_digest
from jangin.core.errors import ConfigError, JanginError
from jangin.core.store import moved_with
from jangin.models.catalog import Base, Starter, name_of, write_base
from jangin.serving.protocol.errors import ApiError, no_such_model
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Named, ServedModel, Server
from jangin.serving.state.settings import ModelEntry, ServerSettings
from jangin.serving.state.tables import Permission, StoredModel

# The base of a job: a local model, or one that an earlier job fine-tuned.


TUNED = "ft:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}")
STARTER = Starter(type="starter", context_length=4096)
"""What every name trains on a server without `models`."""
COMPLETION_NAMES = frozenset({"babbage-002", "davinci-002"})
"""OpenAI's completion models: of kind `completion` on a server without `models` too."""


@dataclass(frozen=True, slots=True)
class JobOrigin:
    """Where the training of a job starts."""

    entry: ModelEntry
    shown: str
    """Name of the local model."""
    parent: StoredModel | None = None
    """The tuned model to continue from."""


def origin_of(session: Session, settings: ServerSettings, name: str, caller: Caller) -> JobOrigin:
    """The base that the model name of a new job refers to.

    Raises:
        ApiError: 400 `model_not_available`.

    """
    if name.startswith(TUNED):
        parent = _tuned(session, name, caller)
        if parent is None:
            raise not_available(name)
        entry = entry_of(settings, base_part(name))
        return JobOrigin(entry or ModelEntry(base=STARTER), name, parent)
    entry = entry_of(settings, name)
    if entry is None or not entry.trainable:
        raise not_available(name)
    return JobOrigin(entry, name_of(entry.base))


def entry_of(settings: ServerSettings, name: str) -> ModelEntry | None:
    """The local model of a name; without a table of models every name is a starter."""
    if settings.models:
        slugs = {base_slug(alias): entry for alias, entry in settings.models.items()}
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


def base_slug(name: str) -> str:
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


_FRESH_SECONDS = 10.0
"""How long the list of finished variants of a project is kept."""
_MODEL, _LOCATION = "model", "location.json"


class Registry:
    """All models of the server."""

    def __init__(self, server: Server) -> None:
        """Models are looked up when they are asked for: jobs and runs finish at any time."""
        self._server = server
        self._lock = threading.Lock()
        self._variants: dict[str, ServedModel] = {}
        self._read_at = float("-inf")
        self._started = server.now()

    def resolve(self, name: str, caller: Caller) -> ServedModel:
        """The model of a name.

        Raises:
            ApiError: 404 `model_not_found`, or 400 for a starter, which exists only once a job has
                trained one.

        """
        if name.startswith(TUNED):
            stored = self._stored(name, caller)
            if stored is not None:
                return stored
            variant = self._variants_for(caller).get(name)
            if variant is not None:
                return variant
            raise no_such_model(name)
        entry = self.entry(name)
        if entry is None:
            own = self._variants_for(caller).get(name) or self._short_names(caller).get(name)
            if own is not None:
                return own
            raise no_such_model(name)
        return ServedModel(
            name=name,
            base_folder=self._base_folder(name, base_of(entry)),
            adapter_folder=None,
            kind="base",
            owned_by="system",
            trainable=entry.trainable,
            created=self._started,
        )

    def entry(self, name: str) -> ModelEntry | None:
        """The row of the table of aliases for a name, or for the base in a fine-tuned one's."""
        settings = self._server.settings
        if not settings.models:
            return None
        return entry_of(settings, base_part(name) if name.startswith(TUNED) else name)

    def names(self, caller: Caller) -> list[Named]:
        """Every model that the caller may use, fine-tuned ones first, the newest of them first."""
        with self._server.database.read() as session:
            rows = session.scalars(
                _visible_models(caller).order_by(
                    StoredModel.created_at.desc(), StoredModel.rowid.desc()
                )
            ).all()
            known = [Named(row.name, row.created_at, _owner(row.project)) for row in rows]
        aliases = self._server.settings.models
        known += [
            Named(each, model.created, model.owned_by)
            for each, model in self._short_names(caller).items()
        ]
        known += [
            Named(each.name, each.created, each.owned_by)
            for each in self._variants_for(caller).values()
            if each.name not in aliases
        ]
        return [*known, *(Named(alias, self._started, "system") for alias in aliases)]

    def _short_names(self, caller: Caller) -> dict[str, ServedModel]:
        """The finished variants by their own names, unless other models have these names."""
        known = self._variants_for(caller)
        short = {short_name(model): model for model in known.values() if model.kind != "base"}
        return {
            name: model
            for name, model in short.items()
            if name not in known and self.entry(name) is None
        }

    def of_project(self) -> list[ServedModel]:
        """The finished variants of the server's project, and the base models of them."""
        return list(self._project_variants().values())

    def delete(self, name: str, caller: Caller) -> ServedModel:
        """Mark a fine-tuned model of the caller's project as deleted; its files are erased later.

        Raises:
            ApiError: 404 where there is none, 403 for a model that is not the caller's.

        """
        if not name.startswith(TUNED):
            if self.entry(name) is None:
                raise no_such_model(name)
            raise ApiError(
                403, f"The model '{name}' is a base model of this server and cannot be deleted."
            )
        model = self.resolve(name, caller)
        with self._server.database.write() as session:
            row = session.scalars(_visible_models(caller).where(StoredModel.name == name)).first()
            if row is None or row.project != caller.project:
                raise ApiError(403, f"The model '{name}' does not belong to your project.")
            row.deleted_at = self._server.now()
            record(session, caller, "model.delete", name, self._server.now())
        return model

    def relatives(self, name: str) -> list[str]:
        """Other models of the job that trained a model, and those that continued it."""
        with self._server.database.read() as session:
            job = session.scalar(select(StoredModel.job_id).where(StoredModel.name == name))
            related = StoredModel.parent == name
            if job is not None:
                related |= StoredModel.job_id == job
            alive = (StoredModel.deleted_at.is_(None), StoredModel.name != name)
            query = select(StoredModel.name).where(related, *alive)
            return list(session.scalars(query.order_by(StoredModel.rowid)))

    def _stored(self, name: str, caller: Caller) -> ServedModel | None:
        with self._server.database.read() as session:
            row = session.scalars(_visible_models(caller).where(StoredModel.name == name)).first()
            if row is None:
                return None
            settings = self._server.settings
            return ServedModel(
                name=row.name,
                base_folder=settings.path_of(row.base),
                adapter_folder=settings.path_of(row.path),
                kind="adapter" if row.kind == "adapter" else "full",
                owned_by=_owner(row.project),
                trainable=True,
                created=row.created_at,
            )

    def _base_folder(self, name: str, base: Base) -> Path:
        """An artifact of the base, as the stage `catalog` writes it; written once."""
        if isinstance(base, Starter):
            raise ApiError(
                400,
                f"The model '{name}' is a starter, which a fine-tuning job makes from the text of "
                "its training file. Call the model that the job names when it has succeeded.",
                param="model",
                code="model_not_available",
            )
        settings = self._server.settings
        folder = settings.folder / "bases" / short_digest(base.model_dump(mode="json"))
        with self._lock:
            if not (folder / _MODEL).exists():
                partial = folder.with_suffix(".partial")
                (partial / "runtime").mkdir(parents=True, exist_ok=True)
                write_base(
                    base,
                    partial / _MODEL,
                    partial / "runtime" / _LOCATION,
                    Path.cwd(),
                    [],
                    settings.store / "unpacked",
                )
                partial.rename(folder)
        return folder

    def _variants_for(self, caller: Caller) -> dict[str, ServedModel]:
        """What of the project of `-p` the caller may use: all of it, or nothing."""
        shown = self._server.settings.shows_project_to(caller.project)
        return self._project_variants() if shown else {}

    def _project_variants(self) -> dict[str, ServedModel]:
        """{name: model} of the finished variants of the project of `-p`, and of their bases."""
        path = self._server.settings.project
        if path is None:
            return {}
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS:
                variants = self._models_of(path)
                bases = [_base_of(variant) for variant in reversed(variants)]
                self._variants = {model.name: model for model in (*variants, *bases)}
                self._read_at = time.monotonic()
            return self._variants

    def _models_of(self, path: Path) -> list[ServedModel]:
        """The finished models; none while a project file that pages may write is wrong or gone."""
        try:
            return project_models(path)
        except ConfigError:
            if self._server.settings.new_project:
                return []
            raise


def project_models(path: Path) -> list[ServedModel]:
    """The finished models of a project, as `ft:BASE:PROJECT:VARIANT`.

    Raises:
        ConfigError: the project file is wrong.

    """
    from jangin.models.catalog import CatalogConfig
    from jangin.project.release.trained import last_trained
    from jangin.project.session import open_session

    models = []
    with open_session(path, creates_store=False) as session:
        for variant, project in session.project.variants.items():
            try:
                trained = last_trained(session, variant)
            except JanginError:
                continue  # its inputs cannot be read today; `jangin plan` says why
            config = project.stage_config("catalog")
            if trained is None or not isinstance(config, CatalogConfig):
                continue
            base, model = trained.maker("base"), trained.maker("model")
            parts = (slug_of(name_of(config.base)), slug_of(project.name), slug_of(variant))
            models.append(
                ServedModel(
                    name=TUNED + ":".join(parts),
                    base_folder=base.path,
                    adapter_folder=model.path,
                    kind="adapter" if (model.path / "adapter").exists() else "full",
                    owned_by="project",
                    trainable=False,
                    created=int(model.manifest.created_at.timestamp()),
                    variant=variant,
                )
            )
    return models


def _base_of(variant: ServedModel) -> ServedModel:
    """The base model of a finished variant, by the base in its name."""
    return replace(
        variant, name=base_part(variant.name), adapter_folder=None, kind="base", variant=""
    )


def short_name(model: ServedModel) -> str:
    """The variant of a model of `project_models`, without base and project."""
    return model.name.rpartition(":")[2]


def advice_without_models(path: Path) -> str:
    """What to do about a project of which `project_models` finds none."""
    return f"the project {path} has no finished model. Train one with: jangin run --project {path}"


def slug_of(name: str) -> str:
    """A name as part of that of a fine-tuned model: without `/` and `:`."""
    return re.sub(r"[^\w.-]+", "-", name.rsplit("/", 1)[-1]).strip("-").lower() or "model"


def _visible_models(caller: Caller) -> Select[StoredModel]:
    shared = select(Permission.model).where(Permission.project == caller.project)
    return select(StoredModel).where(
        StoredModel.deleted_at.is_(None),
        or_(StoredModel.project == caller.project, StoredModel.name.in_(shared)),
    )


def _owner(project: str) -> str:
    return f"org-{project}"
