"""`jangin restore`: a server as a backup has it, in an empty folder."""

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import make_url

from jangin.core.errors import ConfigError, StoreError, UnreadableStoreError
from jangin.core.events import Progress
from jangin.serving.operations.backup import run_postgresql
from jangin.serving.operations.backup_target import (
    Entry,
    Snapshot,
    Target,
    copy_and_hash,
    hash_of,
)
from jangin.serving.state.database import Database
from jangin.serving.state.installation import MARK
from jangin.serving.state.server import create_folder
from jangin.serving.state.settings import SQLITE_FILE, ServerSettings
from jangin.serving.state.storage import open_storage

UNFINISHED = "restoring"
"""File in the folder with the name of the snapshot, until everything is there."""


def restore(settings: ServerSettings, target: Target, name: str, progress: Progress) -> Snapshot:
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
        StoreError: the folder cannot be written.

    """
    snapshot = target.read(name)
    _see_that_it_fits(settings, snapshot, name)
    create_folder(settings)
    unfinished = settings.folder / UNFINISHED
    unfinished.write_text(name, "utf-8")
    bar = progress.start("files", len(snapshot.entries))
    writer = _Writer(settings, target, lambda: progress.advance(bar))
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
    return snapshot


def _see_that_it_fits(settings: ServerSettings, snapshot: Snapshot, name: str) -> None:
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
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty. A restore needs a new folder: name another one.")
    if settings.database:
        with closing(Database(settings.database_url)) as database:
            database.check()
            if not database.is_empty():
                raise ConfigError(
                    f"the database {database.shown} has tables already. A restore needs an empty "
                    "one: create it, and name it in `database` of server.yaml."
                )


class _Writer:
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
