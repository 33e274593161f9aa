"""What deleted models and files leave behind in jobs, in the store and in exports is erased, too.

The rows of a job are needed as long as one of its files or models is there: an export is checked on
them. The weights in the store are needed as long as the model is, which has links to them.
"""

import logging
import shutil
from pathlib import Path

from sqlalchemy import select

from jangin.serving.files.store import FINISHED_JOBS
from jangin.serving.jobs.pipeline import artifacts_of
from jangin.serving.jobs.rows import PAIRS, TRAINING, VALIDATION, VALIDATION_PAIRS
from jangin.serving.state.server import Server
from jangin.serving.state.tables import File, Job, StoredModel

EXPORTS = "exports"
"""Folder of the server with what was exported before."""
ROWS = (TRAINING, VALIDATION, PAIRS, VALIDATION_PAIRS)
_OF_JOB = (Job.id, Job.status, Job.training_file, Job.validation_file, Job.model,
           Job.fine_tuned_model)  # fmt: skip
_OF_MODEL = (StoredModel.name, StoredModel.job_id, StoredModel.base)
_WEIGHTS = ("sft", "continue_sft", "dpo")
_PARENT = "warm_start"
"""Has the weights of the model that a job continued."""
_BASE = "catalog"
log = logging.getLogger("jangin.serving.jobs")


def erase_forgotten(server: Server) -> None:
    """Erase exports, weights and rows that no file, model or unfinished job needs."""
    settings = server.settings
    with server.database.read() as session:
        jobs = session.execute(select(*_OF_JOB)).all()
        files = set(session.scalars(select(File.id)))
        alive = session.execute(select(*_OF_MODEL).where(StoredModel.deleted_at.is_(None))).all()
    of_job: dict[str | None, set[str]] = {}
    for model in alive:
        of_job.setdefault(model.job_id, set()).add(model.name)
    alive_names = {model.name for model in alive}
    _erase_exports(settings.folder / EXPORTS, alive_names)
    needed, unneeded = set[str](), set[str]()
    bases = {"/".join(Path(model.base).parts[-2:]) for model in alive}
    for job in jobs:
        folder = settings.jobs / job.id
        noted = artifacts_of(folder)
        if noted is None:
            if job.status == "running":
                return  # it may be about to use what another job made
            continue
        if job.status not in FINISHED_JOBS:
            needed |= noted
            continue
        names = of_job.get(job.id, set())
        rows = bool(names) or bool(files & {job.training_file, job.validation_file})
        for artifact in noted:
            stage = artifact.partition("/")[0]
            if stage in _WEIGHTS:
                keeps = job.fine_tuned_model in names
            elif stage == _PARENT:
                keeps = job.model in alive_names
            else:
                keeps = rows or (stage == _BASE and artifact in bases)
            (needed if keeps else unneeded).add(artifact)
        if not rows:
            _erase_rows(folder)
    for artifact in sorted(unneeded - needed):
        _erase_artifact(settings.store / artifact)


def _erase_exports(folder: Path, names: set[str]) -> None:
    tails = {name.rsplit(":", 1)[-1] for name in names}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.strip(".").partition("-")[0] not in tails:
            shutil.rmtree(path, ignore_errors=True)
            log.info("the export %s was erased: its model was deleted", path.name)


def _erase_rows(folder: Path) -> None:
    present = [name for name in ROWS if (folder / name).exists()]
    for name in present:
        (folder / name).unlink()
    if present:
        log.info("the rows of %s were erased: its files and models were deleted", folder.name)


def _erase_artifact(path: Path) -> None:
    for each in (path, path.with_name(f"{path.name}.partial")):
        if each.exists():
            shutil.rmtree(each, ignore_errors=True)
            log.info("the artifact %s was erased: no file or model needs it", path)
