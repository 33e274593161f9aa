"""Leases: a row that one process works on, and that another may take when the first one dies.

A lease ends by itself after some seconds unless its owner renews it (its heartbeat).
"""

import fcntl
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from sqlalchemy import Select, and_, or_, select, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from jangin.core.errors import LockedStoreError
from jangin.serving.state.server import Server, create_folder
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import StorageAwayError
from jangin.serving.state.tables import Leased

T = TypeVar("T", bound=Leased)


def new_owner() -> str:
    """A unique name for this process: host, process id and random characters."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def claim(
    session: Session, candidates: Select[T], *, owner: str, now: int, seconds: int
) -> T | None:
    """The first candidate without a living lease, now leased to `owner`; None if there is none.

    `session` is that of `Database.write`. Two processes never get one row: on PostgreSQL the row is
    locked and locked rows are skipped, on SQLite only one transaction writes at a time.
    """
    table: Any = candidates.column_descriptions[0]["entity"]
    free = or_(table.lease_until.is_(None), table.lease_until <= now)
    row = session.scalars(
        candidates.where(free).limit(1).with_for_update(skip_locked=True, of=table)
    ).first()
    if row is not None:
        row.lease_owner, row.lease_until = owner, now + seconds
        row.attempts += 1
        session.flush()
    return row


def renew(
    session: Session, table: type[Leased], row_id: str, *, owner: str, now: int, seconds: int
) -> bool:
    """Lengthen a lease; False if it is no longer the owner's, who must then stop its work."""
    change = update(table).where(_held(table, row_id, owner)).values(lease_until=now + seconds)
    return _changed(session, change)


def release(session: Session, table: type[Leased], row_id: str, *, owner: str) -> bool:
    """Give a row back; False if the lease was no longer the owner's."""
    change = (
        update(table).where(_held(table, row_id, owner)).values(lease_owner=None, lease_until=None)
    )
    return _changed(session, change)


def _held(table: Any, row_id: str, owner: str) -> Any:
    return and_(table.id == row_id, table.lease_owner == owner)


def _changed(session: Session, change: Any) -> bool:
    result: Any = session.execute(change, execution_options={"synchronize_session": False})
    return bool(result.rowcount)


# One process serves a folder with SQLite: the file that it locks until it ends.
#
# The kernel frees the lock of a process that was killed.


FILE = "serving.lock"
"""Name in the folder; its first line describes the process."""
ATTEMPTS, PAUSE_SECONDS = 5, 0.1
"""A server that was just killed holds the lock until it has ended."""
STARTING = "starting"


@contextmanager
def sole_server(settings: ServerSettings) -> Iterator[Callable[[str], None]]:
    """Hold the lock of the folder; call the result with the address that this process serves.

    On PostgreSQL, which several servers may share, there is no lock.

    Raises:
        LockedStoreError: another process serves this folder.
        StoreError: the folder cannot be created.

    """
    create_folder(settings)
    if settings.database:
        yield lambda _address: None
        return
    with os.fdopen(os.open(_path(settings), os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
        if not _take(stream):
            raise LockedStoreError(
                f"another server ({_holder(stream)}) serves {settings.folder}. Stop it, choose "
                "another --folder, or use PostgreSQL, which several servers may share."
            )

        def note(address: str) -> None:
            of = "" if settings.project is None else f"project {settings.project.resolve()}, "
            line = f"process {os.getpid()}, {of}{address}\n".encode()
            # Who reads meanwhile gets this line or the one before it, never a part of one.
            os.pwrite(stream.fileno(), line, 0)
            os.ftruncate(stream.fileno(), len(line))

        note(STARTING)
        try:
            yield note
        finally:
            os.ftruncate(stream.fileno(), 0)  # the next server has no address while it starts


def _take(stream: BinaryIO) -> bool:
    """Lock the file; False where another server has it. Who runs `running` waits for nothing."""
    refused = 0
    while not _locks(stream, fcntl.LOCK_EX):
        if _locks(stream, fcntl.LOCK_SH):  # others only look at it, for a moment
            fcntl.flock(stream, fcntl.LOCK_UN)
        else:
            refused += 1
        if refused == ATTEMPTS:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _locks(stream: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(stream: BinaryIO) -> str:
    """What the server that holds the lock says of itself."""
    stream.seek(0)
    return stream.readline().decode().rstrip("\n") or STARTING


def running(settings: ServerSettings) -> str:
    """Description of the server that holds the lock of the folder; "" without one."""
    path = _path(settings)
    if settings.database or not path.exists():
        return ""
    with path.open("rb") as stream:
        return "" if _locks(stream, fcntl.LOCK_SH) else _holder(stream)


def address_of(settings: ServerSettings) -> str:
    """The address of the pages of the server that holds the lock of the folder.

    "starting" while it has none yet, "" where there is no server.
    """
    said = running(settings)
    match = re.search(r"(https?://\S+/)v1$", said)
    return match[1] if match else STARTING if said else ""


def other_project(settings: ServerSettings) -> Path | None:
    """The project of the server that holds the lock of the folder, where it is another one."""
    match = re.search(r", project (.+), https?://\S+$", running(settings))
    if match is None or settings.project is None:
        return None
    path = Path(match[1])
    return None if path == settings.project.resolve() else path


def _path(settings: ServerSettings) -> Path:
    return settings.folder / FILE


# Background threads that work on rows of a table, one process at a time on each (a lease).


LEASE = 60
HEARTBEAT_SECONDS = 1.0
POLL_SECONDS = 0.5
AWAY_SECONDS = 1.0
log = logging.getLogger("jangin.serving")


class LeaseLostError(Exception):
    """The server stops, or another process has the row."""


class LeasedWork:
    """Works on the open rows of a table in threads of its own until it is stopped.

    What is unfinished continues when a server of this database runs again.
    """

    table: ClassVar[Any]
    open_statuses: ClassVar[tuple[str, ...]]
    workers: ClassVar[int] = 2
    """Rows that one process works on at once."""

    def __init__(self, server: Server) -> None:
        """`server`: database, files and settings."""
        self.server = server
        self.owner = new_owner()
        self.stopping = threading.Event()
        self._wanted = threading.Event()
        self._threads: list[threading.Thread] = []

    def finish(self, row: Any) -> None:
        """Do the work; raises `LeaseLostError` where it must be left as it is."""
        raise NotImplementedError

    def fail(self, row: Any) -> None:
        """Close a row whose work failed by a fault of the server."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin with the oldest open row."""
        for number in range(self.workers):
            name = f"{self.table.__tablename__}-{number}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End; open rows continue when a server of this database runs again."""
        self.stopping.set()
        self._wanted.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def wake(self) -> None:
        """Look for a new row now instead of in half a second."""
        self._wanted.set()

    def renewed(self, session: Session, row_id: str) -> Any:
        """The row as it is stored now, with a longer lease; raises `LeaseLostError`."""
        now = self.server.now()
        if self.stopping.is_set() or not renew(
            session, self.table, row_id, owner=self.owner, now=now, seconds=LEASE
        ):
            raise LeaseLostError
        return self.held(session, row_id)

    def held(self, session: Session, row_id: str) -> Any:
        """The row as it is stored now; raises `LeaseLostError` if another process has it."""
        row = session.scalars(select(self.table).where(self.table.id == row_id)).one_or_none()
        if row is None or row.lease_owner != self.owner:
            raise LeaseLostError
        return row

    def _work(self) -> None:
        while not self.stopping.is_set():
            row = None
            try:
                row = self._claim()
                if row is not None:
                    self.finish(row)
            except LeaseLostError:
                self._release(row)
            except (OperationalError, InterfaceError, StorageAwayError) as error:
                log.warning("%s waits: %s", row.id if row else "the work", error)
                self._wait_and_release(row)
            except Exception:
                log.exception("%s failed", row.id if row else "the work")
                self._fail(row)
            if row is None:
                self._wanted.wait(POLL_SECONDS)
                self._wanted.clear()

    def _claim(self) -> Any:
        table = self.table
        candidates = select(table).where(table.status.in_(self.open_statuses))
        candidates = candidates.order_by(table.rowid)
        with self.server.database.read() as session:
            if session.scalars(candidates.limit(1)).first() is None:
                return None  # most often: reading does not keep writers waiting
        with self.server.database.write() as session:
            now = self.server.now()
            return claim(session, candidates, owner=self.owner, now=now, seconds=LEASE)

    def _release(self, row: Any) -> None:
        if row is not None:
            with self.server.database.write() as session:
                release(session, self.table, row.id, owner=self.owner)

    def _wait_and_release(self, row: Any) -> None:
        """Database or storage do not answer: continue with the row after its last result."""
        self.stopping.wait(AWAY_SECONDS)
        with suppress(OperationalError, InterfaceError):  # then its lease ends by itself
            self._release(row)

    def _fail(self, row: Any) -> None:
        if row is None:
            self.stopping.wait(POLL_SECONDS)
            return
        with suppress(Exception):  # then its lease ends, and the row is worked on again
            self.fail(row)
