"""`jangin backup`: everything that a server keeps, in one consistent state, while it runs.

A backup is a folder or a bucket with objects, which are named by the SHA-256 digest of their bytes,
and snapshots, which say what has which digest. A snapshot reads only what changed since the one
before it, and writes only what no snapshot has.
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeGuard

from sqlalchemy import make_url, select, text
from sqlalchemy.orm import Session

from jangin import __version__
from jangin.core.errors import (
    ConfigError,
    JanginError,
    MachineError,
    StoreError,
    UnreadableStoreError,
    counted,
)
from jangin.core.events import Progress
from jangin.serving.state.database import Database
from jangin.serving.state.installation import MARK, MODELS
from jangin.serving.state.leases import FILE as LOCK
from jangin.serving.state.leases import sole_server
from jangin.serving.state.settings import SQLITE_FILE, ServerSettings
from jangin.serving.state.storage import (
    CHUNK,
    PARTIAL,
    folder_of_storage,
    is_remote,
    open_storage,
)
from jangin.serving.state.tables import File, StoredModel, UploadPart

# Where a backup is kept: objects by the digest of their bytes, snapshots, and leases.


SNAPSHOT, LEASE = "snapshot-", "lease-"
BACKUP, PRUNE, RESTORE = "backup", "prune", "restore"
"""What a lease is for."""
RENEW_SECONDS, STALE_SECONDS = 60, 600
"""How often a lease is renewed, and after how long its process counts as dead."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a snapshot."""

    sha256: str
    bytes: int
    mode: int = 0o600
    mtime_ns: int = 0
    inode: str = ""
    """Device and inode: two files with the same one are links to each other."""


@dataclass(slots=True)
class ServerSnapshot:
    """What a server had at one moment."""

    database: Entry
    engine: str
    """`sqlite` or `postgresql`."""
    folder: dict[str, Entry]
    """By the path in the folder of the server."""
    storage: dict[str, Entry]
    """By the id of the file."""
    created_at: int = 0
    version: str = __version__
    format: int = FORMAT
    lost: list[str] = field(default_factory=list)
    """Files and models that the database names and that were gone before the backup."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything in it."""
        return (self.database, *self.folder.values(), *self.storage.values())

    @property
    def objects(self) -> dict[str, int]:
        """{digest: bytes} of what it needs."""
        return {entry.sha256: entry.bytes for entry in self.entries}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a backup has at one moment."""

    names: set[str]
    """Of everything, unfinished writes included."""
    snapshots: list[str]
    """Oldest first."""
    leases: set[str]
    """Of processes that work there now."""


class Target:
    """A backup: the objects and snapshots in a folder or behind an fsspec URL."""

    def __init__(self, address: str, settings: ServerSettings, *, is_new: bool = False) -> None:
        """Open the backup at an address; `is_new`: create a folder that is not there.

        Raises:
            ConfigError: it is within the folder of the server, it is not there, or the URL is
                wrong.
            StoreError: it cannot be written.

        """
        at = ServerSettings(folder=settings.folder, storage=address)
        if not is_remote(at):
            folder = folder_of_storage(at).resolve()
            parts = (settings.folder, folder_of_storage(settings))
            if any(folder.is_relative_to(part.resolve()) for part in parts):
                raise ConfigError(
                    f"{address} is within the folder of the server, and would be lost with it. "
                    "Name a folder elsewhere, better on another disk."
                )
            if not is_new and not folder.exists():
                raise ConfigError(f"{address} does not exist. Name the folder of the backup.")
            with suppress(OSError):  # `open_storage` says what is wrong with it
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.shown = address
        self.storage = open_storage(at)

    def listing(self) -> Listing:
        """What is in it now."""
        times = dict(self.storage.names())
        complete = [name for name in times if not name.endswith(PARTIAL)]
        alive = time.time() - STALE_SECONDS
        leases = {
            name.removesuffix(PARTIAL)
            for name, at in times.items()
            if name.startswith(LEASE) and at > alive
        }
        snapshots = sorted(name for name in complete if name.startswith(SNAPSHOT))
        return Listing(set(times), snapshots, leases)

    def names(self) -> list[str]:
        """Names of the snapshots, oldest first."""
        return self.listing().snapshots

    @contextmanager
    def lease(self, work: str) -> Iterator[str]:
        """Tell others, until the end of the block, that this process works here.

        A backup or a restore lists what is there after its lease is written, and waits while
        another process prunes; a process that prunes gives up where there is another lease. So no
        object is deleted that one of them relies on, whichever begins first.

        Args:
            work: `BACKUP`, `PRUNE` or `RESTORE`.

        Yields:
            The name of the lease.

        """
        name, ended = f"{LEASE}{work}-{secrets.token_hex(8)}", threading.Event()

        def write() -> None:
            with self.storage.writer(name) as stream:
                stream.write(b"")

        def renew() -> None:
            while not ended.wait(RENEW_SECONDS):
                with suppress(JanginError, OSError):
                    write()

        write()
        thread = threading.Thread(target=renew, name="lease of a backup", daemon=True)
        thread.start()
        try:
            yield name
        finally:
            ended.set()
            thread.join()
            with suppress(JanginError, OSError):
                self.storage.delete(name)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """A lease for a restore, begun when nobody prunes; none where the backup is read-only."""
        with ExitStack() as stack:
            with suppress(StoreError, OSError):
                stack.enter_context(self.lease(RESTORE))
            self.wait_for_prunes()
            yield

    def wait_for_prunes(self) -> Listing:
        """What is in it when no process deletes there."""
        listed = self.listing()
        while any(name.startswith(LEASE + PRUNE) for name in listed.leases):
            time.sleep(WAIT_SECONDS)
            listed = self.listing()
        return listed

    def read(self, name: str) -> ServerSnapshot:
        """A snapshot; raises `UnreadableStoreError` where this version cannot read it."""
        with closing(self.storage.reader(name)) as stream:
            data = json.loads(stream.read())
        if data.get("format") != FORMAT:
            raise UnreadableStoreError(
                f"{name} in {self.shown} was written by jangin {data.get('version')}, in another "
                "format. Restore it with that version."
            )
        parts = {
            part: {path: Entry(**entry) for path, entry in data[part].items()}
            for part in ("folder", "storage")
        }
        return ServerSnapshot(**data | parts | {"database": Entry(**data["database"])})

    def prune(self, keep: int) -> int | None:
        """Delete all but the newest snapshots and what only they need.

        Returns:
            How many snapshots were deleted; None, with nothing deleted, while a backup or another
            prune is running.

        """
        with self.lease(PRUNE) as own:
            listed = self.listing()
            if listed.leases - {own}:
                return None
            keeps, old = listed.snapshots[-keep:], listed.snapshots[:-keep]
            needed = {own, *keeps, *old}.union(*(self.read(name).objects for name in keeps))
            # Snapshots first, so that none is left that lacks an object.
            for name in (*old, *(listed.names - needed)):
                if name.removesuffix(PARTIAL) != own:
                    self.storage.delete(name)
            return len(old)

    def damaged(self, snapshot: ServerSnapshot, progress: Progress) -> list[str]:
        """Digests of the objects of a snapshot that are missing or hold other bytes."""
        bad, bar = [], progress.start("objects", len(snapshot.objects))
        for digest in snapshot.objects:
            try:
                with closing(self.storage.reader(digest)) as stream:
                    read, _ = hash_of(stream)
            except FileNotFoundError:
                read = ""
            if read != digest:
                bad.append(digest)
            progress.advance(bar)
        progress.stop(bar)
        return bad


def new_name() -> str:
    """The name of a snapshot of now; names have the order of time, and no two are the same."""
    return f"{SNAPSHOT}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def hash_of(stream: BinaryIO, size: int | None = None) -> tuple[str, int]:
    """(SHA-256, number) of the first `size` bytes, or of all."""
    digest, length = hashlib.sha256(), 0
    while block := stream.read(CHUNK if size is None else min(CHUNK, size - length)):
        digest.update(block)
        length += len(block)
    return digest.hexdigest(), length


def copy_and_hash(source: BinaryIO, target: BinaryIO, size: int) -> str:
    """Copy the first `size` bytes; returns the SHA-256 of what was copied."""
    digest, left = hashlib.sha256(), size
    while left and (block := source.read(min(CHUNK, left))):
        digest.update(block)
        target.write(block)
        left -= len(block)
    return digest.hexdigest()


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
) -> tuple[str, ServerSnapshot, int]:
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
        snapshot = ServerSnapshot(database, engine, folder, storage, now, lost=sorted(lost))
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
        listed = target.wait_for_prunes()
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


# `jangin restore`: a server as a backup has it, in an empty folder.


UNFINISHED = "restoring"
"""File in the folder with the name of the snapshot, until everything is there."""


def restore(
    settings: ServerSettings, target: Target, name: str, progress: Progress
) -> ServerSnapshot:
    """Write what a snapshot has; a restore that was stopped resumes.

    Every byte is compared with its digest. The database comes last: a server refuses to start
    beside files that are not those of its database, so nobody serves half of a backup.

    Args:
        settings: of the server; its folder and database must be empty.
        target: the backup.
        name: of the snapshot.
        progress: shows how far it is.

    Raises:
        ConfigError: the folder or the database has something in it; the snapshot has another kind
            of database.
        UnreadableStoreError: an object of the backup is damaged or missing.
        LockedStoreError: another process restores into the folder, or serves it.
        StoreError: the folder cannot be written.

    """
    with target.restoring():
        try:
            snapshot = target.read(name)
        except FileNotFoundError:
            raise UnreadableStoreError(
                f"{target.shown} has no {name} any more. See what it has with: jangin restore "
                f"{target.shown}"
            ) from None
        _see_that_it_fits(settings, snapshot, name)
        with sole_server(settings) as note:
            note(f"restoring {name}")
            _write(settings, target, name, snapshot, progress)
    return snapshot


def _write(
    settings: ServerSettings,
    target: Target,
    name: str,
    snapshot: ServerSnapshot,
    progress: Progress,
) -> None:
    unfinished = settings.folder / UNFINISHED
    unfinished.write_text(name, "utf-8")
    bar = progress.start("files", len(snapshot.entries))
    writer = _RestoreWriter(settings, target, lambda: progress.advance(bar))
    for path, entry in snapshot.folder.items():
        writer.write(settings.folder / path, entry)
    for stored, entry in snapshot.storage.items():
        writer.store(stored, entry)
    if snapshot.engine == "sqlite":
        writer.write(settings.folder / SQLITE_FILE, snapshot.database)
    else:
        dump = settings.folder / "database.dump"
        writer.write(dump, snapshot.database)
        run_postgresql(
            settings,
            "pg_restore",
            *("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"),
            *("--dbname", str(make_url(settings.database).database), str(dump)),
        )
        dump.unlink()
    progress.stop(bar)
    unfinished.unlink()


def _see_that_it_fits(settings: ServerSettings, snapshot: ServerSnapshot, name: str) -> None:
    engine = "postgresql" if settings.database else "sqlite"
    if engine != snapshot.engine:
        raise ConfigError(
            f"{name} is of a server with {snapshot.engine}, and this one has {engine}. Name a "
            "server.yaml with --models whose `database` is of that kind."
        )
    folder, unfinished = settings.folder, settings.folder / UNFINISHED
    if unfinished.exists():
        if (begun := unfinished.read_text("utf-8")) != name:
            raise ConfigError(
                f"{folder} has part of {begun}. Resume with --snapshot {begun}, or name another "
                "folder."
            )
    elif folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise ConfigError(f"{folder} is not empty. A restore needs a new folder: name another one.")
    if settings.database:
        with closing(Database(settings.database_url)) as database:
            database.check()
            if not database.is_empty():
                raise ConfigError(
                    f"the database {database.shown} has tables already. A restore needs an empty "
                    "one: create it, and name it in `database` of server.yaml."
                )


class _RestoreWriter:
    """Writes files of a snapshot, each once."""

    def __init__(
        self, settings: ServerSettings, target: Target, advance: Callable[[], None]
    ) -> None:
        self._target, self._advance = target, advance
        self._storage = open_storage(settings)
        self._stored = {stored for stored, _ in self._storage.names()}
        self._linked: dict[str, Path] = {}

    def write(self, path: Path, entry: Entry) -> None:
        """A file of the folder, with its mode and time; linked where it was."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_there(path, entry) and not self._link(path, entry):
            partial = path.with_name(path.name + ".restoring")
            with partial.open("wb") as stream:
                self._copy(entry, stream)
            partial.chmod(entry.mode)
            if entry.mtime_ns:
                os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns))
            partial.replace(path)
        self._linked[entry.inode] = path
        self._advance()

    def _link(self, path: Path, entry: Entry) -> bool:
        """Link a file to another one of the same inode: models are links into the store."""
        other = self._linked.get(entry.inode) if entry.inode else None
        if other is None:
            return False
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.hardlink_to(other)
            return True
        return False

    def store(self, name: str, entry: Entry) -> None:
        """Bytes of the storage; those that are there already are compared."""
        if name in self._stored and name != MARK:
            with closing(self._storage.reader(name)) as stream:
                if hash_of(stream)[0] != entry.sha256:
                    raise StoreError(
                        f"the storage has other bytes of {name} than the backup. Name an empty "
                        "`storage` in server.yaml."
                    )
        else:
            with self._storage.writer(name) as stream:
                self._copy(entry, stream)
        self._advance()

    def _copy(self, entry: Entry, stream: BinaryIO) -> None:
        try:
            with closing(self._target.storage.reader(entry.sha256)) as source:
                copied = copy_and_hash(source, stream, entry.bytes)
        except FileNotFoundError:
            copied = ""
        if copied != entry.sha256:
            raise UnreadableStoreError(
                f"the object {entry.sha256} of the backup {self._target.shown} is damaged or "
                "missing. Restore an older snapshot, with --snapshot."
            )


def _is_there(path: Path, entry: Entry) -> bool:
    """Whether a restore before this one finished the file: only then it has its time."""
    if not entry.mtime_ns or not path.exists():
        return False
    about = path.stat()
    return (about.st_size, about.st_mtime_ns) == (entry.bytes, entry.mtime_ns)
