"""Background service that answers the requests of batches.

One process at a time works on a batch (a lease in the database). Each result is written to disk as
it arrives, so that a batch continues where it stopped when the server is restarted.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from jangin.core.errors import JanginError
from jangin.serving.batches.input_file import BatchRequest, check_input, read_input
from jangin.serving.batches.results import ERRORS, OUTPUT, BatchResults
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.ids import new_id
from jangin.serving.protocol.internal import InternalReply, InternalRequests
from jangin.serving.security.keys import is_revoked
from jangin.serving.state.caller import Caller
from jangin.serving.state.leased_work import HEARTBEAT_SECONDS, LeasedWork, LeaseLostError
from jangin.serving.state.storage import CHUNK
from jangin.serving.state.tables import Batch, File
from jangin.serving.webhooks.outbox import emit

IN_FLIGHT = 16
"""Requests of one batch that run at once."""
RETRIED = (429, 503)
"""Replies after which a request is sent again: the server is busy, and batches can wait."""
LONGEST_DELAY = 30.0
OPEN = ("validating", "in_progress", "finalizing", "cancelling")


class BatchRunner(LeasedWork):
    """Answers batches."""

    table = Batch
    open_statuses = OPEN

    def finish(self, row: Batch) -> None:
        """Answer what has no result yet, and close the batch."""
        _Run(self, row).finish()

    def fail(self, row: Batch) -> None:
        """Close a batch after a fault of the server."""
        error = {"code": "server_error", "message": "The server could not run the batch."}
        _Run(self, row).close("failed", {"object": "list", "data": [error]})


class _Run:
    """The work on one batch."""

    def __init__(self, runner: BatchRunner, batch: Batch) -> None:
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
