"""`/v1/batches`: create, retrieve, list and cancel batches."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.batches.input_file import ENDPOINTS
from jangin.serving.batches.runner import OPEN, BatchRunner
from jangin.serving.protocol.errors import ApiError, invalid_state, invalid_value, no_such
from jangin.serving.protocol.ids import new_id
from jangin.serving.protocol.objects import BoundedList, Metadata, Reply, RequestBody
from jangin.serving.protocol.pagination import BatchPaging, page_fields, page_of
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import Batch, File

router = APIRouter()
WINDOW_SECONDS = 24 * 3600
TIMES = (
    *("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
    *("cancelling_at", "cancelled_at"),
)


class OutputExpiresAfter(RequestBody):
    """When the output files expire."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2592000)


class CreateBatch(RequestBody):
    """Body of `POST /batches`."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None


class RequestCounts(Reply):
    """How many requests a batch has."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchReply(Reply):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: dict[str, Any] | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: dict[str, Any] | None
    metadata: dict[str, str] | None


@router.post("/batches")
def create_batch(body: CreateBatch, server: ServerDep, caller: CallerDep) -> BatchReply:
    """Create a batch; its file is checked in the background."""
    if body.endpoint not in ENDPOINTS:
        raise invalid_value("endpoint", body.endpoint, ENDPOINTS)
    now, expiry = server.now(), body.output_expires_after
    row = Batch(
        id=new_id("batch_", 32),
        created_at=now,
        project=caller.project,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        status="validating",
        output_expires_after=expiry.seconds if expiry else None,
        expires_at=now + WINDOW_SECONDS,
        metadata_=body.metadata,
        owner_key=caller.key_id,
        times={},
        counts={},
    )
    with server.database.write() as session:
        _check_file(session, body.input_file_id, caller)
        session.add(row)
        record(session, caller, "batch.create", row.id, now)
    server.get(BatchRunner).wake()
    return _reply(row)


@router.get("/batches")
def list_batches(
    server: ServerDep, caller: CallerDep, paging: BatchPaging
) -> BoundedList[BatchReply]:
    """The batches of the project, newest first."""
    with server.database.read() as session:
        rows, more = page_of(session, visible(select(Batch), caller), paging)
    return BoundedList(data=[_reply(row) for row in rows], **page_fields(rows, more))


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, server: ServerDep, caller: CallerDep) -> BatchReply:
    """One batch."""
    with server.database.read() as session:
        return _reply(_find(session, batch_id, caller))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, server: ServerDep, caller: CallerDep) -> BatchReply:
    """Cancel a batch; results so far are kept, requests in progress end first."""
    now = server.now()
    with server.database.write() as session:
        row = _find(session, batch_id, caller)
        if row.status not in OPEN:
            raise invalid_state(f"Batch {batch_id} is already {row.status}.")
        if row.requested != "cancel":
            row.requested, row.status = "cancel", "cancelling"
            row.times = {**row.times, "cancelling_at": now}
            record(session, caller, "batch.cancel", row.id, now)
    server.get(BatchRunner).wake()
    return _reply(row)


def _check_file(session: Session, file_id: str, caller: Caller) -> None:
    row = session.scalars(visible(select(File).where(File.id == file_id), caller)).first()
    if row is None:
        raise ApiError(400, f"No such File object: {file_id}", param="input_file_id")
    if row.purpose != "batch":
        raise ApiError(
            400,
            f"The file {file_id} has the purpose '{row.purpose}', but must have 'batch'.",
            param="input_file_id",
            code="invalid_purpose",
        )


def _find(session: Session, batch_id: str, caller: Caller) -> Batch:
    query = select(Batch).where(Batch.id == batch_id)
    return one_visible(session, query, caller, no_such("Batch", batch_id))


def _reply(row: Batch) -> BatchReply:
    return BatchReply(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=row.errors,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        status=row.status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        request_counts=RequestCounts(**row.counts),
        usage=row.usage,
        metadata=row.metadata_,
        **{name: row.times.get(name) for name in TIMES},
    )
