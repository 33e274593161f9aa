"""Jobs, models, files and keys of the fine-tuning API, for people."""

import json
import threading
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, BackgroundTasks, Form, Header, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from pydantic import ValidationError
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jangin.core.errors import DataError
from jangin.models.catalog import name_of
from jangin.report.charts.curves import curve_charts
from jangin.report.i18n.translate import Words
from jangin.serving.files import routes as file_routes
from jangin.serving.files.store import find_file, user_of
from jangin.serving.inference import models as model_routes
from jangin.serving.jobs import export, permissions
from jangin.serving.jobs import routes as job_routes
from jangin.serving.jobs.events import last_step
from jangin.serving.jobs.routes import JobRequest, PermissionRequest
from jangin.serving.models.registry import TUNED, Registry, base_part
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import PageError, Visit, VisitDep, needs
from jangin.serving.protocol.errors import no_such_model
from jangin.serving.protocol.pagination import Paging, page_of
from jangin.serving.security.keys import DEFAULT_SCOPES, add_key, remove_key
from jangin.serving.state.caller import SCOPES, Caller
from jangin.serving.state.server import ServedModel
from jangin.serving.state.settings import ModelEntry
from jangin.serving.state.tables import Audit, Job, JobEvent, Key, Permission, StoredModel
from jangin.views.curves import EMPTY, Curves, curves_of, thinned

# Models as a tree: from which model each was tuned.


CHECKPOINT = ":ckpt-step-"


@dataclass(slots=True)
class ModelNode:
    """A model, and what was tuned from it."""

    name: str
    kind: str
    """`base`, `adapter`, `full` or `checkpoint`."""
    note: str = ""
    """The local model behind an alias."""
    created: int = 0
    """Unix seconds; 0 for a base."""
    job_id: str = ""
    owned: bool = False
    """Whether it belongs to the caller's project and can be deleted."""
    suffix: str = ""
    children: "list[ModelNode]" = field(default_factory=list)


def model_tree(
    session: Session,
    caller: Caller,
    aliases: Mapping[str, ModelEntry],
    of_project: list[ServedModel],
) -> list[ModelNode]:
    """The models that a caller may use: bases, and under each what was tuned from it.

    `of_project`: the finished variants of the server's project and their bases.
    """
    bases = {name: ModelNode(name, "base", name_of(entry.base)) for name, entry in aliases.items()}
    tuned = _tuned(session, caller)
    for model in of_project:
        if not model.variant:
            bases.setdefault(model.name, ModelNode(model.name, "base"))
    for name, (node, parent, base) in tuned.items():
        final = name.partition(CHECKPOINT)[0]
        above = tuned.get(final) if final != name else tuned.get(parent)
        trunk = above[0] if above else bases.setdefault(base, ModelNode(base, "base"))
        trunk.children.append(node)
    for model in of_project:
        if model.variant:
            node = ModelNode(model.name, model.kind, model.variant, model.created)
            base = base_part(model.name)
            bases.setdefault(base, ModelNode(base, "base")).children.append(node)
    return list(bases.values())


def _tuned(session: Session, caller: Caller) -> dict[str, tuple[ModelNode, str, str]]:
    """{name: (node, parent, base)} of the stored models that a caller may use, newest first."""
    shared = select(Permission.model).where(Permission.project == caller.project)
    query = (
        select(StoredModel, Job.model)
        .join(Job, Job.id == StoredModel.job_id, isouter=True)
        .where(
            StoredModel.deleted_at.is_(None),
            or_(StoredModel.project == caller.project, StoredModel.name.in_(shared)),
        )
        .order_by(StoredModel.created_at.desc(), StoredModel.rowid.desc())
    )
    rows = {}
    for row, asked_model in session.execute(query):
        is_own = row.project == caller.project
        kind = "checkpoint" if CHECKPOINT in row.name else row.kind
        base = str(asked_model or "")
        node = ModelNode(
            row.name, kind, "", row.created_at, (row.job_id or "") if is_own else "", is_own
        )
        is_base = base and not base.startswith(TUNED)
        rows[row.name] = (node, row.parent or "", base if is_base else base_part(row.name))
    return rows


# The measurements of a job as curves: a sample of its steps, read by the database.


MOST_POINTS = 600
"""Steps of a curve; a screen shows no more."""
_MOST_JOBS = 64
_lock = threading.Lock()
_known: dict[tuple[str, str], tuple[int, tuple[Curves, int]]] = {}
"""{(database, job): (last event that was read, what was measured)}."""


def job_curves(session: Session, job_id: str) -> tuple[Curves, int]:
    """(curves of a job, steps of the whole training; 0 while they are not known).

    What was read before is kept, so that only new events are read.
    """
    key = (str(session.get_bind().engine.url), job_id)
    with _lock:
        last, (curves, total) = _known.get(key, (0, (EMPTY, 0)))
        query = select(JobEvent.rowid, JobEvent.data).where(
            JobEvent.job_id == job_id, JobEvent.type == "metrics", JobEvent.rowid > last
        )
        if not last and (stride := 2 * last_step(session, job_id) // MOST_POINTS) > 1:
            is_sampled = JobEvent.rowid % stride == 0
            query = query.where(or_(is_sampled, JobEvent.message.contains("validation loss")))
        new = [(row, data) for row, data in session.execute(query.order_by(JobEvent.rowid)) if data]
        if new:
            last, newest = new[-1]
            total = int(newest.get("total_steps", 0))
            curves = thinned(curves + curves_of(data for _, data in new), MOST_POINTS)
        while len(_known) >= _MOST_JOBS and key not in _known:
            _known.pop(next(iter(_known)))
        _known[key] = (last, (curves, total))
    return curves, total


# `/jobs`, `/models`, `/files`: what the fine-tuning API does, through its own functions.


PAGE = 20
EVENTS = 30
MOST_FILES = 200
FIELDS = (
    *("model", "training_file", "validation_file", "method", "suffix", "seed", "lora"),
    *("n_epochs", "batch_size", "learning_rate_multiplier", "beta"),
)
"""Fields of the form of a new job."""
PARTS = (("/jobs", "jobs_jobs"), ("/models", "jobs_models"), ("/files", "jobs_files"))
"""(address, key of the name) of the pages of this room; keys are for administrators."""


jobs = APIRouter(prefix="/jobs", dependencies=needs("jobs"))
models = APIRouter(prefix="/models", dependencies=needs("models"))
files = APIRouter(prefix="/files", dependencies=needs("files"))


def room(visit: Visit, template: str, **context: Any) -> Response:
    """A page of this room."""
    parts = PARTS + ((("/keys", "jobs_keys"),) if visit.caller.may("admin") else ())
    return render(visit, f"jobs/{template}", parts=parts, **context)


@jobs.get("")
def list_jobs(visit: VisitDep, after: str = "") -> Response:
    """The jobs of the caller's project, newest first."""
    paging = Paging(PAGE, after or None, "desc")
    rows = job_routes.list_jobs(visit.request, visit.server, visit.caller, paging)
    following = f"/jobs?after={rows.data[-1].id}" if rows.has_more else ""
    return room(
        visit, "jobs.html.jinja", rows=rows.data, previous="/jobs" if after else "", next=following
    )


@jobs.get("/new")
def new_job(visit: VisitDep, file: str = "", model: str = "") -> Response:
    """The form of a new job."""
    return _form(visit, {"training_file": file, "model": model})


def _form(visit: Visit, given: dict[str, str], problem: str = "", status: int = 200) -> Response:
    paging = Paging(MOST_FILES, None, "desc")
    rows = file_routes.list_files(visit.server, visit.caller, paging, "fine-tune").data
    names = [
        named.id for named in _registry(visit).names(visit.caller) if _is_trainable(visit, named.id)
    ]
    return room(
        visit,
        "new.html.jinja",
        files=rows,
        names=names,
        any_name=not visit.server.settings.models,
        given=dict.fromkeys(FIELDS, "") | given,
        problem=problem,
        status=status,
    )


def _is_trainable(visit: Visit, name: str) -> bool:
    """Whether a job can start from a model: an alias, or what a job tuned."""
    entry = _registry(visit).entry(name)
    if not name.startswith("ft:"):
        return entry is not None and entry.trainable
    return all(name != model.name for model in _registry(visit).of_project())


def _registry(visit: Visit) -> Registry:
    registry = visit.server.models
    assert isinstance(registry, Registry)  # noqa: S101  # the only one that the application sets
    return registry


@jobs.post("/new")
def create_job(
    visit: VisitDep,
    model: Annotated[str, Form()] = "",
    training_file: Annotated[str, Form()] = "",
    validation_file: Annotated[str, Form()] = "",
    method: Annotated[Literal["supervised", "dpo"], Form()] = "supervised",
    n_epochs: Annotated[str, Form()] = "",
    batch_size: Annotated[str, Form()] = "",
    learning_rate_multiplier: Annotated[str, Form()] = "",
    beta: Annotated[str, Form()] = "",
    lora: Annotated[str, Form()] = "",
    suffix: Annotated[str, Form()] = "",
    seed: Annotated[str, Form()] = "",
) -> Response:
    """Create a job, as `POST /v1/fine_tuning/jobs` does."""
    numbers = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate_multiplier": learning_rate_multiplier,
        **({"beta": beta} if method == "dpo" else {}),
    }
    given = {
        "model": model, "training_file": training_file, "validation_file": validation_file,
        "method": method, "lora": lora, "suffix": suffix, "seed": seed, "beta": beta, **numbers,
    }  # fmt: skip
    own = {"hyperparameters": {name: _number(text) for name, text in numbers.items() if text}}
    body: dict[str, Any] = {
        "model": model,
        "training_file": training_file,
        "method": {"type": method, method: own},
    }
    body |= {"validation_file": validation_file} if validation_file else {}
    body |= {"suffix": suffix} if suffix else {}
    body |= {"seed": _number(seed)} if seed else {}
    body |= {"lora": lora == "yes"} if lora else {}
    try:
        request = JobRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][-1]) if first["loc"] else ""
        return _form(visit, given, f"{field}: {first['msg']}", 400)
    job = job_routes.create_job(request, visit.request, visit.server, visit.caller)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _number(text: str) -> float | int | str:
    """A number of a form; anything else as it is, which the check refuses."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@jobs.get("/{job_id}")
def job_page(visit: VisitDep, job_id: str, after: str = "") -> Response:
    """One job: state, curves, log, checkpoints, files."""
    job = job_routes.retrieve_job(job_id, visit.server, visit.caller)
    with visit.server.database.read() as session:
        curves, total = job_curves(session, job_id)
        query = select(JobEvent).where(JobEvent.job_id == job_id)
        events, more = page_of(session, query, Paging(EVENTS, after or None, "desc"))
    paging = Paging(100, None, "desc")
    checkpoints = job_routes.list_checkpoints(job_id, visit.server, visit.caller, paging).data
    return room(
        visit,
        "job.html.jinja",
        job=job,
        curves=curves,
        total=total,
        charts=curve_charts("job", [("", curves)], visit.words),
        events=events,
        next=f"/jobs/{job_id}?after={events[-1].id}#events" if more else "",
        previous=f"/jobs/{job_id}#events" if after else "",
        live=job.status not in job_routes.FINISHED and not after,
        checkpoints=checkpoints,
        **_state(visit, job),
    )


def _state(visit: Visit, job: Any) -> dict[str, Any]:
    return {
        "is_finished": job.status in job_routes.FINISHED,
        "left": max(job.estimated_finish - visit.server.now(), 0) if job.estimated_finish else None,
    }


@jobs.get("/{job_id}/state")
def job_state(visit: VisitDep, job_id: str) -> Response:
    """The state of a job and its buttons, as a part of the page."""
    job = job_routes.retrieve_job(job_id, visit.server, visit.caller)
    with visit.server.database.read() as session:
        curves, total = job_curves(session, job_id)
    shown = {"curves": curves, "total": total, **_state(visit, job)}
    return render(visit, "jobs/state.html.jinja", job=job, **shown)


@jobs.get("/{job_id}/curves.json")
def job_columns(visit: VisitDep, job_id: str) -> dict[str, Any]:
    """The curves as columns, for the chart that grows."""
    job_routes.retrieve_job(job_id, visit.server, visit.caller)
    with visit.server.database.read() as session:
        return job_curves(session, job_id)[0].data


@jobs.get("/{job_id}/stream")
def job_stream(
    visit: VisitDep,
    job_id: str,
    after: str = "",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The log as server-sent events, after the event that the page has."""
    response: Response = job_routes.list_events(
        job_id,
        visit.server,
        visit.caller,
        Paging(EVENTS, None, "desc"),
        last_event_id or after,
        stream=True,
    )
    if isinstance(response, StreamingResponse):
        response.body_iterator = _in_words(response.body_iterator, visit.words)
    return response


async def _in_words(stream: AsyncIterable[Any], words: Words) -> AsyncIterator[str]:
    """Server-sent events of the API with their messages in the language of the page."""
    async for piece in stream:
        text = piece if isinstance(piece, str) else bytes(piece).decode()
        yield "\n".join(_line_in_words(line, words) for line in text.split("\n"))


def _line_in_words(line: str, words: Words) -> str:
    if not line.startswith("data: {"):
        return line
    event = json.loads(line.removeprefix("data: "))
    if "message" in event:
        event["message"] = words.reason(event["message"])
    return f"data: {json.dumps(event, ensure_ascii=False)}"


@jobs.post("/{job_id}/{action}")
def change_job(
    visit: VisitDep, job_id: str, action: Literal["cancel", "pause", "resume"]
) -> Response:
    """Cancel, pause or resume a job."""
    change = {
        "cancel": job_routes.cancel_job,
        "pause": job_routes.pause_job,
        "resume": job_routes.resume_job,
    }[action]
    job = change(job_id, visit.server, visit.caller)
    if not visit.is_fragment:
        return RedirectResponse(f"/jobs/{job_id}", 303)
    with visit.server.database.read() as session:
        curves, total = job_curves(session, job_id)
    shown = {"curves": curves, "total": total, **_state(visit, job)}
    return render(visit, "jobs/state.html.jinja", job=job, **shown)


@jobs.get("/{job_id}/export", dependencies=needs("models"))
def export_model(
    visit: VisitDep, job_id: str, format: Literal["peft", "merged", "gguf"] = "merged"
) -> Response:
    """The model of a job as an archive."""
    return export.export_model(job_id, visit.server, visit.caller, format)


@models.get("")
def list_models(visit: VisitDep) -> Response:
    """The models that the caller may use, as a tree."""
    return room(visit, "models.html.jinja", tree=_tree(visit))


def _tree(visit: Visit) -> Any:
    sees_project = visit.server.settings.shows_project_to(visit.caller.project)
    of_project = _registry(visit).of_project() if sees_project else []
    with visit.server.database.read() as session:
        return model_tree(session, visit.caller, visit.server.settings.models, of_project)


@models.get("/one")
def model_page(visit: VisitDep, name: str) -> Response:
    """One model of the caller's project, and who else may use it."""
    with visit.server.database.read() as session:
        row = session.scalars(
            select(StoredModel).where(
                StoredModel.name == name,
                StoredModel.project == visit.caller.project,
                StoredModel.deleted_at.is_(None),
            )
        ).first()
        if row is None:
            raise no_such_model(name)
        allowed = session.scalars(select(Permission).where(Permission.model == name)).all()
    return room(visit, "model.html.jinja", row=row, allowed=allowed)


@models.post("/delete")
def delete_model(visit: VisitDep, name: Annotated[str, Form()]) -> Response:
    """Delete a fine-tuned model."""
    model_routes.delete_model(name, visit.server, visit.caller)
    return RedirectResponse("/models", 303)


@models.post("/share", dependencies=needs("jobs"))
def share_model(
    visit: VisitDep, name: Annotated[str, Form()], project: Annotated[str, Form()]
) -> Response:
    """Let another project use a model."""
    if not project.strip():
        raise DataError("the name of the project is empty. Write one.")
    body = PermissionRequest(project_ids=[project.strip()])
    permissions.create_permissions(name, body, visit.server, visit.caller)
    return _back_to_model(name)


@models.post("/unshare", dependencies=needs("jobs"))
def unshare_model(
    visit: VisitDep, name: Annotated[str, Form()], permission: Annotated[str, Form()]
) -> Response:
    """Take a permission back."""
    permissions.delete_permission(name, permission, visit.server, visit.caller)
    return _back_to_model(name)


def _back_to_model(name: str) -> Response:

    return RedirectResponse(f"/models/one?{urlencode({'name': name})}", 303)


@files.get("")
def list_files(visit: VisitDep, after: str = "") -> Response:
    """The files of the caller's project, newest first."""
    paging = Paging(PAGE, after or None, "desc")
    rows = file_routes.list_files(visit.server, visit.caller, paging)
    following = f"/files?after={rows.data[-1].id}" if rows.has_more else ""
    limit = visit.server.settings.limits.file_mb
    previous = "/files" if after else ""
    return room(
        visit, "files.html.jinja", rows=rows.data, previous=previous, next=following, limit=limit
    )


@files.post("")
async def upload_file(request: Request, visit: VisitDep, tasks: BackgroundTasks) -> Response:
    """Store a file while it arrives, as `POST /v1/files` does."""
    stored = await file_routes.create_file(request, visit.server, visit.caller, tasks)
    headers = {"hx-redirect": f"/files/{stored.id}"}
    return Response(status_code=204, headers=headers, background=tasks)


@files.get("/{file_id}")
def file_page(visit: VisitDep, file_id: str) -> Response:
    """One file, and what is wrong with it."""
    with visit.server.database.read() as session:
        row = find_file(session, visit.caller, file_id, visit.server.now())
        user = user_of(session, file_id)
    report = None
    if row.purpose == "fine-tune" and row.status != "error":
        report = file_routes.file_report(file_id, visit.server, visit.caller)
    return room(visit, "file.html.jinja", row=row, user=user, report=report)


@files.get("/{file_id}/download")
def download_file(visit: VisitDep, file_id: str) -> Response:
    """The bytes of a file."""
    return file_routes.download_file(file_id, visit.server, visit.caller, "plain", "")


@files.post("/{file_id}/delete")
def delete_file(visit: VisitDep, file_id: str) -> Response:
    """Delete a file that no unfinished job needs."""
    file_routes.remove_file(file_id, visit.server, visit.caller)
    return RedirectResponse("/files", 303)


# `/keys`: keys and the audit log, for administrators.


AUDIT = 50
MOST_NAME = 64
router = APIRouter(prefix="/keys", dependencies=needs("admin"))


def _sees_all(visit: Visit) -> bool:
    """True for administrators of the server's own project, who manage all projects."""
    return visit.server.settings.shows_project_to(visit.caller.project)


@router.get("")
def list_keys(visit: VisitDep, after: int = 0) -> Response:
    """The keys, and who changed what."""
    return _page(visit, after)


def _page(visit: Visit, after: int = 0, text: str = "", name: str = "") -> Response:
    keys, audit = select(Key).order_by(Key.rowid.desc()), select(Audit).order_by(Audit.rowid.desc())
    if not _sees_all(visit):
        keys = keys.where(Key.project == visit.caller.project)
        audit = audit.where(Audit.project == visit.caller.project)
    if after:
        audit = audit.where(Audit.rowid < after)
    with visit.server.database.read() as session:
        rows = list(session.scalars(keys))
        lines = list(session.scalars(audit.limit(AUDIT + 1)))
    more = len(lines) > AUDIT
    return room(
        visit,
        "keys.html.jinja",
        keys=rows,
        names={row.id: row.name for row in rows},
        lines=lines[:AUDIT],
        previous="/keys" if after else "",
        next=f"/keys?after={lines[AUDIT - 1].rowid}#audit" if more else "",
        scopes=SCOPES,
        usual=DEFAULT_SCOPES,
        project=visit.caller.project,
        sees_all=_sees_all(visit),
        text=text,
        new_name=name,
    )


@router.post("")
def create_key(
    visit: VisitDep,
    name: Annotated[str, Form(max_length=MOST_NAME)],
    scope: Annotated[list[str] | None, Form()] = None,
    project: Annotated[str, Form(max_length=MOST_NAME)] = "",
) -> Response:
    """Create a key and show it, once."""
    if not name.strip():
        raise DataError("the name of the key is empty. Write whose key it is, or what for.")
    owner = project.strip() if _sees_all(visit) and project.strip() else visit.caller.project
    with visit.server.database.write() as session:
        _, text = add_key(
            session,
            name=name.strip(),
            project=owner,
            scopes=scope or DEFAULT_SCOPES,
            now=visit.server.now(),
            by=visit.caller,
        )
    return _page(visit, text=text, name=name.strip())


@router.post("/revoke")
def revoke_key(visit: VisitDep, key: Annotated[str, Form()]) -> Response:
    """Refuse a key from now on."""
    with visit.server.database.write() as session:
        row = session.scalars(select(Key).where(Key.id == key)).first()
        if row is None or not (_sees_all(visit) or row.project == visit.caller.project):
            raise PageError(404, "jobs_no_key")
        folder = visit.server.settings.folder
        remove_key(session, key, visit.server.now(), folder, by=visit.caller)
    return RedirectResponse("/keys", 303)
