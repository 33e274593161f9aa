"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field, WrapValidator
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
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.models.registry import TUNED, JobOrigin, origin_of
from jangin.serving.protocol.errors import ApiError, invalid_state, no_such_job
from jangin.serving.protocol.objects import BoundedList, ItemList, Reply, RequestBody, new_id
from jangin.serving.protocol.pagination import (
    CheckpointPaging,
    EventPaging,
    JobPaging,
    page_fields,
    page_of,
    with_metadata,
)
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import Checkpoint, File, Job, JobEvent, Permission

# Jobs, events, checkpoints and permissions as requests and replies show them.


MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
EXTENSIONS = (
    *("lora", "lora_r", "lora_alpha", "lora_dropout", "packing", "context_length"),
    *("x_quantization", "x_shuffle", "x_resume_from"),
)


def _number_or_auto(value: object, handler: Any) -> Any:
    """`"auto"`, or a number within the bounds of the field."""
    if value == "auto" or value is None:
        return value
    if isinstance(value, (bool, str)):
        raise ApiError(
            400,
            f"Invalid value: '{value}'. Supported values are: 'auto' and numbers.",
            param="hyperparameters",
            code="invalid_value",
        )
    return handler(value)


Epochs = Annotated[int | None, Field(ge=1, le=50), WrapValidator(_number_or_auto)]
BatchSize = Annotated[int | None, Field(ge=1, le=256), WrapValidator(_number_or_auto)]
Multiplier = Annotated[float | None, Field(gt=0), WrapValidator(_number_or_auto)]
Beta = Annotated[float | None, Field(gt=0, le=2), WrapValidator(_number_or_auto)]


class Extensions(RequestBody):
    """Fields that OpenAI's API does not have."""

    lora: bool | None = None
    """False trains all weights."""
    lora_r: Literal[8, 16, 32, 64, 128] | None = None
    """The ranks that vLLM serves, so that every adapter can be moved there."""
    lora_alpha: int | None = Field(default=None, ge=1)
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)
    packing: bool | None = None
    """Accepted: rows are packed wherever that is exact."""
    context_length: int | None = Field(default=None, ge=16)
    """Longest row in tokens."""
    x_quantization: Literal["nf4"] | None = None
    """Train an adapter on weights of 4 bits."""
    x_shuffle: bool | None = None
    """False keeps the order of the file in every epoch."""
    x_resume_from: str | None = Field(default=None, min_length=1, max_length=256)
    """A job whose newest checkpoint training starts from, or the name of a checkpoint."""


class Hyperparameters(Extensions):
    """Numbers, or "auto"."""

    n_epochs: Epochs | Literal["auto"] = None
    batch_size: BatchSize | Literal["auto"] = None
    learning_rate_multiplier: Multiplier | Literal["auto"] = None
    beta: Beta | Literal["auto"] = None


class MethodSettings(RequestBody):
    """Settings of one method."""

    hyperparameters: Hyperparameters | None = None


class Method(RequestBody):
    """How to train."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: MethodSettings | None = None
    dpo: MethodSettings | None = None
    reinforcement: dict[str, Any] | None = None


class WandbSettings(RequestBody):
    """A project of Weights & Biases."""

    project: str = Field(min_length=1)
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(RequestBody):
    """Where else a job is shown."""

    type: Literal["wandb"]
    wandb: WandbSettings


class JobRequest(Extensions):
    """Body of `POST /fine_tuning/jobs`."""

    model: str = Field(min_length=1, max_length=256)
    training_file: str = Field(min_length=1, max_length=128)
    validation_file: str | None = Field(default=None, max_length=128)
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2147483647)
    metadata: dict[str, str] | None = None
    integrations: list[Integration] | None = Field(default=None, max_length=5)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None

    def numbers(self) -> dict[str, Any]:
        """The hyperparameters of both places; those of `method` win."""
        top = self.hyperparameters.model_dump(exclude_none=True) if self.hyperparameters else {}
        return top | self._of_method()

    def _of_method(self) -> dict[str, Any]:
        own = getattr(self.method, self.method.type, None) if self.method else None
        if not isinstance(own, MethodSettings) or own.hyperparameters is None:
            return {}
        return own.hyperparameters.model_dump(exclude_none=True)

    def options(self) -> dict[str, Any]:
        """The fields that OpenAI's API does not have, from anywhere in the body."""
        given = self.numbers() | {
            name: value for name in EXTENSIONS if (value := getattr(self, name)) is not None
        }
        return {name: given[name] for name in EXTENSIONS if name in given}


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """Raises `ApiError` for more or longer pairs than are allowed."""
    pairs = metadata or {}
    "".join((*pairs, *pairs.values())).encode()  # else no reply could carry them
    if len(pairs) > MOST_PAIRS:
        raise ApiError(
            400,
            f"Invalid 'metadata': too many properties. Expected at most {MOST_PAIRS}.",
            param="metadata",
            code="object_above_max_properties",
        )
    for key, value in pairs.items():
        if len(key) > LONGEST_KEY or len(value) > LONGEST_VALUE:
            raise ApiError(
                400,
                f"Invalid 'metadata': keys have at most {LONGEST_KEY} characters and values "
                f"{LONGEST_VALUE}.",
                param=f"metadata.{key[:LONGEST_KEY]}",
                code="string_above_max_length",
            )


class JobObject(Reply):
    """A fine-tuning job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: str
    validation_file: str | None
    training_file: str
    hyperparameters: dict[str, Any] | None
    trained_tokens: int | None
    error: dict[str, Any] | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    usage_metrics: None = None
    shared_with_openai: bool = False
    eval_id: None = None
    method: dict[str, Any]
    x_base_model: str | None

    @classmethod
    def of(cls, row: Job, settings: ServerSettings) -> "JobObject":
        """The reply of a row."""
        no_error = None if settings.strict_spec else dict.fromkeys(("code", "message", "param"))
        numbers = None if row.method_type == "dpo" else row.hyperparameters
        return cls(
            **{name: getattr(row, name) for name in _PLAIN},
            organization_id=f"org-{settings.organization}",
            result_files=row.result_files,
            hyperparameters=(numbers or {}) if settings.strict_spec else numbers,
            error=row.error or no_error,
            user_provided_suffix=row.suffix,
            integrations=row.integrations or [],
            metadata=row.metadata_,
            method=row.method or {"type": row.method_type},
            x_base_model=row.base,
        )


_PLAIN = (
    *("id", "model", "created_at", "finished_at", "fine_tuned_model", "status"),
    *("validation_file", "training_file", "trained_tokens", "seed", "estimated_finish"),
)


class EventObject(Reply):
    """A line of the log of a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, Any] | None

    @classmethod
    def of(cls, row: JobEvent) -> "EventObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)

    def as_sse(self) -> str:
        """The event as part of a stream that can be taken up again after its id."""
        return f"id: {self.id}\ndata: {json.dumps(self.model_dump(), ensure_ascii=False)}\n\n"


class CheckpointObject(Reply):
    """A model after an epoch."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    metrics: dict[str, Any]
    fine_tuning_job_id: str
    step_number: int

    @classmethod
    def of(cls, row: Checkpoint) -> "CheckpointObject":
        """The reply of a row."""
        return cls(
            id=row.id,
            created_at=row.created_at,
            fine_tuned_model_checkpoint=row.model_name,
            metrics=row.metrics,
            fine_tuning_job_id=row.job_id,
            step_number=row.step,
        )


class PermissionRequest(RequestBody):
    """Body of `POST /fine_tuning/checkpoints/{model}/permissions`."""

    project_ids: list[str] = Field(min_length=1, max_length=100)


class PermissionObject(Reply):
    """A project that may use a model."""

    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    id: str
    created_at: int
    project_id: str

    @classmethod
    def of(cls, row: Permission) -> "PermissionObject":
        """The reply of a row."""
        return cls(id=row.id, created_at=row.created_at, project_id=row.project)


# Recognise a request that a client sent again because the first reply was slow.
#
# OpenAI's clients send no idempotency key, but count their retries in a header.


WINDOW = 15 * 60
"""Seconds in which a request counts as the same."""


def body_hash(body: bytes) -> str:
    """Digest of the body of a request, for the column `body_hash`."""
    return hashlib.sha256(body).hexdigest()


def is_retry(request: Request) -> bool:
    """True if the client says that it sent this request before."""
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdigit() and int(count) > 0


def job_of_retry(session: Session, caller: Caller, digest: str, now: int) -> Job | None:
    """The job that the same key created with the same body a short while ago."""
    return session.scalars(
        select(Job)
        .where(
            Job.project == caller.project,
            Job.owner_key == caller.key_id,
            Job.body_hash == digest,
            Job.created_at > now - WINDOW,
        )
        .order_by(Job.rowid.desc())
        .limit(1)
    ).first()


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
    session: Session, server: Server, caller: Caller, requested: JobOrigin, resumed: str
) -> JobOrigin:
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


def _extensions(origin: JobOrigin, body: JobRequest) -> dict[str, Any]:
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
            rows, has_more = page_of(
                session, select(JobEvent).where(JobEvent.job_id == job.id), paging
            )
            data = [EventObject.of(row).model_dump() for row in rows]
            return JSONResponse({"object": "list", "data": data, "has_more": has_more})
        after = session.scalar(
            select(JobEvent.rowid).where(
                JobEvent.job_id == job.id, JobEvent.id == (last_event_id or "")
            )
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


def _new_events(server: Server, job_id: str, after: int) -> tuple[list[JobEvent], bool]:
    """(events after a row, oldest first; whether the job is finished)."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.rowid > after)
    with server.database.read() as session:
        status = session.scalar(select(Job.status).where(Job.id == job_id))
        rows = session.scalars(query.order_by(JobEvent.rowid).limit(500)).all()
    return list(rows), status is None or status in FINISHED
