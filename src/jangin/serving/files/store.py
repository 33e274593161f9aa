"""Put files into the server and take them out: for routes, jobs and batches alike."""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from typing import BinaryIO

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from jangin.serving.protocol.errors import ApiError, invalid_state, invalid_value, no_such_file
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.access import visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server
from jangin.serving.state.storage import StorageAwayError
from jangin.serving.state.tables import File, Job, RequestBatch

log = logging.getLogger("jangin.serving")
COPY = 1 << 20
DELETED = "file.delete"
"""Action in the audit log."""
FINISHED_JOBS = ("succeeded", "failed", "cancelled")
FINISHED_BATCHES = ("completed", "failed", "expired", "cancelled")


class DigestingWriter:
    """A stream to write to, which counts and digests what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        """`stream`: where the bytes go."""
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.bytes = 0
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Pass bytes on."""
        self.sha256.update(data)
        self.md5.update(data)
        self.bytes += len(data)
        self._stream.write(data)


def store_file(
    server: Server,
    source: BinaryIO,
    *,
    caller: Caller,
    filename: str,
    purpose: str,
    expires_at: int | None = None,
    status: str = "processed",
) -> File:
    """Store what a stream gives as a new file of the caller's project."""
    given = {"filename": filename, "purpose": purpose, "status": status}
    row = write_file(server, source, caller=caller, expires_at=expires_at, **given)
    return add_row(server, caller, row)


def write_file(
    server: Server,
    source: BinaryIO,
    *,
    caller: Caller,
    filename: str,
    purpose: str,
    expires_at: int | None = None,
    status: str = "processed",
) -> File:
    """The row of a new file, which the caller of this function adds; its bytes are stored."""
    file_id = new_id("file-")
    with server.storage.writer(file_id) as target:
        digesting = DigestingWriter(target)
        shutil.copyfileobj(source, digesting, COPY)
    return File(
        id=file_id,
        project=caller.project,
        created_at=server.now(),
        bytes=digesting.bytes,
        filename=filename,
        purpose=purpose,
        status=status,
        expires_at=expires_at,
        sha256=digesting.sha256.hexdigest(),
        owner_key=caller.key_id,
    )


def add_row(server: Server, caller: Caller, row: File) -> File:
    """Make a file visible whose bytes are in the storage; without the row they are removed."""
    try:
        with server.database.write() as session:
            note_file(session, caller, row, server.now())
    except BaseException:
        forget_bytes(server, [row.id])
        raise
    return row


def note_file(session: Session, caller: Caller, row: File, now: int) -> None:
    """Add the row of a file, and the audit log's line on it."""
    session.add(row)
    record(session, caller, "file.create", row.id, now)


def find_file(session: Session, caller: Caller, file_id: str, now: int) -> File:
    """A file of the caller's project; raises `ApiError` 404. An expired one is not there."""
    row = session.scalars(visible(select(File).where(File.id == file_id), caller)).first()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        raise no_such_file(file_id)
    return row


def delete_file(server: Server, caller: Caller, file_id: str) -> list[str]:
    """Remove a file; returns the ids of the jobs that still have its rows.

    Raises:
        ApiError: 404; 400 while an unfinished job or batch needs it.

    """
    with server.database.write() as session:
        row = find_file(session, caller, file_id, server.now())
        user = user_of(session, file_id)
        if user:
            raise invalid_state(
                f"File '{file_id}' is in use by {user}, which has not finished. Wait for it, or "
                "cancel it first."
            )
        session.delete(row)
        record(session, caller, DELETED, file_id, server.now())
        uses = or_(Job.training_file == file_id, Job.validation_file == file_id)
        jobs = list(session.scalars(select(Job.id).where(uses).order_by(Job.rowid)))
    forget_bytes(server, [file_id])
    return jobs


def forget_bytes(server: Server, names: Iterable[str]) -> None:
    """Delete bytes that no row names any more; what a lost storage keeps, `FileKeeper` removes."""
    for name in names:
        try:
            server.storage.delete(name)
        except StorageAwayError as error:
            log.warning("%s stays for now: %s", name, error)


def user_of(session: Session, file_id: str) -> str | None:
    """The id of an unfinished job or batch that needs a file."""
    job = session.scalar(
        select(Job.id)
        .where(
            or_(Job.training_file == file_id, Job.validation_file == file_id),
            Job.status.not_in(FINISHED_JOBS),
        )
        .limit(1)
    )
    return job or session.scalar(
        select(RequestBatch.id)
        .where(RequestBatch.input_file_id == file_id, RequestBatch.status.not_in(FINISHED_BATCHES))
        .limit(1)
    )


def bytes_stored(session: Session) -> int:
    """Bytes of all files together."""
    return int(session.scalar(select(func.coalesce(func.sum(File.bytes), 0))) or 0)


# What files are for, and what that asks of them.


UPLOADED = ("fine-tune", "batch", "evals", "user_data", "assistants", "vision")
"""Purposes that clients may give."""
JSON_LINES = frozenset({"fine-tune", "batch"})
"""Purposes of files with one JSON object per line."""
RESULTS = "fine-tune-results"
"""Purpose of the measurements of a job."""
LONGEST_NAME = 255


def check_purpose(purpose: str) -> None:
    """Raises `ApiError` where no client may give this purpose."""
    if purpose not in UPLOADED:
        raise invalid_value("purpose", purpose, UPLOADED)


def check_name(filename: str, purpose: str) -> None:
    """Raises `ApiError` where a file of this purpose cannot have this name.

    The name is only shown: it never becomes a path.
    """
    if not filename or len(filename) > LONGEST_NAME or not filename.isprintable():
        raise ApiError(
            400,
            f"Invalid 'filename': expected 1 to {LONGEST_NAME} printable characters.",
            param="filename",
            code="invalid_value",
        )
    if purpose in JSON_LINES and not filename.lower().endswith(".jsonl"):
        raise ApiError(
            400,
            f"Invalid file format for the purpose '{purpose}': '{filename}' must be a .jsonl file, "
            "with one JSON object per line.",
            param="file",
            code="invalid_file_format",
        )
