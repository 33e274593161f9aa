"""`/v1/files`: upload, list, retrieve, download, delete, and the report of a training file."""

import base64
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, BackgroundTasks, Header, Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import or_, select
from starlette.types import Receive, Scope, Send

from jangin.serving.files.check_process import check_lines, check_rows
from jangin.serving.files.multipart import MB, FileForm
from jangin.serving.files.store import (
    JSON_LINES,
    RESULTS,
    DigestingWriter,
    add_row,
    check_name,
    check_purpose,
    delete_file,
    find_file,
)
from jangin.serving.protocol.errors import ApiError, invalid_value, missing_parameter
from jangin.serving.protocol.objects import BoundedList, DeletedFile, Reply, new_id
from jangin.serving.protocol.pagination import FilePaging, page_fields, page_of
from jangin.serving.security.access import CallerDep, visible
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import File, Upload, UploadPart

# Files and uploads as objects of the API.


class FileObject(Reply):
    """A stored file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    status_details: str | None

    @classmethod
    def of(cls, row: File) -> "FileObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)


class UploadObject(Reply):
    """A file that arrives in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None

    @classmethod
    def of(cls, row: Upload, file: File | None = None) -> "UploadObject":
        """The reply of a row, and of the file that a completed one became."""
        shown = None if file is None else FileObject.of(file)
        names = ("id", "bytes", "created_at", "expires_at", "filename", "purpose", "status")
        return cls(**{name: getattr(row, name) for name in names}, file=shown)


class PartObject(Reply):
    """Some bytes of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, row: UploadPart) -> "PartObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)


# The check of every JSON Lines file after its upload: UTF-8, one object per line.


def first_status(purpose: str) -> str:
    """The status of a file before its check."""
    return "uploaded" if purpose in JSON_LINES else "processed"


def check_file(server: Server, file_id: str) -> None:
    """Set the status of a file: `processed`, or `error` with the first line that is wrong."""
    try:
        with server.storage.local_path(file_id) as path:
            problem = check_lines(path)
    except FileNotFoundError:  # it was deleted meanwhile
        return
    with server.database.write() as session:
        row = session.scalars(select(File).where(File.id == file_id)).first()
        if row is not None and row.status == "uploaded":
            row.status = "error" if problem else "processed"
            row.status_details = problem


router = APIRouter(prefix="/files")

BLOCK = 3 << 18
"""Bytes that a download reads at once; a multiple of 3, as Base64 needs it."""
SHORTEST_LIFE, LONGEST_LIFE = 3_600, 2_592_000
"""Seconds after which a file may expire."""
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
FIELDS = frozenset({"purpose", ANCHOR, SECONDS})


@router.post("")
async def create_file(
    request: Request, server: ServerDep, caller: CallerDep, tasks: BackgroundTasks
) -> FileObject:
    """Store a file; its bytes go to the storage while they arrive."""
    limit = int(server.settings.limits.file_mb * MB)
    form = FileForm(file_field="file", text_fields=FIELDS, limit=limit)
    file_id = new_id("file-")
    async with contextmanager_in_threadpool(server.storage.writer(file_id)) as stream:
        writer = DigestingWriter(stream)
        await form.receive(request, writer)
        purpose, life = _checked(form)
    now = server.now()
    row = File(
        id=file_id,
        project=caller.project,
        created_at=now,
        bytes=form.bytes,
        filename=form.filename,
        purpose=purpose,
        status=first_status(purpose),
        expires_at=None if life is None else now + life,
        sha256=writer.sha256.hexdigest(),
        owner_key=caller.key_id,
    )
    await run_in_threadpool(add_row, server, caller, row)
    if row.status == "uploaded":
        tasks.add_task(check_file, server, file_id)
    return FileObject.of(row)


def _checked(form: FileForm) -> tuple[str, int | None]:
    """(purpose, seconds until the file expires) of a form; raises `ApiError`."""
    if "purpose" not in form.fields:
        raise missing_parameter("purpose")
    purpose = form.fields["purpose"]
    check_purpose(purpose)
    check_name(form.filename, purpose)
    return purpose, _life(form.fields)


def _life(fields: dict[str, str]) -> int | None:
    if not {ANCHOR, SECONDS} & {*fields}:
        return None
    for name in (ANCHOR, SECONDS):
        if name not in fields:
            raise missing_parameter(name)
    if fields[ANCHOR] != "created_at":
        raise invalid_value(ANCHOR, fields[ANCHOR], ["created_at"])
    return life_of(fields[SECONDS], SECONDS)


def life_of(value: str, param: str) -> int:
    """The seconds of `expires_after`; raises `ApiError`."""
    if not value.isascii() or not value.isdigit():
        raise ApiError(
            400,
            f"Invalid type for '{param}': expected an integer, but got '{value[:32]}'.",
            param=param,
            code="invalid_type",
        )
    seconds = int(value[:12])
    if not SHORTEST_LIFE <= seconds <= LONGEST_LIFE:
        side = "below_min" if seconds < SHORTEST_LIFE else "above_max"
        raise ApiError(
            400,
            f"Invalid '{param}': expected {SHORTEST_LIFE} to {LONGEST_LIFE}, but got {seconds}.",
            param=param,
            code=f"integer_{side}_value",
        )
    return seconds


@router.get("")
def list_files(
    server: ServerDep, caller: CallerDep, paging: FilePaging, purpose: str | None = None
) -> BoundedList[FileObject]:
    """The files of the caller's project, newest first; expired ones are not there."""
    query = visible(select(File), caller).where(
        or_(File.expires_at.is_(None), File.expires_at > server.now())
    )
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    with server.database.read() as session:
        rows, has_more = page_of(session, query, paging)
    return BoundedList(data=[FileObject.of(row) for row in rows], **page_fields(rows, has_more))


@router.get("/{file_id}")
def retrieve_file(file_id: str, server: ServerDep, caller: CallerDep) -> FileObject:
    """One file."""
    with server.database.read() as session:
        return FileObject.of(find_file(session, caller, file_id, server.now()))


@router.get("/{file_id}/report")
def file_report(file_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """The report of a file for fine-tuning, made when it is first needed.

    After a job has used the file, `mask_preview` shows rows as the model saw them.
    """
    with server.database.read() as session:
        row = find_file(session, caller, file_id, server.now())
    if row.purpose != "fine-tune":
        raise ApiError(
            400,
            f"File '{file_id}' has the purpose '{row.purpose}'; only files with the purpose "
            "'fine-tune' have a report.",
            param="id",
            code="invalid_purpose",
        )
    if row.report is None or "valid" not in row.report:
        with server.storage.local_path(file_id) as path:
            report = check_rows(path, server.settings.min_examples).report()
        with server.database.write() as session:
            stored = session.scalars(select(File).where(File.id == file_id)).first()
            if stored is not None:
                stored.report = {**report, **(stored.report or {})}
        row.report = {**report, **(row.report or {})}
    return {"id": file_id, **row.report}


@router.delete("/{file_id}")
def remove_file(file_id: str, server: ServerDep, caller: CallerDep) -> DeletedFile:
    """Delete a file that no unfinished job needs.

    Its rows stay with the jobs in `x_rows_in` until all files and models of the job are deleted.
    """
    return DeletedFile(id=file_id, object="file", x_rows_in=delete_file(server, caller, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse)
def download_file(
    file_id: str,
    server: ServerDep,
    caller: CallerDep,
    encoding: Literal["base64", "plain"] | None = None,
    accept: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """The bytes of a file; those of a job's results in Base64, as OpenAI sends them.

    `?encoding=plain` or `Accept: text/csv` gives results as they are.
    """
    with server.database.read() as session:
        row = find_file(session, caller, file_id, server.now())
    try:
        stream = server.storage.reader(file_id)
    except FileNotFoundError as error:
        raise ApiError(500, f"The storage lost {file_id}.", kind="server_error") from error
    plain = encoding == "plain" or (encoding is None and "text/csv" in accept)
    encoded = encoding == "base64" or (row.purpose == RESULTS and not plain)
    length = -(-row.bytes // 3) * 4 if encoded else row.bytes
    headers = {
        "content-length": str(length),
        "content-disposition": f"attachment; filename*=utf-8''{quote(row.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    kind = "text/csv" if row.purpose == RESULTS and not encoded else "application/octet-stream"
    return _Download(stream, encoded=encoded, media_type=kind, headers=headers)


class _Download(StreamingResponse):
    """The bytes of a stream, which is closed also where the client goes away."""

    def __init__(self, stream: BinaryIO, *, encoded: bool, **options: Any) -> None:
        super().__init__(_blocks(stream, encoded=encoded), **options)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


def _blocks(stream: BinaryIO, *, encoded: bool) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield base64.b64encode(block) if encoded else block
