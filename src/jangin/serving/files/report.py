"""`/v1/files/{id}/report`: what is wrong with a training file, row by row."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import select

from jangin.serving.database.tables import File
from jangin.serving.files.check_process import check_rows
from jangin.serving.files.store import find_file
from jangin.serving.protocol.errors import ApiError
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import ServerDep

router = APIRouter(prefix="/files")


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
