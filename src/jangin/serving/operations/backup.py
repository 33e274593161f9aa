"""`jangin backup`: everything that a server keeps, in one consistent state, while it runs.

A backup is a folder or a bucket with objects, which are named by the SHA-256 digest of their bytes,
and snapshots, which say what has which digest. A snapshot reads only what changed since the one
before it, and writes only what no snapshot has.
"""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypeGuard

from sqlalchemy import make_url, select, text
from sqlalchemy.orm import Session

from jangin.core.errors import MachineError, StoreError, counted
from jangin.core.events import Progress
from jangin.serving.operations.backup_target import (
    BACKUP,
    LEASE,
    PRUNE,
    Entry,
    Snapshot,
    Target,
    copy_and_hash,
    hash_of,
    new_name,
)
from jangin.serving.state.database import Database
from jangin.serving.state.installation import MARK, MODELS
from jangin.serving.state.lock import FILE as LOCK
from jangin.serving.state.settings import SQLITE_FILE, ServerSettings
from jangin.serving.state.storage import PARTIAL, folder_of_storage, open_storage
from jangin.serving.state.tables import File, StoredModel, UploadPart

_PASSED_OVER = ("exports", "storage-cache", LOCK)
"""Parts of the folder that are made again when they are needed."""
_ENDINGS = (".lock", "-wal", "-shm")
SQLITE = ".sqlite"
CHECKPOINTS = "checkpoints"
"""Name of the folder of a training's checkpoints."""
WAIT_SECONDS = 1
ROUNDS = 10
"""Tries to read what changes: what the database names, or a training's newest checkpoint."""


def back_up(
    settings: ServerSettings, target: Target, progress: Progress
) -> tuple[str, Snapshot, int]:
    """Write a snapshot of a server, which may run.

    The bytes of a file never change after they got their id, so whatever the database of the
    snapshot names is read after it. Where something of it was deleted meanwhile, the database is
    read again.

    Args:
        settings: of the server.
        target: where to.
        progress: shows how far it is.

    Returns:
        The name of the snapshot, the snapshot, and the bytes that were new.

    Raises:
        StoreError: folder, database or storage cannot be read, or the target cannot be written.
        MachineError: `pg_dump` is missing or failed.

    """
    with (
        target.lease(BACKUP),
        tempfile.TemporaryDirectory(prefix="jangin-backup-") as scratch,
    ):
        writer = _Writer(settings, target, progress)
        dump, before = Path(scratch) / "database", set[str]()
        for _ in range(ROUNDS):
            named = _dump(settings, dump)
            folder, storage = writer.read_everything()
            models = {path.split("/")[1] for path in folder if path.startswith(f"{MODELS}/")}
            lost = named - storage.keys() - models
            # What a second look at the database still names was not deleted meanwhile.
            if lost <= before:
                break
            before = lost
        database = writer.keep(dump)
        engine = "postgresql" if settings.database else "sqlite"
        now = int(time.time())
        snapshot = Snapshot(database, engine, folder, storage, now, lost=sorted(lost))
        listed = target.listing()
        if gone := snapshot.objects.keys() - listed.names:
            raise StoreError(
                f"{counted(len(gone), 'object')} of {target.shown} disappeared during the backup. "
                "Run it again, and see who else deletes there."
            )
        name = new_name()
        with target.storage.writer(name) as stream:
            stream.write(json.dumps(asdict(snapshot)).encode())
    return name, snapshot, writer.written


class _Writer:
    """Reads what changed, and writes objects that are not there yet."""

    def __init__(self, settings: ServerSettings, target: Target, progress: Progress) -> None:
        self._settings, self._target, self._progress = settings, target, progress
        self._stored = open_storage(settings)
        listed = target.listing()
        while any(name.startswith(LEASE + PRUNE) for name in listed.leases):
            time.sleep(WAIT_SECONDS)
            listed = target.listing()
        self._there = listed.names
        self._copies: dict[str, tuple[object, Entry]] = {}
        """{path of a database: (its state, the copy)}."""
        self._folder: dict[str, Entry] = {}
        self._storage: dict[str, Entry] = {}
        if listed.snapshots:
            last = target.read(listed.snapshots[-1])
            self._folder, self._storage = last.folder, last.storage
        self._bar = progress.start("files", None)
        self.written = 0

    def read_everything(self) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """(folder, storage) as they are now; what disappears meanwhile is not among them."""
        for _ in range(ROUNDS):
            folder, checkpoints = self._read_folder()
            # A training job deletes its last checkpoint when it has a newer one.
            if all(_names_in(path) == names for path, names in checkpoints.items()):
                break
        storage = {}
        for name, _ in list(self._stored.names()):
            if name.endswith(PARTIAL):
                continue
            with suppress(FileNotFoundError):
                known = None if name == MARK else self._storage.get(name)
                storage[name] = known if self._is_kept(known) else self._stored_entry(name)
        self._folder, self._storage = folder, storage
        return folder, storage

    def _read_folder(self) -> tuple[dict[str, Entry], dict[Path, set[str]]]:
        """(the files of the folder, {folder of checkpoints: their names when they were read})."""
        folder: dict[str, Entry] = {}
        checkpoints: dict[Path, set[str]] = {}
        for path in _paths(self._settings):
            if CHECKPOINTS in path.parts:
                above = next(each for each in path.parents if each.name == CHECKPOINTS)
                names = checkpoints.setdefault(above, set())
                names.add(path.relative_to(above).parts[0])
            name = path.relative_to(self._settings.folder.absolute()).as_posix()
            with suppress(FileNotFoundError):
                folder[name] = self._entry(name, path)
        return folder, checkpoints

    def _entry(self, name: str, path: Path) -> Entry:
        about, known = path.stat(), self._folder.get(name)
        same = (about.st_size, about.st_mtime_ns, f"{about.st_dev}-{about.st_ino}")
        if path.suffix == SQLITE:
            kept = self._copied(name, path)
        elif self._is_kept(known) and (known.bytes, known.mtime_ns, known.inode) == same:
            return known
        else:
            kept = self.keep(path, about.st_size)
        mode = stat.S_IMODE(about.st_mode)
        return Entry(kept.sha256, kept.bytes, mode, about.st_mtime_ns, same[2])

    def _copied(self, name: str, path: Path) -> Entry:
        """A database as it is now; copied once for what it is with the log beside it."""
        state = []
        for part in (path, path.with_name(path.name + "-wal")):
            with suppress(FileNotFoundError):
                about = part.stat()
                state.append((about.st_size, about.st_mtime_ns, about.st_ino))
        if self._copies.get(name, (None,))[0] != state:
            with tempfile.TemporaryDirectory(prefix="jangin-backup-") as scratch:
                copy = Path(scratch) / path.name
                copy_sqlite(path, copy)
                self._copies[name] = state, self.keep(copy)
        return self._copies[name][1]

    def _is_kept(self, entry: Entry | None) -> TypeGuard[Entry]:
        return entry is not None and entry.sha256 in self._there

    def _stored_entry(self, name: str) -> Entry:
        with self._stored.local_path(name) as path:
            return self.keep(path)

    def keep(self, path: Path, size: int | None = None) -> Entry:
        """Keep the first bytes of a file, or all: a log may grow while it is read."""
        for _ in range(ROUNDS):
            with path.open("rb") as stream:
                digest, length = hash_of(stream, size)
                self._progress.advance(self._bar)
                if digest in self._there:
                    return Entry(digest, length)
                stream.seek(0)
                with suppress(_ChangedError), self._target.storage.writer(digest) as out:
                    if copy_and_hash(stream, out, length) != digest:
                        raise _ChangedError
                    self._there.add(digest)
                    self.written += length
        raise StoreError(f"{path} changes all the time and cannot be read. Run the backup again.")


class _ChangedError(Exception):
    """A file was written while it was read."""


def _names_in(folder: Path) -> set[str]:
    """Names of what has a file in a folder; empty if it is gone."""
    with suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir() if path.is_file() or any(path.iterdir())}
    return set()


def _paths(settings: ServerSettings) -> Iterator[Path]:
    """Files of the folder; checkpoints first, because they need nothing that is written later."""
    files = folder_of_storage(settings).absolute()
    later = []
    for top, names, paths in os.walk(settings.folder.absolute()):
        folder = Path(top)
        is_top = folder == settings.folder.absolute()
        names[:] = sorted(
            name
            for name in names
            if folder / name != files and not (is_top and name in _PASSED_OVER)
        )
        for name in sorted(paths):
            path = folder / name
            if name.endswith(_ENDINGS) or (is_top and name in (*_PASSED_OVER, SQLITE_FILE)):
                continue
            if not stat.S_ISREG(path.stat().st_mode if path.exists() else 0):
                continue
            if CHECKPOINTS in path.parts:
                yield path
            else:
                later.append(path)
    yield from later


def _dump(settings: ServerSettings, to: Path) -> set[str]:
    """Write the database to a file; returns the ids of files and folders of models in it."""
    to.unlink(missing_ok=True)
    if not settings.database:
        copy_sqlite(settings.folder / SQLITE_FILE, to)
        with closing(Database(f"sqlite:///{to}")) as copy:
            copy.verify()
            with copy.read() as session:
                named = _named(session)
        return named
    with closing(Database(settings.database_url)) as database, database.read() as session:
        snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
        named = _named(session)
        wanted = ("--format=custom", f"--snapshot={snapshot}", f"--file={to}")
        run_postgresql(settings, "pg_dump", *wanted)
    return named


def _named(session: Session) -> set[str]:
    alive = select(StoredModel.path).where(StoredModel.deleted_at.is_(None))
    models = {Path(path).name for path in session.scalars(alive)}
    return models | {*session.scalars(select(File.id)), *session.scalars(select(UploadPart.id))}


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database of SQLite that others may write to; raises `StoreError`."""
    try:
        with (
            closing(sqlite3.connect(source, timeout=30)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{source} cannot be read: {error}. See what is wrong with: jangin serve --check"
        ) from error


def run_postgresql(settings: ServerSettings, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on the database of a server; raises `MachineError`."""
    path = shutil.which(program)
    if path is None:
        raise MachineError(
            f"this needs {program} of PostgreSQL, which was not found. Install it with: sudo "
            "apt-get install postgresql-client"
        )
    url = make_url(settings.database)
    # In the environment, because other users of the machine see the arguments of a process.
    given = {
        "PGHOST": url.host,
        "PGPORT": url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": url.query.get("sslmode"),
    }
    environment = os.environ | {key: str(value) for key, value in given.items() if value}
    done = subprocess.run(  # noqa: S603  # the program of PostgreSQL
        [path, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MachineError(
            f"{program} failed: {last}. Its version must be that of the server or newer."
        )
