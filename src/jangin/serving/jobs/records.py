"""What a worker reads and writes about its job: state, log, checkpoints, results."""

import importlib.util
import io
import json
import netrc
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.errors import DataError, counted, counted_of
from jangin.serving.files.store import RESULTS, add_row, note_file, write_file
from jangin.serving.jobs.checkpoints import (
    ModelFolder,
    add_checkpoint,
    keep_model,
    model_name,
    models_folder,
    remove_forgotten,
    steps_kept,
)
from jangin.serving.jobs.events import (
    MODEL,
    RESULT_FILE,
    RESUMED,
    STARTED,
    SUCCEEDED,
    Failure,
    add_event,
    finish,
    last_step,
    metrics_data,
    metrics_message,
    result_csv,
)
from jangin.serving.jobs.hyperparameters import resolve
from jangin.serving.jobs.pipeline import JobSpec, Outcome, Prepared, read_metrics
from jangin.serving.jobs.rows import (
    PAIRS,
    TRAINING,
    VALIDATION,
    VALIDATION_PAIRS,
    calls_tools,
    read_rows,
    write_chats,
    write_pairs,
)
from jangin.serving.state.caller import SCOPES, Caller
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ModelEntry, ServerSettings
from jangin.serving.state.tables import File, Job

# Where else the metrics of a job are sent: the `integrations` of its request.


_PACKAGE, _HOST = "wandb", "api.wandb.ai"
NOT_SENT = "The integration 'wandb' of this job is not used: {}"
SENT = "Metrics are sent to Weights & Biases ({}): project '{}', run '{}'"


def trackers_of(
    integrations: Sequence[Mapping[str, Any]], job_id: str, settings: ServerSettings
) -> tuple[list[dict[str, Any]], list[str]]:
    """(entries of `track` for the job's project file, one for each integration; reasons for none).

    The key of W&B is the server's: `WANDB_API_KEY`, or that of `wandb login`.
    """
    if not integrations:
        return [], []
    mode, reason = _mode(settings)
    if reason:
        return [], [NOT_SENT.format(reason)]
    entries = []
    for each in integrations:
        given = each["wandb"]
        entries.append(
            {
                "type": "wandb",
                "project": given["project"],
                "entity": given.get("entity") or "",
                "run_name": given.get("name") or job_id,
                "tags": list(given.get("tags") or ()),
                "mode": mode,
                "largest_file_mib": 0,
            }
        )
    return entries, []


def sent(entry: Mapping[str, Any]) -> str:
    """The line of the log on an entry of `trackers_of`."""
    return SENT.format(entry["mode"], entry["project"], entry["run_name"])


def _mode(settings: ServerSettings) -> tuple[str, str]:
    """(`online` or `offline`, why neither)."""
    if settings.wandb == "off":
        return "", "server.yaml says `wandb: off`"
    if importlib.util.find_spec(_PACKAGE) is None:
        return "", "the server lacks the package wandb: pip install 'jangin[wandb]'"
    if settings.wandb != "auto":
        return settings.wandb, ""
    if os.environ.get("WANDB_MODE") == "offline":
        return "offline", ""
    if not (os.environ.get("WANDB_API_KEY") or _has_login()):
        return "", (
            "the server has no key of Weights & Biases. Set WANDB_API_KEY where it is started, or "
            "`wandb: offline` in server.yaml"
        )
    return "online", ""


def _has_login() -> bool:
    """Whether `wandb login` has left a key in ~/.netrc."""
    try:
        return netrc.netrc().authenticators(_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class JobRecords:
    """The rows of one job, as long as its lease is the owner's."""

    def __init__(self, server: Server, job_id: str, owner: str) -> None:
        self._server = server
        self._id = job_id
        self._owner = owner
        self.base: Path | None = None
        """Artifact of the base, once it is known."""
        self.begun = False
        self._lines: dict[int, dict[str, Any]] = {}
        self._offset = 0
        self._last = 0
        self._kept: set[int] = set()
        self._resumed = False
        self._since: tuple[float, int] | None = None
        self._result: File | None = None
        self._model: ModelFolder | None = None

    @property
    def _models(self) -> Path:
        return models_folder(self._server)

    def status(self) -> str:
        """The state of the job."""
        with self._server.database.read() as session:
            return session.scalar(select(Job.status).where(Job.id == self._id)) or "cancelled"

    def begin(self) -> JobSpec:
        """Put the job into `running`; returns what it trains.

        Raises:
            DataError: a file of the job is gone.
            KeyboardInterrupt: the job is not to be trained any more.

        """
        with self._server.database.write() as session:
            job = self._owned(session)
            if job is None or job.status not in ("queued", "running"):
                raise KeyboardInterrupt
            about = dict(job.extensions or {})
            numbers = self._numbers(job, about)
            first_time = job.started_at is None
            if first_time:
                add_event(session, job.id, STARTED, self._server.now())
            job.status, job.started_at = "running", job.started_at or self._server.now()
            self._last, self._kept = last_step(session, job.id), steps_kept(session, job.id)
            track, notes = trackers_of(job.integrations or (), job.id, self._server.settings)
            if first_time:
                for text in notes:
                    add_event(session, job.id, text, self._server.now(), level="warn")
                for entry in track:
                    add_event(session, job.id, sent(entry), self._server.now())
        self.begun = True
        folder = self._server.settings.jobs.absolute() / job.id
        folder.mkdir(parents=True, exist_ok=True)
        self._write_rows(job, folder)
        parent, path_of = about.get("parent") or {}, self._server.settings.path_of
        return JobSpec(
            id=job.id,
            folder=folder,
            store=self._server.settings.store.absolute(),
            method=job.method_type,
            entry=ModelEntry.model_validate_json(json.dumps(about["entry"])),
            parent=path_of(parent["path"]) if parent else None,
            parent_base=path_of(parent["base"]) if parent else None,
            numbers=numbers,
            seed=job.seed,
            options=about.get("options") or {},
            has_validation=job.validation_file is not None,
            track=track,
        )

    def _numbers(self, job: Job, about: Mapping[str, Any]) -> dict[str, int | float]:
        """Concrete hyperparameters, which the job shows from now on."""
        method = dict(job.method or {})
        own = dict(method.get(job.method_type) or {})
        given = dict(job.hyperparameters or {}) | dict(own.get("hyperparameters") or {})
        capped = about["entry"]["base"]["type"] != "starter" and job.validation_file is None
        numbers = resolve(given, int(about.get("examples") or 0), job.method_type, capped=capped)
        job.hyperparameters = {name: numbers[name] for name in numbers if name != "beta"}
        job.method = {**method, job.method_type: {**own, "hyperparameters": dict(numbers)}}
        return numbers

    def _write_rows(self, job: Job, folder: Path) -> None:
        """The rows of the job's files, as the stages read them."""
        files = [(job.training_file, TRAINING, write_chats)]
        name, write = VALIDATION, write_chats
        if job.method_type == "dpo":
            files.append((job.training_file, PAIRS, write_pairs))
            name, write = VALIDATION_PAIRS, write_pairs
        if job.validation_file is not None:
            files.append((job.validation_file, name, write))
        for file_id, name, write in files:
            try:
                with self._server.storage.reader(file_id) as source:
                    write(source, folder / name)
            except FileNotFoundError as error:
                raise DataError(
                    f"The file {file_id} is gone from the storage. Upload it again and create a "
                    "new job."
                ) from error

    def warn(self, texts: Sequence[str]) -> None:
        """Add warnings to the log."""
        if not texts:
            return
        with self._server.database.write() as session:
            if self._owned(session) is not None:
                for text in texts:
                    add_event(session, self._id, text, self._server.now(), level="warn")

    def prepared(self, prepared: Prepared) -> None:
        """Keep what is known before training; say what is lost."""
        self.base = prepared.base
        with self._server.database.read() as session:
            training = session.scalar(select(Job.training_file).where(Job.id == self._id))
        has_tools = training is not None and self._calls_tools(training)
        with self._server.database.write() as session:
            job = self._owned(session)
            if job is None or last_step(session, job.id):
                return
            for text in self._notes(job, prepared, has_tools=has_tools):
                add_event(session, job.id, text, self._server.now(), level="warn")
            file = session.scalars(select(File).where(File.id == job.training_file)).first()
            if file is not None and prepared.preview:
                file.report = {**(file.report or {}), "mask_preview": prepared.preview}

    def _calls_tools(self, file_id: str) -> bool:
        with self._server.storage.reader(file_id) as source:
            return any(calls_tools(row) for row in read_rows(source))

    def _notes(self, job: Job, prepared: Prepared, *, has_tools: bool) -> list[str]:
        notes = []
        examples = int((job.extensions or {}).get("examples") or 0)
        kept = prepared.rows + prepared.empty
        if job.method_type == "supervised" and kept < examples:
            notes.append(
                f"{counted_of(examples - kept, examples, 'example', 'repeats', 'repeat')} another "
                "one or have no user message; they are not trained on"
            )
        if prepared.longer:
            notes.append(
                f"{counted(prepared.longer, 'example is', 'examples are')} longer than "
                f"{prepared.limit} tokens and are "
                f"truncated at the end; {prepared.empty} of them have nothing left to train on"
            )
        if has_tools:
            notes.append(
                "Tool calls are trained as text: <tool_call> and </tool_call> around a JSON object"
            )
        return notes

    def follow(self, folder: Path, total: int, resumed_at: int) -> None:
        """Log the new steps and the new models of a training that writes to `folder`."""
        if not total:
            return
        lines = self._new_lines(folder / "metrics.jsonl")
        epochs = [
            (step, path)
            for path in sorted((folder / "epochs").glob("step-*[0-9]"))
            if (step := int(path.name.removeprefix("step-"))) in self._lines
            and step not in self._kept
        ]
        models = [(step, kept) for step, path in epochs if (kept := self._keep(path)) is not None]
        if not lines and not models:
            return
        with self._server.database.write() as session:
            job = self._owned(session)
            if job is None:
                return
            now = self._server.now()
            if resumed_at and not self._resumed:
                add_event(session, job.id, RESUMED.format(resumed_at, total), now)
            waiting = dict(models)
            for line in lines:
                for step in [step for step in waiting if step < line["step"]]:
                    self._add_checkpoint(session, job, step, waiting.pop(step), now)
                data, text = metrics_data(line, total), metrics_message(line, total)
                add_event(session, job.id, text, now, data=data, kind="metrics")
            for step, model in waiting.items():
                self._add_checkpoint(session, job, step, model, now)
            if lines:
                job.estimated_finish = self._estimate(lines[-1]["step"], total, now)
        self._resumed = bool(resumed_at)
        self._last = max([self._last, *(line["step"] for line in lines)])
        self._kept.update(step for step, _ in models)
        if models:
            with self._server.database.read() as session:
                remove_forgotten(session, self._id, self._models)

    def _add_checkpoint(
        self, session: Session, job: Job, step: int, model: ModelFolder, now: int
    ) -> None:
        name = model_name(job.model, self._organization, job.suffix, model.tail)
        full_name = f"{name}:ckpt-step-{step}"
        add_checkpoint(session, job, model, self._lines[step], now, full_name)

    def _new_lines(self, path: Path) -> list[dict[str, Any]]:
        """Lines of steps that the log does not have; a resumed training shortens the file."""
        if not path.exists():
            return []
        with path.open("rb") as stream:
            if stream.seek(0, io.SEEK_END) < self._offset:
                self._offset = 0
            stream.seek(self._offset)
            data = stream.read()
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        lines = [json.loads(line) for line in data.splitlines()]
        self._lines.update({line["step"]: line for line in lines})
        return [line for step, line in sorted(self._lines.items()) if step > self._last]

    def _keep(self, path: Path) -> ModelFolder | None:
        """The model of an epoch, kept; None where training deleted it in this moment."""
        if self.base is None:
            return None
        try:
            return keep_model(path, self._models, self._server.settings.stored_path(self.base))
        except FileNotFoundError:
            return None

    @property
    def _organization(self) -> str:
        return self._server.settings.organization

    def _estimate(self, step: int, total: int, now: int) -> int | None:
        """When the last step ends, by the speed of the steps of this process."""
        at = time.monotonic()
        if self._since is None:
            self._since = (at, step)
        since, first = self._since
        if step == first:
            return None
        return now + round((at - since) / (step - first) * (total - step))

    def succeed(self, outcome: Outcome) -> None:
        """Register the model and end the job, in one transaction; may be repeated."""
        self.base = outcome.base
        self.follow(outcome.model, outcome.metrics[-1]["step"], 0)
        base = self._server.settings.stored_path(outcome.base)
        self._model = self._model or keep_model(outcome.model, self._models, base)
        self._result = result = self._result or self._result_file(outcome.metrics)
        with self._server.database.write() as session:
            job = self._owned(session)
            if job is None or job.status != "running":
                return
            now, last = self._server.now(), outcome.metrics[-1]
            name = model_name(job.model, self._organization, job.suffix, self._model.tail)
            add_checkpoint(session, job, self._model, last, now, name)
            add_event(session, job.id, MODEL.format(name), now)
            finish(session, job, "succeeded", SUCCEEDED, now)
            note_file(session, _caller_of(job), result, now)  # only of the process that ends it
            job.fine_tuned_model, job.result_files = name, [result.id]
            job.trained_tokens = last["trained_tokens"]
            job.lease_owner = job.lease_until = None
        with self._server.database.read() as session:
            remove_forgotten(session, self._id, self._models)

    def fail(self, failure: Failure) -> None:
        """End the job with an error; may be repeated."""
        with self._server.database.write() as session:
            job = self._owned(session)
            if job is None or job.status != "running":
                return
            now = self._server.now()
            finish(session, job, "failed", failure.message, now, error=failure)
            job.lease_owner = job.lease_until = None

    def write_result_of_partial(self, training: Path | None) -> None:
        """The measurements of a job that was cancelled or has failed."""
        if training is None or self.status() not in ("cancelled", "failed"):
            return
        if lines := read_metrics(training / "metrics.jsonl"):
            row = self._result_file(lines)
            add_row(self._server, _caller_of(row), row)

    def _result_file(self, lines: list[dict[str, Any]]) -> File:
        """The row of a file with the measurements, not added yet; its bytes are stored."""
        with self._server.database.read() as session:
            job = session.scalars(select(Job).where(Job.id == self._id)).one()
        return write_file(
            self._server,
            io.BytesIO(result_csv(lines)),
            caller=_caller_of(job),
            filename=RESULT_FILE,
            purpose=RESULTS,
        )

    def _owned(self, session: Session) -> Job | None:
        """The job, if its lease is still the owner's."""
        job = session.scalars(select(Job).where(Job.id == self._id)).first()
        return job if job is not None and job.lease_owner == self._owner else None


def _caller_of(row: Job | File) -> Caller:
    return Caller(row.project, frozenset(SCOPES), row.owner_key)
