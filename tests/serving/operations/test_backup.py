"""A backup of a server that runs is consistent, and a restored server has and does the same."""

import contextlib
import errno
import hashlib
import io
import os
import re
import sqlite3
import threading
import time
import uuid
from pathlib import Path

import openai
import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import ConfigError, LockedStoreError, StoreError, UnreadableStoreError
from jangin.core.events import Progress
from jangin.serving.files.store import store_file
from jangin.serving.operations import backup
from jangin.serving.operations.backup import (
    LEASE,
    PRUNE,
    SNAPSHOT,
    UNFINISHED,
    Target,
    back_up,
    copy_sqlite,
    new_name,
    restore,
)
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.settings import SQLITE_FILE, ServerSettings
from jangin.serving.state.tables import File
from tests.serving.postgresql import programs, run_postgresql
from tests.serving.running import spawn_server
from tests.serving.state.test_installation import add_models, opened


def add_file(server, content):
    given = {"caller": LOCAL_CALLER, "filename": "a.jsonl", "purpose": "user_data"}
    return store_file(server, io.BytesIO(content), **given).id


def contents(server):
    """{id: bytes} of the files that rows name."""
    with server.database.read() as session:
        ids = session.query(File.id).all()
    found = {}
    for (file_id,) in ids:
        with contextlib.closing(server.storage.reader(file_id)) as stream:
            found[file_id] = stream.read()
    return found


def write_backup(settings, target):
    settings = settings.model_copy(update={"folder": Path(os.path.relpath(settings.folder))})
    return back_up(settings, Target(str(target), settings, is_new=True), Progress())


def restored(target, folder, name=None, **options):
    settings = ServerSettings(folder=folder, **options)
    backup = Target(str(target), settings)
    restore(settings, backup, name or backup.names()[-1], Progress())
    return settings


@pytest.fixture
def used(tmp_path):
    """Settings of a server with two files and a model that is linked into the store."""
    with opened(tmp_path / "F") as server:
        add_file(server, b"first")
        add_file(server, b"second")
        add_models(server, "aaaa")
        weights = server.settings.folder / "models/aaaa/model/weights"
        weights.write_bytes(b"w" * 1000)
        (server.settings.store / "sft").mkdir(parents=True)
        os.link(weights, server.settings.store / "sft/weights")
        (server.settings.folder / "pages.secret").write_text("s")
        (server.settings.folder / "pages.secret").chmod(0o600)
        return server.settings


def test_a_restored_server_has_the_same_files_models_modes_times_and_links(used, tmp_path):
    name, snapshot, written = write_backup(used, tmp_path / "B")
    settings = restored(tmp_path / "B", tmp_path / "G", name)
    assert written > 0
    assert not snapshot.lost
    with opened(tmp_path / "G") as server:
        assert sorted(contents(server).values()) == [b"first", b"second"]
    for path in ("models/aaaa/model/weights", "store/sft/weights", "pages.secret"):
        ours, theirs = settings.folder / path, used.folder / path
        assert ours.read_bytes() == theirs.read_bytes()
        assert (ours.stat().st_mode, ours.stat().st_mtime_ns) == (
            theirs.stat().st_mode,
            theirs.stat().st_mtime_ns,
        )
    assert (settings.store / "sft/weights").stat().st_nlink == 2
    assert not (settings.folder / UNFINISHED).exists()


def test_a_second_snapshot_writes_only_what_is_new(used, tmp_path):
    _, first, _ = write_backup(used, tmp_path / "B")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "B").glob("*/*")}
    with opened(used.folder) as server:
        add_file(server, b"third")
    (used.folder / "jobs").mkdir()
    (used.folder / "jobs/log").write_bytes(b"a line")
    _, second, written = write_backup(used, tmp_path / "B")
    assert written == second.database.bytes + len(b"third") + len(b"a line")
    assert len(second.storage.keys() - first.storage.keys()) == 1
    assert (
        before.items()
        <= {path: path.stat().st_mtime_ns for path in (tmp_path / "B").glob("*/*")}.items()
    )


def test_a_sqlite_file_whose_changes_are_in_its_log_is_read_again(used, tmp_path):
    ledger = used.store / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(ledger)) as open_one:
        open_one.execute("PRAGMA journal_mode=WAL")
        open_one.execute("CREATE TABLE calls (reply)")
        open_one.commit()
        write_backup(used, tmp_path / "B")
        time = ledger.stat().st_mtime_ns
        open_one.execute("INSERT INTO calls VALUES ('paid for')")
        open_one.commit()
        assert ledger.stat().st_mtime_ns == time
        name, _, _ = write_backup(used, tmp_path / "C")
        settings = restored(tmp_path / "C", tmp_path / "G", name)
    with contextlib.closing(sqlite3.connect(settings.store / "ledger.sqlite")) as copy:
        assert copy.execute("SELECT reply FROM calls").fetchall() == [("paid for",)]
    assert not list(settings.folder.rglob("*-wal"))


@pytest.mark.parametrize("harm", ["other bytes", "gone"])
def test_a_damaged_object_is_named_by_the_check_and_stops_the_restore(used, tmp_path, harm):
    name, snapshot, _ = write_backup(used, tmp_path / "B")
    digest = snapshot.folder["models/aaaa/model/weights"].sha256
    path = next((tmp_path / "B").glob(f"*/{digest}"))
    path.unlink() if harm == "gone" else path.write_bytes(b"x" * 1000)
    target = Target(str(tmp_path / "B"), used)
    assert target.damaged(target.read(name), Progress()) == [digest]
    with pytest.raises(UnreadableStoreError, match=digest):
        restored(tmp_path / "B", tmp_path / "G")
    assert not (tmp_path / "G" / SQLITE_FILE).exists()
    path.write_bytes(b"w" * 1000)
    restored(tmp_path / "B", tmp_path / "G")
    with opened(tmp_path / "G") as server:
        assert len(contents(server)) == 2


def test_a_server_does_not_start_in_half_of_a_backup(used, tmp_path):
    _, snapshot, _ = write_backup(used, tmp_path / "B")
    next((tmp_path / "B").glob(f"*/{snapshot.database.sha256}")).unlink()
    with pytest.raises(UnreadableStoreError):
        restored(tmp_path / "B", tmp_path / "G")
    with pytest.raises(StoreError, match="is not the one of the files"), opened(tmp_path / "G"):
        pass


def test_two_backups_of_one_second_have_two_names_in_the_order_of_time():
    names = [new_name() for _ in range(50)]
    assert len(set(names)) == len(names)
    time.sleep(0.001)
    assert new_name() > max(names)


def test_only_the_newest_snapshots_and_what_they_need_stay(used, tmp_path):
    target = Target(str(tmp_path / "B"), used, is_new=True)
    names = []
    for number in range(3):
        (used.folder / "notes").write_text(f"version {number}")
        names.append(back_up(used, target, Progress())[0])
    assert target.names() == names
    assert target.prune(2) == 1
    assert target.names() == names[1:]
    stored = {name for name, _ in target.storage.names() if not name.startswith(SNAPSHOT)}
    assert stored == {digest for name in names[1:] for digest in target.read(name).objects}
    assert not {hashlib.sha256(b"version 0").hexdigest()} & stored
    settings = restored(tmp_path / "B", tmp_path / "G", names[1])
    assert (settings.folder / "notes").read_text() == "version 1"


class Counted:
    """A storage that says how often all of it was listed."""

    def __init__(self, storage):
        self._storage = storage
        self.listings = 0

    def names(self):
        self.listings += 1
        return self._storage.names()

    def __getattr__(self, name):
        return getattr(self._storage, name)


def test_a_checkpoint_that_a_newer_one_replaces_during_the_backup_is_read_again(
    used, tmp_path, monkeypatch
):
    settings = used
    checkpoints = settings.folder / "store" / "sft" / "ab.partial" / "checkpoints"
    first, second = checkpoints / "step-00000008", checkpoints / "step-00000012"
    for name in ("tensors.safetensors", "state.json"):
        first.mkdir(parents=True, exist_ok=True)
        (first / name).write_text(f"8 {name}")
    keep = backup._Writer.keep

    def keep_and_train(writer, path, size=None):
        if first.exists() and path.parent.name == first.name:
            first.rename(second)  # as a newer one that is complete, after which the older one goes
            raise FileNotFoundError(path)
        return keep(writer, path, size)

    monkeypatch.setattr(backup._Writer, "keep", keep_and_train)
    _, snapshot, _ = write_backup(settings, tmp_path / "backup")
    kept = {name for name in snapshot.folder if "checkpoints" in name}
    step = second.relative_to(settings.folder).as_posix()
    assert kept == {f"{step}/tensors.safetensors", f"{step}/state.json"}


def test_a_quiet_server_is_read_once_and_the_backup_listed_twice(used, tmp_path, monkeypatch):
    copied = []
    monkeypatch.setattr(
        "jangin.serving.operations.backup.copy_sqlite",
        lambda source, to: (copied.append(source.name), copy_sqlite(source, to)),
    )
    with contextlib.closing(sqlite3.connect(used.store / "ledger.sqlite")) as ledger:
        ledger.execute("CREATE TABLE calls (reply)")
        target = Target(str(tmp_path / "B"), used, is_new=True)
        target.storage = counted = Counted(target.storage)
        back_up(used, target, Progress())
        assert (sorted(copied), counted.listings) == (["ledger.sqlite", SQLITE_FILE], 2)
        target.prune(1)
        assert counted.listings == 3
        # Where a file is missing, the database is read again, but not what is as it was.
        with opened(used.folder) as server:
            server.storage.delete(add_file(server, b"gone"))
        copied.clear()
        back_up(used, target, Progress())
    assert sorted(copied) == ["ledger.sqlite", SQLITE_FILE, SQLITE_FILE]


def test_nothing_is_deleted_beside_a_backup_at_work(used, tmp_path, monkeypatch):
    """A snapshot of old bytes is at work while another process keeps the newest one only."""
    target = Target(str(tmp_path / "B"), used, is_new=True)
    (used.folder / "notes").write_text("version 0")
    back_up(used, target, Progress())
    (used.folder / "notes").write_text("version 1")
    back_up(used, target, Progress())
    (used.folder / "notes").write_text("version 0")
    pruned = []

    def dump_and_prune(settings, to):
        pruned.append(Target(str(tmp_path / "B"), used).prune(1))
        return dump(settings, to)

    dump = backup._dump
    monkeypatch.setattr(backup, "_dump", dump_and_prune)
    name, _, _ = back_up(used, target, Progress())
    assert pruned == [None]
    assert target.prune(1) == 2
    settings = restored(tmp_path / "B", tmp_path / "G", name)
    assert (settings.folder / "notes").read_text() == "version 0"
    assert not [each for each in target.listing().names if each.startswith(LEASE)]


def test_nothing_is_deleted_while_a_backup_is_read_again(used, tmp_path, monkeypatch):
    pruned = []

    def prune_and_look(target, snapshot, progress):
        pruned.append(Target(str(tmp_path / "B"), used).prune(1))
        return damaged(target, snapshot, progress)

    damaged = Target.damaged
    monkeypatch.setattr(Target, "damaged", prune_and_look)
    words = ["backup", str(used.folder), str(tmp_path / "B"), "--check"]
    for _ in range(2):
        assert "every object was read again" in CliRunner().invoke(app, words).output
    assert pruned == [None, None]
    target = Target(str(tmp_path / "B"), used)
    assert target.prune(1) == 1
    assert not [each for each in target.listing().names if each.startswith(LEASE)]


def test_nothing_is_deleted_beside_a_restore_and_nobody_else_writes_its_folder(
    used, tmp_path, monkeypatch
):
    """The older snapshot is restored while other processes prune and restore."""
    target = Target(str(tmp_path / "B"), used, is_new=True)
    older, _, _ = back_up(used, target, Progress())
    (used.folder / "notes").write_text("newer")
    back_up(used, target, Progress())
    met = []

    def write(writer, path, entry):
        if not met:
            met.append(Target(str(tmp_path / "B"), used).prune(1))
            with pytest.raises(LockedStoreError, match=f"restoring {older}"):
                restored(tmp_path / "B", tmp_path / "G", older)
        plain(writer, path, entry)

    plain = backup._RestoreWriter.write
    monkeypatch.setattr(backup._RestoreWriter, "write", write)
    settings = restored(tmp_path / "B", tmp_path / "G", older)
    assert met == [None]
    assert not (settings.folder / "notes").exists()
    with opened(settings.folder) as server:
        assert sorted(contents(server).values()) == [b"first", b"second"]
    assert target.prune(1) == 1
    with pytest.raises(UnreadableStoreError, match=f"has no {older} any more"):
        restored(tmp_path / "B", tmp_path / "H", older)
    assert not (tmp_path / "H").exists()
    assert not [each for each in target.listing().names if each.startswith(LEASE)]


def test_a_read_only_backup_is_restored(used, tmp_path, monkeypatch):
    write_backup(used, tmp_path / "B")
    storage = Target(str(tmp_path / "B"), used).storage

    def refused(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(type(storage), "writer", refused)
    before = sorted((tmp_path / "B").rglob("*"))
    settings = ServerSettings(folder=tmp_path / "G", storage="memory://read-only")
    snapshot = Target(str(tmp_path / "B"), settings)
    restore(settings, snapshot, snapshot.names()[-1], Progress())
    assert sorted((tmp_path / "B").rglob("*")) == before
    with opened(tmp_path / "G", storage="memory://read-only") as server:
        assert sorted(contents(server).values()) == [b"first", b"second"]


def test_a_backup_waits_for_the_end_of_a_deletion_and_the_dead_are_passed_over(used, tmp_path):
    target = Target(str(tmp_path / "B"), used, is_new=True)
    with target.storage.writer(f"{LEASE}{PRUNE}-dead") as stream:
        stream.write(b"")
    (dead,) = (tmp_path / "B").glob(f"*/{LEASE}*")
    os.utime(dead, (1, 1))
    with contextlib.ExitStack() as deletion:
        deletion.enter_context(target.lease(PRUNE))
        assert target.prune(1) is None
        done = threading.Thread(target=back_up, args=(used, target, Progress()))
        done.start()
        done.join(timeout=0.5)
        assert done.is_alive()
        assert target.names() == []
    done.join(timeout=60)
    assert len(target.names()) == 1
    assert target.prune(1) == 0
    assert not dead.exists()


def test_what_is_gone_already_is_named_and_the_rest_is_kept(used, tmp_path):
    with opened(used.folder) as server:
        gone = add_file(server, b"gone")
        server.storage.delete(gone)
    _, snapshot, _ = write_backup(used, tmp_path / "B")
    assert snapshot.lost == [gone]
    restored(tmp_path / "B", tmp_path / "G")


def test_a_backup_within_the_folder_and_a_restore_into_a_used_one_are_refused(used, tmp_path):
    with pytest.raises(ConfigError, match="within the folder"):
        write_backup(used, used.folder / "backup")
    write_backup(used, tmp_path / "B")
    with pytest.raises(ConfigError, match="is not empty"):
        restored(tmp_path / "B", used.folder)
    with pytest.raises(ConfigError, match="does not exist"):
        restored(tmp_path / "nowhere", tmp_path / "G")


def test_a_bucket_keeps_files_and_backups(tmp_path):
    bucket, backup = (f"memory://{uuid.uuid4().hex}" for _ in range(2))
    with opened(tmp_path / "F", storage=bucket) as server:
        add_file(server, b"in the bucket")
        name, _, _ = write_backup(server.settings, backup)
    elsewhere = f"memory://{uuid.uuid4().hex}"
    restored(backup, tmp_path / "G", name, storage=elsewhere)
    with opened(tmp_path / "G", storage=elsewhere) as server:
        assert list(contents(server).values()) == [b"in the bucket"]


@pytest.mark.skipif(programs() is None, reason="needs PostgreSQL")
def test_postgresql_is_dumped_in_the_state_of_the_files_and_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(programs()), prepend=os.pathsep)
    with run_postgresql() as postgresql:
        url = postgresql.new_database()
        with opened(tmp_path / "F", database=url) as server:
            file_id = add_file(server, b"a row in PostgreSQL")
            write_backup(server.settings, tmp_path / "B")
        with pytest.raises(ConfigError, match="has tables already"):
            restored(tmp_path / "B", tmp_path / "G", database=url)
        with pytest.raises(ConfigError, match="is of a server with postgresql"):
            restored(tmp_path / "B", tmp_path / "G")
        other = postgresql.new_database()
        restored(tmp_path / "B", tmp_path / "G", database=other)
        with opened(tmp_path / "G", database=other) as server:
            assert contents(server) == {file_id: b"a row in PostgreSQL"}


@pytest.mark.slow
def test_snapshots_of_a_server_under_load_have_the_bytes_of_every_row(tmp_path):
    """Clients upload and delete all the time; each snapshot is restored and compared."""
    sent, kept, stop = {}, {}, threading.Event()

    def use(url, turn):
        with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
            number = 0
            while not stop.is_set():
                number += 1
                name = f"{turn}-{number}.bin"
                sent[name] = f"{turn}-{number}-".encode() * (1 + number % 5 * 4_000)
                file = client.files.create(file=(name, sent[name]), purpose="user_data")
                if number % 3:
                    kept[file.id] = name
                else:
                    client.files.delete(file.id)

    with spawn_server(tmp_path / "data") as (_, url):
        threads = [threading.Thread(target=use, args=(url, turn)) for turn in range(3)]
        for thread in threads:
            thread.start()
        snapshots = []
        try:
            for number in range(3):
                before = len(kept)
                while len(kept) < before + 15:
                    stop.wait(0.01)
                known, target = dict(kept), tmp_path / f"B{number}"
                snapshots.append((known, target))
                _, snapshot, _ = write_backup(ServerSettings(folder=tmp_path / "data"), target)
                assert not snapshot.lost
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=100)
    for number, (known, target) in enumerate(snapshots):
        restored(target, tmp_path / f"G{number}")
        with opened(tmp_path / f"G{number}") as server:
            with server.database.read() as session:
                names = dict(session.query(File.id, File.filename).all())
            assert known.items() <= names.items()
            assert contents(server) == {file_id: sent[name] for file_id, name in names.items()}


def test_the_commands_say_what_they_wrote_and_list_and_restore_it(used, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, list(map(str, words)))

    target = tmp_path / "B"
    said = run("backup", used.folder, target, "--check", "--keep", 3).output
    assert "every object was read again" in said
    name = run("restore", target).output.split()[0]
    assert name in said
    done = run("restore", target, tmp_path / "G", "--snapshot", name)
    assert (done.exit_code, f"jangin serve --folder {tmp_path / 'G'}" in done.output) == (0, True)
    korean = run("--language", "ko", "backup", used.folder, target, "--check", "--keep", 1)
    assert "모든 객체를 다시 읽었고" in korean.output
    assert "옛 스냅숏 1개를 지웠습니다" in korean.output
    assert not re.search("[a-z]{3,} [a-z]{2,}", korean.output)
    name = run("restore", target).output.split()[0]
    refused = run("restore", target, tmp_path / "H", "--snapshot", "snapshot-1").exception
    assert isinstance(refused, ConfigError)
    assert name in str(refused)
    assert isinstance(run("backup", tmp_path / "empty", target).exception, ConfigError)
