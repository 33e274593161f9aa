"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jangin.serving.files.store import find_file
from jangin.serving.jobs.events import (
    CANCELLED,
    CREATED,
    PAUSED,
    REQUEUED,
    add_event,
    finish,
    validating,
)
from jangin.serving.jobs.hyperparameters import NAMES, SMALL_MULTIPLIER
from jangin.serving.jobs.objects import (
    CheckpointObject,
    EventObject,
    JobObject,
    JobRequest,
    check_metadata,
)
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.models.bases import TUNED, Origin, origin_of
from jangin.serving.protocol.errors import ApiError, invalid_state, no_such_job
from jangin.serving.protocol.ids import new_id
from jangin.serving.protocol.objects import BoundedList, ItemList
from jangin.serving.protocol.pagination import (
    CheckpointPaging,
    EventPaging,
    JobPaging,
    page_fields,
    page_of,
    with_metadata,
)
from jangin.serving.protocol.retries import body_hash, is_retry, job_of_retry
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Checkpoint, Event, File, Job

router = APIRouter(prefix="/fine_tuning/jobs")

MOST_SEED = 2**31 - 1
STREAM_SECONDS = 0.5
"""Between two looks into the log for a client that streams it."""
PING_SECONDS = 15
FINISHED = ("succeeded", "failed", "cancelled")
_CANCELLABLE = ("validating_files", "queued", "running", "paused")


@router.post("")
def create_job(
    body: JobRequest, request: Request, server: ServerDep, caller: CallerDep
) -> JobObject:
    """Put a job into the queue; its files are checked after the reply."""
    check_metadata(body.metadata)
    digest = body_hash(body.model_dump_json().encode())
    with server.database.write() as session:
        if is_retry(request):
            earlier = job_of_retry(session, caller, digest, server.now())
            if earlier is not None:
                return JobObject.of(earlier, server.settings)
        job = _new_job(session, server, caller, body, digest)
        session.add(job)
        session.flush()
        _log_creation(session, job, server)
        record(session, caller, "job.create", job.id, server.now())
    server.get(Scheduler).wake()
    return JobObject.of(job, server.settings)


def _new_job(
    session: Session, server: Server, caller: Caller, body: JobRequest, digest: str
) -> Job:
    method = body.method.type if body.method else "supervised"
    if method == "reinforcement":
        raise ApiError(
            400,
            "Method 'reinforcement' is not supported",
            param="method.type",
            code="invalid_value",
        )
    _check_file(session, server, caller, body.training_file, "training_file")
    if body.validation_file:
        _check_file(session, server, caller, body.validation_file, "validation_file")
    origin = origin_of(session, server.settings, body.model, caller)
    resumed = body.options().get("x_resume_from")
    if resumed is not None:
        origin = _resumed(session, server, caller, origin, str(resumed))
    unfinished = session.scalar(
        visible(select(Job), caller)
        .where(Job.status.not_in(FINISHED))
        .with_only_columns(func.count())
    )
    if int(unfinished or 0) >= server.settings.limits.queued_jobs:
        raise ApiError(
            429, "Too many unfinished jobs.", kind="requests", code="rate_limit_exceeded"
        )
    numbers = body.numbers()
    shown = {name: numbers.get(name, "auto") for name in NAMES}
    own = shown | ({"beta": numbers.get("beta", "auto")} if method == "dpo" else {})
    return Job(
        id=new_id("ftjob-"),
        project=caller.project,
        created_at=server.now(),
        seq=int(session.scalar(select(func.coalesce(func.max(Job.seq), 0))) or 0) + 1,
        status="validating_files",
        model=body.model,
        base=origin.shown,
        training_file=body.training_file,
        validation_file=body.validation_file or None,
        method_type=method,
        method={"type": method, method: {"hyperparameters": own}},
        hyperparameters=shown,
        seed=secrets.randbelow(MOST_SEED) if body.seed is None else body.seed,
        suffix=body.suffix,
        metadata_=body.metadata,
        integrations=[each.model_dump() for each in body.integrations or ()],
        body_hash=digest,
        owner_key=caller.key_id,
        result_files=[],
        extensions=_extensions(origin, body),
    )


def _resumed(
    session: Session, server: Server, caller: Caller, requested: Origin, resumed: str
) -> Origin:
    """The newest checkpoint of a job, or the one of this name, of the model that is asked for."""
    name: str | None = resumed
    if not resumed.startswith(TUNED):
        query = select(Checkpoint).where(Checkpoint.job_id == find_job(session, caller, resumed).id)
        newest = session.scalars(query.order_by(Checkpoint.step.desc()).limit(1)).first()
        name = newest.model_name if newest else None
    origin = origin_of(session, server.settings, name, caller) if name else None
    if origin is None or origin.entry.base != requested.entry.base:
        reason = "has no checkpoint" if origin is None else "was trained from another model"
        raise ApiError(400, f"'{resumed}' {reason}.", param="x_resume_from", code="invalid_value")
    return origin


def _extensions(origin: Origin, body: JobRequest) -> dict[str, Any]:
    parent = origin.parent
    return {
        "options": body.options(),
        "entry": json.loads(origin.entry.model_dump_json()),
        "parent": None if parent is None else {"path": parent.path, "base": parent.base},
    }


def _check_file(session: Session, server: Server, caller: Caller, file_id: str, param: str) -> File:
    """A file that may be used for training; raises `ApiError` 400 or 404."""
    try:
        row = find_file(session, caller, file_id, server.now())
    except ApiError as error:
        raise ApiError(
            400, f"Invalid file object: {file_id} does not exist.", param=param, code="invalid_file"
        ) from error
    if row.purpose != "fine-tune":
        raise ApiError(
            400,
            f"File '{file_id}' has the purpose '{row.purpose}', but must have 'fine-tune'.",
            param=param,
            code="invalid_purpose",
        )
    return row


def _log_creation(session: Session, job: Job, server: Server) -> None:
    """The first lines of the log: what was asked for, and what really trains."""
    now = server.now()
    add_event(session, job.id, CREATED.format(job.id), now, data={})
    if not server.settings.models and not job.model.startswith("ft:"):
        text = (
            f"Model '{job.model}' is served locally by a starter, which is made from the text of "
            "the training file and knows nothing else. Name real models with --models server.yaml"
        )
        add_event(session, job.id, text, now, level="warn")
    elif job.base != job.model:
        text = f"Model '{job.model}' is served locally by '{job.base}'"
        add_event(session, job.id, text, now, level="warn")
    multiplier = (job.hyperparameters or {}).get("learning_rate_multiplier")
    if isinstance(multiplier, float) and multiplier < SMALL_MULTIPLIER:
        text = (
            f"learning_rate_multiplier is {multiplier:g}; it multiplies the learning rate that "
            "this server chooses and is no learning rate itself"
        )
        add_event(session, job.id, text, now, level="warn")
    add_event(session, job.id, validating(job.training_file, job.validation_file), now)


@router.get("")
def list_jobs(
    request: Request, server: ServerDep, caller: CallerDep, paging: JobPaging
) -> ItemList[JobObject]:
    """The jobs of the caller's project, newest first; `metadata[k]=v` filters them."""
    query = with_metadata(visible(select(Job), caller), request)
    with server.database.read() as session:
        rows, has_more = page_of(session, query, paging)
    return ItemList(data=[JobObject.of(r, server.settings) for r in rows], has_more=has_more)


@router.get("/{job_id}")
def retrieve_job(job_id: str, server: ServerDep, caller: CallerDep) -> JobObject:
    """One job."""
    with server.database.read() as session:
        return JobObject.of(find_job(session, caller, job_id), server.settings)


def find_job(session: Session, caller: Caller, job_id: str) -> Job:
    """A job of the caller's project; raises `ApiError` 404."""
    return one_visible(session, select(Job).where(Job.id == job_id), caller, no_such_job(job_id))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, server: ServerDep, caller: CallerDep) -> JobObject:
    """Cancel an unfinished job."""
    return _change(server, caller, job_id, "cancel", _cancel)


@router.post("/{job_id}/pause")
def pause_job(job_id: str, server: ServerDep, caller: CallerDep) -> JobObject:
    """Pause a job; it keeps its steps."""
    return _change(server, caller, job_id, "pause", _pause)


@router.post("/{job_id}/resume")
def resume_job(job_id: str, server: ServerDep, caller: CallerDep) -> JobObject:
    """Continue a paused job."""
    return _change(server, caller, job_id, "resume", _resume)


def _cancel(session: Session, job: Job, now: int) -> None:
    """Mark the job as cancelled; its process stops at the next step.

    Raises `ApiError` 400 for a finished job.
    """
    _refuse(job, _CANCELLABLE, "cancelled")
    finish(session, job, "cancelled", CANCELLED, now)


def _pause(session: Session, job: Job, now: int) -> None:
    """Pause: its process saves a checkpoint at the next step and frees its slot.

    Raises `ApiError` 400 for a job that is not running.
    """
    _refuse(job, ("running", "queued"), "paused")
    job.status, job.estimated_finish = "paused", None
    add_event(session, job.id, PAUSED, now)


def _resume(session: Session, job: Job, now: int) -> None:
    """Back to its turn in the queue; raises `ApiError` 400 for a job that is not paused."""
    _refuse(job, ("paused",), "resumed")
    job.status = "queued"
    add_event(session, job.id, REQUEUED, now)


def _refuse(job: Job, allowed: tuple[str, ...], what: str) -> None:
    if job.status in allowed:
        return
    if job.status == "cancelled":
        raise invalid_state(f"Job {job.id} has already been cancelled")
    if job.status in FINISHED:
        raise invalid_state(f"Job {job.id} has already completed")
    raise invalid_state(f"Job {job.id} is {job.status} and cannot be {what}")


def _change(
    server: Server,
    caller: Caller,
    job_id: str,
    action: str,
    change: Callable[[Session, Job, int], None],
) -> JobObject:
    with server.database.write() as session:
        job = find_job(session, caller, job_id)
        now = server.now()
        change(session, job, now)
        record(session, caller, f"job.{action}", job.id, now)
    server.get(Scheduler).wake()
    return JobObject.of(job, server.settings)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, server: ServerDep, caller: CallerDep, paging: CheckpointPaging
) -> BoundedList[CheckpointObject]:
    """The models of a job, newest first."""
    with server.database.read() as session:
        job = find_job(session, caller, job_id)
        query = select(Checkpoint).where(Checkpoint.job_id == job.id)
        rows, has_more = page_of(session, query, paging)
    data = [CheckpointObject.of(row) for row in rows]
    return BoundedList(data=data, **page_fields(rows, has_more))


@router.get("/{job_id}/events", response_model=None)
def list_events(
    job_id: str,
    server: ServerDep,
    caller: CallerDep,
    paging: EventPaging,
    last_event_id: Annotated[str | None, Header()] = None,
    *,
    stream: bool = False,
) -> JSONResponse | StreamingResponse:
    """The log of a job, newest first; `?stream=true` sends it as it grows, oldest first."""
    with server.database.read() as session:
        job = find_job(session, caller, job_id)
        if not stream:
            rows, has_more = page_of(session, select(Event).where(Event.job_id == job.id), paging)
            data = [EventObject.of(row).model_dump() for row in rows]
            return JSONResponse({"object": "list", "data": data, "has_more": has_more})
        after = session.scalar(
            select(Event.rowid).where(Event.job_id == job.id, Event.id == (last_event_id or ""))
        )
    return StreamingResponse(
        _stream(server, job_id, after or 0),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


async def _stream(server: Server, job_id: str, after: int) -> AsyncIterator[str]:
    """New lines of the log until the job is finished."""
    silent = 0.0
    while True:
        rows, finished = await run_in_threadpool(_new_events, server, job_id, after)
        for row in rows:
            after = row.rowid
            yield EventObject.of(row).as_sse()
        silent = 0.0 if rows else silent + STREAM_SECONDS
        if (finished and not rows) or server.stopping.is_set():
            yield "data: [DONE]\n\n"
            return
        if silent >= PING_SECONDS:
            silent = 0.0
            yield ": ping\n\n"
        if not rows:
            await asyncio.sleep(STREAM_SECONDS)


def _new_events(server: Server, job_id: str, after: int) -> tuple[list[Event], bool]:
    """(events after a row, oldest first; whether the job is finished)."""
    query = select(Event).where(Event.job_id == job_id, Event.rowid > after)
    with server.database.read() as session:
        status = session.scalar(select(Job.status).where(Job.id == job_id))
        rows = session.scalars(query.order_by(Event.rowid).limit(500)).all()
    return list(rows), status is None or status in FINISHED
