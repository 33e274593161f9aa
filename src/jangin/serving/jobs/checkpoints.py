"""Models of a job: their names, their folders, and their rows in the database."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.store import RUNTIME
from jangin.inference.taught_form import FORM
from jangin.serving.jobs.events import CHECKPOINT, MEASURED, MEASURED_WHOLE, add_event
from jangin.serving.models.registry import TUNED, base_part
from jangin.serving.models.registry import base_slug as slug_of
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.installation import MODELS
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Checkpoint, Job, StoredModel
from jangin.serving.state.trash import sweep

KEPT = 3
"""Checkpoints of a job that can be called, the last one included."""
_TAIL = 8

_ORPHAN_SECONDS = 3_600
"""A younger folder may belong to a transaction that is not finished."""
_MEASURES = ("step", "train_loss", "train_mean_token_accuracy", *MEASURED, *MEASURED_WHOLE)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model in the folder of the server."""

    tail: str
    """Last part of its name, which is also that of its folder."""
    path: Path
    base: str
    """Artifact of its base, as the database keeps paths."""

    @property
    def kind(self) -> str:
        """`adapter` or `full`."""
        return "adapter" if (self.path / "adapter").exists() else "full"


def model_name(model: str, organization: str, suffix: str | None, tail: str) -> str:
    """`ft:BASE:ORGANIZATION:SUFFIX:TAIL`, where a tuned model keeps the base of its name."""
    base = base_part(model) if model.startswith(TUNED) else slug_of(model)
    plain = re.sub(r"[^\w-]+", "-", suffix or "").strip("-").lower()
    return f"{TUNED}{base}:{organization}:{plain}:{tail}"


def keep_model(source: Path, models: Path, base: str) -> ModelFolder:
    """Link `model` or `adapter` of an artifact into the folder of models, or copy it.

    So a model outlives the artifact, and takes no space of its own while both are there.
    """
    tail = new_id("", _TAIL)
    target = models / tail
    partial = target.with_suffix(".partial")
    for part in ("model", "adapter"):
        if (source / part).exists():
            shutil.copytree(source / part, partial / part, copy_function=_link)
    if (source / RUNTIME / FORM).exists():
        (partial / RUNTIME).mkdir()
        _link(source / RUNTIME / FORM, partial / RUNTIME / FORM)
    partial.rename(target)
    return ModelFolder(tail, target, base)


def _link(source: Any, target: Any) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def add_checkpoint(
    session: Session,
    job: Job,
    folder: ModelFolder,
    line: Mapping[str, Any],
    now: int,
    name: str,
) -> None:
    """Make the model after a step callable by its name, and forget the oldest ones.

    Their folders stay until `remove_forgotten`.
    """
    path = f"{MODELS}/{folder.tail}"
    session.add(
        Checkpoint(
            id=new_id("ftckpt_"),
            job_id=job.id,
            created_at=now,
            step=line["step"],
            model_name=name,
            metrics={key: line[key] for key in _MEASURES if line.get(key) is not None},
            path=path,
        )
    )
    session.add(
        StoredModel(
            name=name,
            project=job.project,
            created_at=now,
            job_id=job.id,
            base=folder.base,
            kind=folder.kind,
            path=path,
            parent=job.model if job.model.startswith(TUNED) else None,
        )
    )
    add_event(session, job.id, CHECKPOINT.format(line["step"], name), now)
    session.flush()
    rows = session.scalars(
        select(Checkpoint).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step.desc())
    ).all()
    for row in rows[KEPT:]:
        stored = session.scalars(
            select(StoredModel).where(StoredModel.name == row.model_name)
        ).first()
        if stored is not None:
            stored.deleted_at = stored.deleted_at or now
        session.delete(row)


def steps_kept(session: Session, job_id: str) -> set[int]:
    """Steps of a job whose models can be called."""
    return set(session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job_id)))


def remove_forgotten(session: Session, job_id: str, models: Path) -> None:
    """Delete the folders of models of a job that cannot be called any more."""
    rows = session.scalars(
        select(StoredModel.path).where(
            StoredModel.job_id == job_id, StoredModel.deleted_at.is_not(None)
        )
    )
    for path in rows:
        shutil.rmtree(models / Path(path).name, ignore_errors=True)


def sweep_models(server: Server) -> None:
    """Delete folders of deleted models; those that no row names go to the trash."""
    models = models_folder(server)
    with server.database.read() as session:
        rows = session.execute(select(StoredModel.path, StoredModel.deleted_at)).all()
    known = {Path(path).name for path, deleted_at in rows if deleted_at is None}
    for path, deleted_at in rows:
        folder = models / Path(path).name
        if deleted_at is not None and folder.name not in known and folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
    sweep(ModelFolders(models), known, "models", young_seconds=_ORPHAN_SECONDS)


class ModelFolders:
    """The folders of all models, as what a trash is in."""

    def __init__(self, folder: Path) -> None:
        """`folder`: as `models_folder` returns it."""
        self._folder = folder

    def names(self) -> Iterator[tuple[str, float]]:
        """(name, Unix time of the last change) of each folder."""
        for path in self._folder.iterdir() if self._folder.exists() else ():
            with suppress(FileNotFoundError):  # a job gave it its name, or removed it, meanwhile
                yield path.name, path.stat().st_mtime

    def rename(self, old: str, new: str) -> None:
        """Give a folder another name, and the time of now."""
        with suppress(FileNotFoundError):
            os.utime((self._folder / old).rename(self._folder / new))

    def delete(self, name: str) -> None:
        """Delete a folder."""
        shutil.rmtree(self._folder / name, ignore_errors=True)


def models_folder(server: Server) -> Path:
    """The folder of the server with the models of all jobs."""
    folder = server.settings.folder.absolute() / MODELS
    folder.mkdir(exist_ok=True)
    return folder
