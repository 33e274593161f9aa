"""Background threads that work on rows of a table, one process at a time on each (a lease)."""

import logging
import threading
from contextlib import suppress
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from jangin.serving.state.leases import claim, new_owner, release, renew
from jangin.serving.state.server import Server
from jangin.serving.state.storage import StorageAwayError

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
