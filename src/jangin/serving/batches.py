"""Batches: requests of a file, answered by the server's own endpoints in the background."""

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.errors import JanginError, PortableError
from jangin.serving.protocol.errors import ApiError, invalid_state, invalid_value, no_such
from jangin.serving.protocol.internal import InternalReply, InternalRequests
from jangin.serving.protocol.objects import BoundedList, Metadata, Reply, RequestBody, new_id
from jangin.serving.protocol.pagination import BatchPaging, page_fields, page_of
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.security.keys import is_revoked
from jangin.serving.state.caller import Caller
from jangin.serving.state.leases import HEARTBEAT_SECONDS, LeasedWork, LeaseLostError
from jangin.serving.state.server import ServerDep
from jangin.serving.state.storage import CHUNK
from jangin.serving.state.tables import File, RequestBatch
from jangin.serving.webhooks.outbox import emit

# Results of a batch on disk while it runs; a restarted server continues after the last one.


OUTPUT, ERRORS = "output.jsonl", "errors.jsonl"


class BatchResults:
    """Two files of lines in the batch's folder: requests that succeeded, and those that failed."""

    def __init__(self, folder: Path) -> None:
        """`folder` is created; complete lines of an interrupted run are kept."""
        self.folder = folder
        self.done: set[str] = set()
        """`custom_id` of every request with a result."""
        self.counts = {OUTPUT: 0, ERRORS: 0}
        self.usage: dict[str, int] = {}
        """Token counts of all replies."""
        folder.mkdir(parents=True, exist_ok=True)
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        """Count what is there, and continue after it."""
        for name in (OUTPUT, ERRORS):
            for row in self._restore(name):
                self._count(name, row)
            self._streams[name] = (self.folder / name).open("ab")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        for stream in self._streams.values():
            stream.close()

    def add(self, custom_id: str, status: int, request_id: str, body: Mapping[str, Any]) -> None:
        """Store the reply to a request."""
        response = {"status_code": status, "request_id": request_id, "body": body}
        self._write(OUTPUT if status == 200 else ERRORS, custom_id, response, None)

    def add_error(self, custom_id: str, code: str, message: str) -> None:
        """Store why a request has no reply."""
        self._write(ERRORS, custom_id, None, {"code": code, "message": message})

    def remove(self) -> None:
        """Delete the folder; the results are stored elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(
        self,
        name: str,
        custom_id: str,
        response: Mapping[str, Any] | None,
        error: Mapping[str, Any] | None,
    ) -> None:
        row = {
            "id": new_id("batch_req_", 32),
            "custom_id": custom_id,
            "response": response,
            "error": error,
        }
        stream = self._streams[name]
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        self._count(name, row)

    def _count(self, name: str, row: Mapping[str, Any]) -> None:
        self.done.add(row["custom_id"])
        self.counts[name] += 1
        body = (row["response"] or {}).get("body") or {}
        for key, count in (body.get("usage") or {}).items():
            if isinstance(count, int):
                self.usage[key] = self.usage.get(key, 0) + count

    def _restore(self, name: str) -> Iterator[dict[str, Any]]:
        """The whole lines of a file; what follows the last one is cut off."""
        path, end = self.folder / name, 0
        if not path.exists():
            return
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                yield json.loads(line)
        with path.open("r+b") as stream:
            stream.truncate(end)


# The input file of a batch: one request a line.


MOST_LINES = 50_000
MOST_BYTES = 200 * 10**6
MOST_ERRORS = 100
"""Problems of one file that are listed."""
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch."""

    custom_id: str
    """The client's name for it, unique in the file."""
    body: dict[str, Any]


class _WrongLineError(PortableError):
    """A line is no request of this batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(slots=True)
class InputCheck:
    """The result of a pass over an input file."""

    total: int
    model: str | None
    """The model of the first request."""
    errors: list[dict[str, Any]]
    """`{code, message, param, line}`; the batch fails if there are any."""


def check_input(path: Path, endpoint: str) -> InputCheck:
    """Check every line of a file."""
    if path.stat().st_size > MOST_BYTES:
        text = f"The input file is larger than {MOST_BYTES // 10**6} MB."
        return InputCheck(0, None, [_problem("file_too_large", text)])
    check, seen = InputCheck(0, None, []), set[str]()
    for number, line in _lines(path):
        check.total += 1
        if check.total > MOST_LINES:
            text = f"The input file has more than {MOST_LINES} requests."
            return InputCheck(0, None, [_problem("too_many_tasks", text)])
        try:
            request = _parse(line, endpoint, seen)
        except _WrongLineError as error:
            if len(check.errors) < MOST_ERRORS:
                check.errors.append(_problem(error.code, str(error), error.param, number))
        else:
            seen.add(request.custom_id)
            check.model = check.model or str(request.body["model"])
    if not check.total:
        check.errors.append(_problem("empty_file", "The input file has no requests."))
    return check


def read_input(path: Path, endpoint: str) -> Iterator[BatchRequest]:
    """The requests of a file that was checked."""
    for _, line in _lines(path):
        yield _parse(line, endpoint)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, text


def _parse(line: bytes, endpoint: str, seen: Collection[str] = ()) -> BatchRequest:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise _WrongLineError("invalid_json_line", "This line is not parseable as a JSON object.")
    for name in ("custom_id", "method", "url", "body"):
        if name not in row:
            text = f"Missing required parameter: '{name}'."
            raise _WrongLineError("missing_required_parameter", text, name)
    if not isinstance(row["custom_id"], str) or not row["custom_id"]:
        raise _WrongLineError("invalid_type", "'custom_id' must be a text.", "custom_id")
    if row["custom_id"] in seen:
        raise _WrongLineError(
            "duplicate_custom_id",
            "The custom_id for this request is a duplicate of another request. The custom_id "
            "parameter must be unique for each request in a batch.",
            "custom_id",
        )
    if row["method"] != "POST":
        raise _WrongLineError("invalid_method", "'method' must be 'POST'.", "method")
    if row["url"] != endpoint:
        text = f"The URL of this request is not the endpoint of the batch, '{endpoint}'."
        raise _WrongLineError("invalid_url", text, "url")
    body = row["body"]
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _WrongLineError(
            "missing_required_parameter", "'body' must name a model.", "body.model"
        )
    if body.get("stream"):
        raise _WrongLineError("invalid_value", "Requests of a batch cannot stream.", "body.stream")
    return BatchRequest(row["custom_id"], body)


def _problem(
    code: str, message: str, param: str | None = None, line: int | None = None
) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}


# Background service that answers the requests of batches.
#
# One process at a time works on a batch (a lease in the database). Each result is written to disk
# as it arrives, so that a batch continues where it stopped when the server is restarted.


IN_FLIGHT = 16
"""Requests of one batch that run at once."""
RETRIED = (429, 503)
"""Replies after which a request is sent again: the server is busy, and batches can wait."""
LONGEST_DELAY = 30.0
OPEN = ("validating", "in_progress", "finalizing", "cancelling")


class BatchRunner(LeasedWork):
    """Answers batches."""

    table = RequestBatch
    open_statuses = OPEN

    def finish(self, row: RequestBatch) -> None:
        """Answer what has no result yet, and close the batch."""
        _Run(self, row).finish()

    def fail(self, row: RequestBatch) -> None:
        """Close a batch after a fault of the server."""
        error = {"code": "server_error", "message": "The server could not run the batch."}
        _Run(self, row).close("failed", {"object": "list", "data": [error]})


class _Run:
    """The work on one batch."""

    def __init__(self, runner: BatchRunner, batch: RequestBatch) -> None:
        self._runner = runner
        self._server = server = runner.server
        self._batch = batch
        self._beat = 0.0
        self._revoked = False
        """Whether the key that created the batch was removed since."""
        self._requests = server.get(InternalRequests)
        self._caller = Caller(batch.project, frozenset({"inference"}), batch.owner_key)

    def finish(self) -> None:
        """Answer what has no result yet, and close the batch."""
        batch = self._batch
        try:
            with self._server.storage.local_path(batch.input_file_id) as path:
                if batch.status == "validating" and not self._validate(path):
                    return
                with BatchResults(self._server.settings.folder / "batches" / batch.id) as results:
                    status = self._answer(path, results)
        except FileNotFoundError:
            text = f"The input file {batch.input_file_id} was deleted."
            self._refuse([{"code": "file_not_found", "message": text}])
            return
        self._finalize(results, status)

    def _validate(self, path: Path) -> bool:
        check = check_input(path, self._batch.endpoint)
        if check.errors:
            self._refuse(check.errors)
            return False
        with self._server.database.write() as session:
            row = self._runner.held(session, self._batch.id)
            row.model = check.model
            row.counts = {"total": check.total, "completed": 0, "failed": 0}
            if row.status == "validating":
                row.status = "in_progress"
                row.times = {**row.times, "in_progress_at": self._server.now()}
            self._batch = row
        return True

    def _refuse(self, errors: list[dict[str, Any]]) -> None:
        self.close("failed", {"object": "list", "data": errors})

    def _answer(self, path: Path, results: BatchResults) -> str:
        """Fill the results; returns the status with which the batch ends."""
        status = self._heartbeat(results)
        left = (
            r for r in read_input(path, self._batch.endpoint) if r.custom_id not in results.done
        )
        pending: dict[Future[InternalReply], str] = {}
        try:
            while True:
                if status == "completed":
                    self._submit(left, pending)
                if not pending:
                    break
                done, _ = wait(pending, timeout=HEARTBEAT_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    self._store(results, pending.pop(future), future)
                status = self._heartbeat(results)
        finally:
            for future in pending:
                future.cancel()
        if status == "expired":
            for request in left:
                text = "This request could not be executed before the completion window expired."
                results.add_error(request.custom_id, "batch_expired", text)
        return status

    def _submit(
        self, left: Iterator[BatchRequest], pending: dict[Future[InternalReply], str]
    ) -> None:
        while len(pending) < IN_FLIGHT:
            request = next(left, None)
            if request is None:
                return
            sent = self._requests.run(self._patient(request))
            pending[sent] = request.custom_id

    async def _patient(self, request: BatchRequest) -> InternalReply:
        """The reply to a request, which is sent again while the server is busy."""
        delay = 0.5
        while True:
            if self._revoked:
                return _refusal()
            reply = await self._requests.post(self._batch.endpoint, request.body, self._caller)
            if reply.status not in RETRIED:
                return reply
            await asyncio.sleep(delay)
            delay = min(LONGEST_DELAY, 2 * delay)

    def _store(
        self, results: BatchResults, custom_id: str, future: "Future[InternalReply]"
    ) -> None:
        try:
            reply = future.result()
            request_id = reply.headers.get("x-request-id", "")
            results.add(custom_id, reply.status, request_id, reply.body)
        except JanginError as error:
            results.add_error(custom_id, "server_error", str(error))

    def _heartbeat(self, results: BatchResults) -> str:
        """Store the counts and keep the lease; `completed` unless the batch must end otherwise."""
        if self._runner.stopping.is_set():
            raise LeaseLostError
        if time.monotonic() - self._beat < HEARTBEAT_SECONDS:
            return self._ending()
        self._beat = time.monotonic()
        with self._server.database.write() as session:
            row = self._runner.renewed(session, self._batch.id)
            row.counts = self._counts(results)
            self._batch = row
            self._revoked = is_revoked(session, row.owner_key)
        return self._ending()

    def _ending(self) -> str:
        if self._batch.requested == "cancel":
            return "cancelled"
        expires = self._batch.expires_at
        return "expired" if expires is not None and self._server.now() > expires else "completed"

    def _counts(self, results: BatchResults) -> dict[str, int]:
        counts = results.counts
        total = self._batch.counts.get("total", 0)
        return {"total": total, "completed": counts[OUTPUT], "failed": counts[ERRORS]}

    def _finalize(self, results: BatchResults, status: str) -> None:
        with self._server.database.write() as session:
            row = self._runner.held(session, self._batch.id)
            if status == "completed":
                row.status = "finalizing"
            row.times = {**row.times, "finalizing_at": self._server.now()}
            row.counts = self._counts(results)
            row.usage = _usage(results.usage)
            self._batch = row
        files = [
            self._file(results.folder / name) if results.counts[name] else None
            for name in (OUTPUT, ERRORS)
        ]
        self.close(status, None, files)
        results.remove()

    def _file(self, path: Path) -> File:
        """The row of a file with these results, whose bytes are in the storage now."""
        file_id, digest, size = new_id("file-"), hashlib.sha256(), 0
        with self._server.storage.writer(file_id) as target, path.open("rb") as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        now, lifetime = self._server.now(), self._batch.output_expires_after
        return File(
            id=file_id,
            created_at=now,
            project=self._batch.project,
            bytes=size,
            filename=f"{self._batch.id}_{path.name}",
            purpose="batch_output",
            status="processed",
            expires_at=now + lifetime if lifetime else None,
            sha256=digest.hexdigest(),
            owner_key=self._batch.owner_key,
        )

    def close(
        self,
        status: str,
        errors: dict[str, Any] | None,
        files: list[File | None] | None = None,
    ) -> None:
        """Give the batch its last status."""
        now = self._server.now()
        output, failed = files or [None, None]
        with self._server.database.write() as session:
            row = self._runner.held(session, self._batch.id)
            session.add_all(file for file in (output, failed) if file is not None)
            row.output_file_id = output.id if output else None
            row.error_file_id = failed.id if failed else None
            row.status, row.errors = status, errors
            row.times = {**row.times, f"{status}_at": now}
            row.lease_owner = row.lease_until = None
            emit(session, project=row.project, event=f"batch.{status}", object_id=row.id, now=now)


def _refusal() -> InternalReply:
    """The reply to a request whose key was removed."""
    error = ApiError(401, "The API key of this batch was removed.", code="invalid_api_key")
    return InternalReply(error.status, {}, bytearray(json.dumps(error.envelope()).encode()))


def _usage(counts: dict[str, int]) -> dict[str, Any]:
    """Token counts with the names that batches have; chat and responses name them differently."""
    read = counts.get("prompt_tokens", 0) + counts.get("input_tokens", 0)
    written = counts.get("completion_tokens", 0) + counts.get("output_tokens", 0)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.get("total_tokens", read + written),
    }


# `/v1/batches`: create, retrieve, list and cancel batches.


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
    row = RequestBatch(
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
        rows, more = page_of(session, visible(select(RequestBatch), caller), paging)
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


def _find(session: Session, batch_id: str, caller: Caller) -> RequestBatch:
    query = select(RequestBatch).where(RequestBatch.id == batch_id)
    return one_visible(session, query, caller, no_such("Batch", batch_id))


def _reply(row: RequestBatch) -> BatchReply:
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
