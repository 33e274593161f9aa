"""The check of every JSON Lines file after its upload: UTF-8, one object per line."""

from sqlalchemy import select

from jangin.serving.files.check_process import check_lines
from jangin.serving.files.purposes import JSON_LINES
from jangin.serving.state.server import Server
from jangin.serving.state.tables import File


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
