"""Nothing that a server was given is lost: moved, copied, beside another database, in a bucket."""

import io
import os
import shutil
import sqlite3
import uuid
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import StoreError
from jangin.serving.files.store import DELETED, store_file
from jangin.serving.files.uploads import FileKeeper
from jangin.serving.jobs.checkpoints import sweep_models
from jangin.serving.security.audit import record
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.server import Server
from jangin.serving.state.settings import SQLITE_FILE, ServerSettings
from jangin.serving.state.tables import File, StoredModel
from jangin.serving.state.trash import DAYS, TRASH


@contextmanager
def opened(folder, *, adopt=False, **options):
    server = Server(ServerSettings(folder=folder, **options), adopt=adopt)
    try:
        yield server
    finally:
        server.close()


def add_files(server, count):
    given = {"caller": LOCAL_CALLER, "filename": "a.jsonl", "purpose": "fine-tune"}
    return {store_file(server, io.BytesIO(b"{}"), **given).id for _ in range(count)}


def add_models(server, *tails):
    for tail in tails:
        (server.settings.folder / "models" / tail / "model").mkdir(parents=True)
    with server.database.write() as session:
        for tail in tails:
            given = {"project": "local", "created_at": 1, "kind": "full"}
            given |= {"base": f"store/catalog/{tail}", "path": f"models/{tail}"}
            session.add(StoredModel(name=tail, **given))
    return set(tails)


def pass_days(server, days):
    """Make everything that is stored older."""
    for top in ("files", "models"):
        for path in (server.settings.folder / top).rglob("*"):
            at = path.stat().st_mtime - days * 86_400
            os.utime(path, (at, at))


def swept(server, *, days=3):
    """(files, models) after a sweep of a server that nobody has used for a while."""
    pass_days(server, days)
    FileKeeper(server).sweep()
    sweep_models(server)
    return present(server.settings.folder)


def present(folder):
    files = {path.name for path in (folder / "files").rglob("*") if path.is_file()}
    return files - {"installation"}, {path.name for path in (folder / "models").iterdir()}


@pytest.fixture
def used(tmp_path):
    """A folder with four files and three models, and their names."""
    with opened(tmp_path / "F") as server:
        return tmp_path / "F", add_files(server, 4), add_models(server, "aaaa", "bbbb", "cccc")


@pytest.mark.parametrize("way", ["moved", "copied", "symlinked"])
def test_a_folder_elsewhere_keeps_and_uses_all_that_it_has(used, tmp_path, way):
    folder, files, models = used
    other = tmp_path / "elsewhere" / "G"
    other.parent.mkdir()
    {"moved": shutil.move, "copied": shutil.copytree, "symlinked": os.symlink}[way](folder, other)
    with opened(other) as server:
        assert swept(server) == (files, models)
        with server.database.read() as session:
            paths = [server.settings.path_of(row.path) for row in session.query(StoredModel)]
        assert paths == [other / "models" / tail for tail in sorted(models)]


@pytest.mark.usefixtures("used")
def test_whole_paths_of_an_older_database_are_found_where_the_folder_is_now(used, tmp_path):
    folder, files, models = used
    with opened(folder) as server, server.database.write() as session:
        for row in session.query(StoredModel):
            row.path = str(folder.absolute() / row.path)
    shutil.move(folder, tmp_path / "G")
    with opened(tmp_path / "G") as server:
        assert swept(server) == (files, models)
        assert server.settings.path_of(str(folder / "models" / "aaaa")).parts[-3:] == (
            *("G", "models", "aaaa"),
        )


def test_a_path_outside_of_the_folder_stays_whole(tmp_path):
    settings = ServerSettings(folder=tmp_path / "F")
    assert settings.path_of(settings.stored_path(tmp_path / "x")) == tmp_path / "x"
    assert settings.stored_path(tmp_path / "F" / "store" / "x") == "store/x"


@pytest.mark.parametrize("database", ["of 0 bytes", "removed", "of another server"])
def test_a_database_that_knows_nothing_of_the_files_is_refused(used, tmp_path, database):
    folder, files, models = used
    file = folder / SQLITE_FILE
    if database == "removed":
        file.unlink()
    elif database == "of another server":
        with opened(tmp_path / "other") as server:
            add_files(server, 1)
        shutil.copy(tmp_path / "other" / SQLITE_FILE, file)
    else:
        file.write_bytes(b"")
    for _ in range(2):  # the first start makes tables, which the second one has
        with (
            pytest.raises(StoreError, match=r"Nothing was changed.* --adopt; .*--folder ANOTHER"),
            opened(folder),
        ):
            pass
    assert present(folder) == (files, models)
    with opened(folder, adopt=True) as server:
        assert swept(server) == (files, models)
    with opened(folder) as server:  # and from now on it belongs there
        assert swept(server) == (files, models)


def test_files_of_before_there_were_ids_are_taken_over_by_a_database_that_knows_one(used):
    folder, files, models = used
    with opened(folder) as server, server.database.write() as session:
        (folder / "installation").unlink()
        server.storage.delete("installation")
        session.execute(StoredModel.metadata.tables["installation"].delete())
    with opened(folder) as server:
        assert swept(server) == (files, models)
    assert (folder / "installation").exists()


def test_what_a_database_of_yesterday_lacks_is_in_the_trash_until_it_is_known_again(used, caplog):
    folder, files, models = used
    shutil.copy(folder / SQLITE_FILE, folder / "yesterday")
    with opened(folder) as server:
        new_files, new_models = add_files(server, 2), add_models(server, "dddd")
    shutil.move(folder / SQLITE_FILE, folder / "today")
    shutil.move(folder / "yesterday", folder / SQLITE_FILE)
    trash = {TRASH + name for name in new_files}, {TRASH + name for name in new_models}
    with opened(folder) as server:
        assert swept(server) == (files | trash[0], models | trash[1])
        assert "2 files without a row in the database moved to the trash for 30 days" in caplog.text
        assert swept(server, days=DAYS - 4) == (files | trash[0], models | trash[1])
    shutil.move(folder / "today", folder / SQLITE_FILE)
    with opened(folder) as server:
        assert swept(server) == (files | new_files, models | new_models)
        with server.storage.reader(min(new_files)) as stream:
            assert stream.read() == b"{}"
    assert "models dddd is known again: taken out of the trash" in caplog.text


def test_trash_is_deleted_after_a_month_with_a_line_in_the_log(used, caplog):
    folder, files, models = used
    with opened(folder) as server:
        with server.storage.writer("file-nobodys") as stream:
            stream.write(b"lost")
        assert swept(server) == (files | {TRASH + "file-nobodys"}, models)
        assert swept(server, days=DAYS + 1) == (files, models)
    assert f"files: {TRASH}file-nobodys lay in the trash for 30 days: deleted" in caplog.text


def test_more_than_a_share_is_never_moved_at_once_and_said_once(used, caplog):
    folder, _, _ = used
    with opened(folder) as server:
        with server.database.write() as session:
            session.query(StoredModel).filter(StoredModel.name != "aaaa").delete()
        for _ in range(2):
            assert swept(server)[1] == {"aaaa", "bbbb", "cccc"}
    assert caplog.text.count("2 of 3 models have no row in the database") == 1


def test_models_that_were_deleted_by_their_owner_are_deleted(used):
    folder, files, models = used
    with opened(folder) as server:
        with server.database.write() as session:
            session.query(StoredModel).filter_by(name="aaaa").one().deleted_at = 5
        assert swept(server) == (files, models - {"aaaa"})


def test_a_bucket_of_another_installation_is_refused_and_none_of_its_files_is_deleted(tmp_path):
    url = f"memory://{uuid.uuid4().hex}"
    with opened(tmp_path / "one", storage=url) as server:
        files = add_files(server, 3)
        server.storage.rename(min(files), TRASH + min(files))
        FileKeeper(server).sweep()
        assert {name for name, _ in server.storage.names()} == {*files, "installation"}
    with pytest.raises(StoreError, match=f"is not the one of the files in {url}:"):
        Server(ServerSettings(folder=tmp_path / "two", storage=url))
    with opened(tmp_path / "one", storage=url) as server:
        assert {name for name, _ in server.storage.names()} == {*files, "installation"}


def test_two_servers_of_one_database_may_call_the_folder_by_two_names(
    used, tmp_path, postgresql, monkeypatch
):
    folder = tmp_path / "shared"
    (tmp_path / "name").symlink_to(folder)
    url = postgresql.new_database()
    with opened(folder, database=url) as one:
        files, models = add_files(one, 3), add_models(one, "aaaa", "bbbb")
        with opened(tmp_path / "name", database=url) as two:
            for server in (one, two, one):
                assert swept(server) == (files, models)


def test_a_damaged_database_is_refused_with_what_to_do(used):
    folder, files, models = used
    file = folder / SQLITE_FILE
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    damaged = bytearray(file.read_bytes())
    damaged[4096 * 3 : 4096 * 8] = b"\x55" * 4096 * 5
    for content in (bytes(damaged), b"not a database, " * 1000):
        file.write_bytes(content)
        with pytest.raises(StoreError, match=r"is damaged: .*backup of this file"), opened(folder):
            pass
        assert file.read_bytes() == content
    assert present(folder) == (files, models)


def test_the_trash_is_shown_and_emptied_by_command(used):
    folder, files, models = used
    with opened(folder) as server:
        with server.database.write() as session:
            session.delete(session.query(StoredModel).filter_by(name="aaaa").one())
        swept(server)
    assert (folder / "models" / f"{TRASH}aaaa").exists()
    for words, said in (([], "1 entry can be deleted"), (["--yes"], "Deleted 1 entry")):
        done = CliRunner().invoke(app, ["gc", "--folder", str(folder), *words])
        assert said in done.output, done.output
    assert not (folder / "models" / f"{TRASH}aaaa").exists()
    assert present(folder) == (files, models - {"aaaa"})
    assert "is empty" in CliRunner().invoke(app, ["gc", "--folder", str(folder)]).output


def test_a_sweep_lists_once_and_asks_only_about_what_has_no_row(used, monkeypatch):
    folder, files, _ = used
    with opened(folder) as server:
        (left,) = add_files(server, 1)
        with server.database.write() as session:
            session.delete(session.query(File).filter_by(id=left).one())
            record(session, LOCAL_CALLER, DELETED, left, 1)
        listings, unknown = [], []
        names, deleted = server.storage.names, FileKeeper._deleted
        monkeypatch.setattr(server.storage, "names", lambda: listings.append(1) or names())
        monkeypatch.setattr(
            FileKeeper, "_deleted", lambda self, n: unknown.append(set(n)) or deleted(self, n)
        )
        for _ in range(2):
            FileKeeper(server).sweep()
        assert (len(listings), unknown) == (2, [{left}])
        assert present(folder)[0] == files
