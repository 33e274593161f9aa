"""`/v1/uploads`: a large file in parts."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection
from typing import Literal

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import Field
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jangin.serving.files.multipart import MB, FileForm
from jangin.serving.files.routes import (
    LONGEST_LIFE,
    SHORTEST_LIFE,
    PartObject,
    UploadObject,
    check_file,
    first_status,
)
from jangin.serving.files.store import (
    COPY,
    DELETED,
    DigestingWriter,
    check_name,
    check_purpose,
    forget_bytes,
    user_of,
)
from jangin.serving.protocol.errors import ApiError, invalid_state, no_such
from jangin.serving.protocol.objects import RequestBody, new_id
from jangin.serving.security.access import CallerDep, one_visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Audit, File, KeptAnswer, Upload, UploadPart
from jangin.serving.state.trash import sweep

router = APIRouter(prefix="/uploads")

LIFE = 3_600
"""Seconds in which all parts must arrive."""
MOST_PARTS = 10_000


class ExpiresAfter(RequestBody):
    """When the file expires that the upload becomes."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE)


class CreateUpload(RequestBody):
    """Body of `POST /v1/uploads`."""

    bytes: int = Field(ge=1)
    filename: str
    mime_type: str
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteUpload(RequestBody):
    """Body of `POST /v1/uploads/{id}/complete`."""

    part_ids: list[str] = Field(min_length=1, max_length=MOST_PARTS)
    md5: str | None = None


@router.post("")
def create_upload(body: CreateUpload, server: ServerDep, caller: CallerDep) -> UploadObject:
    """Begin an upload."""
    check_purpose(body.purpose)
    check_name(body.filename, body.purpose)
    most = int(server.settings.limits.upload_gb * 1000 * MB)
    if body.bytes > most:
        raise ApiError(
            400,
            f"Invalid 'bytes': integer above maximum value. Expected a value <= {most}, but got "
            f"{body.bytes} instead.",
            param="bytes",
            code="integer_above_max_value",
        )
    now = server.now()
    row = Upload(
        id=new_id("upload_"),
        project=caller.project,
        created_at=now,
        bytes=body.bytes,
        filename=body.filename,
        mime_type=body.mime_type,
        purpose=body.purpose,
        status="pending",
        expires_at=now + LIFE,
        file_expires_after=body.expires_after.seconds if body.expires_after else None,
        owner_key=caller.key_id,
    )
    with server.database.write() as session:
        session.add(row)
        record(session, caller, "upload.create", row.id, now)
    return UploadObject.of(row)


@router.post("/{upload_id}/parts")
async def add_part(
    upload_id: str, request: Request, server: ServerDep, caller: CallerDep
) -> PartObject:
    """Store one part; parts may arrive in any order and at the same time."""
    limit = int(server.settings.limits.part_mb * MB)
    form = FileForm(file_field="data", text_fields=frozenset(), limit=limit)
    await run_in_threadpool(_check_pending, server, caller, upload_id)
    part_id = new_id("part_")
    async with contextmanager_in_threadpool(server.storage.writer(part_id)) as stream:
        writer = DigestingWriter(stream)
        await form.receive(request, writer)
    part = UploadPart(
        id=part_id,
        upload_id=upload_id,
        created_at=server.now(),
        bytes=form.bytes,
        md5=writer.md5.hexdigest(),
    )
    try:
        await run_in_threadpool(_add_part, server, caller, part)
    except BaseException:
        await run_in_threadpool(forget_bytes, server, [part_id])
        raise
    return PartObject.of(part)


def _check_pending(server: Server, caller: Caller, upload_id: str) -> None:
    with server.database.read() as session:
        find_pending(session, caller, upload_id, server.now())


def _add_part(server: Server, caller: Caller, part: UploadPart) -> None:
    with server.database.write() as session:
        upload = find_pending(session, caller, part.upload_id, server.now())
        arrived, count = session.execute(
            select(func.coalesce(func.sum(UploadPart.bytes), 0), func.count()).where(
                UploadPart.upload_id == upload.id
            )
        ).one()
        # A part may be sent again after a lost reply, so all of them may be twice the file.
        if arrived + part.bytes > 2 * upload.bytes or count >= MOST_PARTS:
            raise ApiError(
                400,
                f"The parts of {upload.id} have more bytes than the upload was created for "
                f"({upload.bytes}).",
                param="data",
                code="invalid_value",
            )
        session.add(part)
        record(session, caller, "upload.part", part.id, part.created_at)


def find_upload(session: Session, caller: Caller, upload_id: str) -> Upload:
    """An upload of the caller's project; raises `ApiError` 404."""
    query = select(Upload).where(Upload.id == upload_id)
    return one_visible(session, query, caller, no_such("Upload", upload_id))


def find_pending(session: Session, caller: Caller, upload_id: str, now: int) -> Upload:
    """An upload that waits for parts; raises `ApiError` 404, or 400 where it does not wait."""
    upload = find_upload(session, caller, upload_id)
    status = "expired" if upload.status == "pending" and upload.expires_at <= now else upload.status
    if status != "pending":
        raise invalid_state(f"Upload {upload_id} is already {status}.")
    return upload


@router.post("/{upload_id}/cancel")
def cancel_upload(upload_id: str, server: ServerDep, caller: CallerDep) -> UploadObject:
    """End an upload without a file."""
    now = server.now()
    with server.database.write() as session:
        upload = find_pending(session, caller, upload_id, now)
        upload.status = "cancelled"
        names = forget_parts(session, upload_id)
        record(session, caller, "upload.cancel", upload_id, now)
    forget_bytes(server, names)
    return UploadObject.of(upload)


def forget_parts(session: Session, upload_id: str) -> list[str]:
    """Delete the rows of an upload's parts; returns the names of their bytes in the storage."""
    parts = session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id)).all()
    for part in parts:
        session.delete(part)
    return [part.id for part in parts]


@router.post("/{upload_id}/complete")
def complete_upload(
    upload_id: str,
    body: CompleteUpload,
    server: ServerDep,
    caller: CallerDep,
    tasks: BackgroundTasks,
) -> UploadObject:
    """Join the parts, in the order of the request, to a file."""
    with server.database.read() as session:
        upload = find_upload(session, caller, upload_id)
        if upload.status == "completed":  # a client repeats a request whose reply was lost
            return UploadObject.of(upload, _file_of(session, upload))
        find_pending(session, caller, upload_id, server.now())
        parts = _ordered(session, upload, body.part_ids)
    file_id = new_id("file-")
    with server.storage.writer(file_id) as stream:
        writer = DigestingWriter(stream)
        for part in parts:
            _append(server, part, writer)
        md5 = writer.md5.hexdigest()
        if body.md5 is not None and body.md5.lower() != md5:
            raise ApiError(
                400,
                f"The MD5 checksum of the parts is {md5}, not {body.md5}.",
                param="md5",
                code="invalid_value",
            )
    try:
        with server.database.write() as session:
            file, names = _finish(
                session, server, caller, upload_id, file_id, writer.sha256.hexdigest()
            )
            upload = find_upload(session, caller, upload_id)
    except BaseException:
        forget_bytes(server, [file_id])
        raise
    forget_bytes(server, names)
    if file.status == "uploaded":
        tasks.add_task(check_file, server, file_id)
    return UploadObject.of(upload, file)


def _ordered(session: Session, upload: Upload, part_ids: list[str]) -> list[UploadPart]:
    rows = session.scalars(select(UploadPart).where(UploadPart.upload_id == upload.id))
    parts = {part.id: part for part in rows}
    for index, part_id in enumerate(part_ids):
        if part_id not in parts or part_id in part_ids[:index]:
            problem = "is repeated" if part_id in parts else f"is no part of {upload.id}"
            raise ApiError(400, f"'{part_id}' {problem}.", param="part_ids", code="invalid_value")
    total = sum(parts[part_id].bytes for part_id in part_ids)
    if total != upload.bytes:
        raise ApiError(
            400,
            f"The parts have {total} bytes together, but the upload was created for "
            f"{upload.bytes}.",
            param="part_ids",
            code="invalid_value",
        )
    return [parts[part_id] for part_id in part_ids]


def _append(server: Server, part: UploadPart, writer: DigestingWriter) -> None:
    try:
        with server.storage.reader(part.id) as source:
            shutil.copyfileobj(source, writer, COPY)
    except FileNotFoundError as error:  # another request completed or cancelled the upload
        raise invalid_state(f"Upload {part.upload_id} is no longer pending.") from error


def _finish(
    session: Session, server: Server, caller: Caller, upload_id: str, file_id: str, sha256: str
) -> tuple[File, list[str]]:
    """(the new file, names of the parts to delete from the storage)."""
    now = server.now()
    upload = find_pending(session, caller, upload_id, now)
    life = upload.file_expires_after
    file = File(
        id=file_id,
        project=upload.project,
        created_at=now,
        bytes=upload.bytes,
        filename=upload.filename,
        purpose=upload.purpose,
        status=first_status(upload.purpose),
        expires_at=None if life is None else now + life,
        sha256=sha256,
        owner_key=caller.key_id,
    )
    session.add(file)
    upload.status, upload.file_id = "completed", file_id
    record(session, caller, "file.create", file_id, now)
    return file, forget_parts(session, upload_id)


def _file_of(session: Session, upload: Upload) -> File | None:
    return session.scalars(select(File).where(File.id == upload.file_id)).first()


# Background service: checks files that a stopped server left unchecked, removes what expired.


INTERVAL = 60.0
"""Seconds between two rounds."""
CHECKED_AFTER = 600
"""Seconds after which the check of a file that began with its upload must have ended."""
SWEEP_INTERVAL = 86_400
"""Seconds between two looks at all bytes of the storage."""
FORGOTTEN = 86_400
"""Seconds after which bytes that no row names are trash; a request may be writing newer ones."""
log = logging.getLogger("jangin.serving")


class FileKeeper:
    """Looks after files and uploads, once a minute."""

    def __init__(self, server: Server) -> None:
        """Nothing happens before `start`."""
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        """Begin the first round."""
        self._thread.start()

    def stop(self) -> None:
        """End after the file in work."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        swept = float(-SWEEP_INTERVAL)
        self._try(self.recheck)
        while not self._stopped.is_set():
            if time.monotonic() - swept >= SWEEP_INTERVAL:
                swept = time.monotonic()
                self._try(self.sweep)
            self._try(self.remove_expired)
            self._stopped.wait(INTERVAL)
            self._try(lambda: self.recheck(self._server.now() - CHECKED_AFTER))

    def _try(self, work: Callable[[], None]) -> None:
        """Do it; database and storage may be away for a while."""
        try:
            work()
        except Exception:
            log.exception("files could not be looked after; trying again")

    def recheck(self, before: int | None = None) -> None:
        """Check the files whose check has not ended: of a stopped server, or of a lost storage.

        Those created `before` this Unix time, or all.
        """
        query = select(File.id).where(File.status == "uploaded")
        if before is not None:
            query = query.where(File.created_at < before)
        with self._server.database.read() as session:
            waiting = session.scalars(query).all()
        for file_id in waiting:
            if self._stopped.is_set():
                return
            check_file(self._server, file_id)

    def remove_expired(self) -> None:
        """Delete expired answers, files that no unfinished job needs, and parts of uploads."""
        now = self._server.now()
        names: list[str] = []
        with self._server.database.write() as session:
            for file in session.scalars(select(File).where(File.expires_at <= now)):
                if user_of(session, file.id) is None:
                    session.delete(file)
                    names.append(file.id)
            session.execute(delete(KeptAnswer).where(KeptAnswer.expires_at <= now))
            late = select(Upload).where(Upload.status == "pending", Upload.expires_at <= now)
            for upload in session.scalars(late):
                upload.status = "expired"
                names += forget_parts(session, upload.id)
        forget_bytes(self._server, names)

    def sweep(self) -> None:
        """Bytes without a row go to the trash, such as those that a killed server was writing.

        Those of files that were deleted on purpose are deleted: the storage was unreachable then.
        """
        with self._server.database.read() as session:
            known = {*session.scalars(select(File.id)), *session.scalars(select(UploadPart.id))}
        sweep(self._server.storage, known, "files", young_seconds=FORGOTTEN, deleted=self._deleted)

    def _deleted(self, names: Collection[str]) -> set[str]:
        """Which of these names belong to files that were deleted on purpose."""
        query = select(Audit.object).where(Audit.action == DELETED)
        with self._server.database.read() as session:
            return {name for name in session.scalars(query) if name in names}
