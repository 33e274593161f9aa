"""What a stopped server left, and what expired, is put in order by the next one."""

import io
import os

import pytest

from jangin.serving.files.routes import check_file
from jangin.serving.files.store import delete_file, store_file
from jangin.serving.files.uploads import FileKeeper
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import File, Job, Upload, UploadPart


@pytest.fixture
def stopped(tmp_path):
    server = Server(ServerSettings(folder=tmp_path / "data"))
    yield server
    server.close()


def stored(server, content=b"{}", **options):
    given = {"caller": LOCAL_CALLER, "filename": "a.jsonl", "purpose": "fine-tune", **options}
    return store_file(server, io.BytesIO(content), **given).id


def rows(server, table):
    with server.database.read() as session:
        return {row.id: row for row in session.query(table)}


def test_a_file_that_was_never_checked_is_checked(stopped):
    good, bad = stored(stopped, status="uploaded"), stored(stopped, b"?", status="uploaded")
    keeper = FileKeeper(stopped)
    keeper.recheck()
    files = rows(stopped, File)
    assert (files[good].status, files[bad].status) == ("processed", "error")


def test_a_file_that_was_deleted_before_its_check_is_left_alone(stopped):
    """The check follows the reply: an error would close the connection of the next request."""
    deleted = stored(stopped, status="uploaded")
    stopped.storage.delete(deleted)
    check_file(stopped, deleted)
    assert rows(stopped, File)[deleted].status == "uploaded"


def test_expired_files_go_unless_a_job_needs_them(stopped):
    gone, used, kept = stored(stopped, expires_at=1), stored(stopped, expires_at=1), stored(stopped)
    job = Job(
        id="ftjob-1", project="local", created_at=1, seq=1, status="running", model="m", seed=1,
        method_type="supervised", owner_key="local", training_file=used,
    )  # fmt: skip
    with stopped.database.write() as session:
        session.add(job)
    FileKeeper(stopped).remove_expired()
    assert set(rows(stopped, File)) == {used, kept}
    with pytest.raises(FileNotFoundError):
        stopped.storage.reader(gone)


def test_an_expired_upload_loses_its_parts(stopped):
    upload = Upload(
        id="upload_1", project="local", created_at=1, bytes=1, filename="a", mime_type="x",
        purpose="batch", status="pending", expires_at=1, owner_key="local",
    )  # fmt: skip
    part = UploadPart(id="part_1", upload_id="upload_1", created_at=1, bytes=1, md5="")
    with stopped.database.write() as session:
        session.add(upload)
        session.flush()
        session.add(part)
    with stopped.storage.writer("part_1") as stream:
        stream.write(b"1")
    FileKeeper(stopped).remove_expired()
    assert rows(stopped, Upload)["upload_1"].status == "expired"
    assert rows(stopped, UploadPart) == {}
    with pytest.raises(FileNotFoundError):
        stopped.storage.reader("part_1")


def test_bytes_that_no_row_names_are_trash_when_they_are_old(stopped):
    kept = stored(stopped)
    for name in ("file-old", "file-new"):
        with stopped.storage.writer(name) as stream:
            stream.write(b"lost")
    folder = stopped.settings.folder / "files"
    partial = folder / "en" / "file-written.partial"
    partial.parent.mkdir()
    partial.touch()
    for path in [*folder.rglob("file-old"), *folder.rglob(kept), partial]:
        os.utime(path, (1, 1))
    FileKeeper(stopped).sweep()
    left = {path.name for path in folder.rglob("*") if path.is_file()} - {"installation"}
    assert left == {kept, "file-new", "trash-file-old"}


def test_bytes_of_a_file_that_was_deleted_while_the_storage_was_away_are_deleted(stopped):
    kept, deleted = stored(stopped), stored(stopped)
    delete_file(stopped, LOCAL_CALLER, deleted)
    with stopped.storage.writer(deleted) as stream:
        stream.write(b"still there")
    FileKeeper(stopped).sweep()
    assert {name for name, _ in stopped.storage.names()} == {kept, "installation"}


def test_it_starts_and_stops(stopped):
    waiting = stored(stopped, status="uploaded")
    keeper = FileKeeper(stopped)
    keeper.start()
    keeper.stop()
    assert rows(stopped, File)[waiting].status in ("uploaded", "processed")
