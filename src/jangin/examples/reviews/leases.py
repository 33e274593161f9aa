"""Who looks at which row: leases beside the log, so that two reviewers never get the same row.

A lease ends when its row is decided or skipped, or by itself after some minutes, so that a closed
browser keeps no row. The file survives a killed process; deleting it loses no decision.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

SECONDS = 600
"""How long a row is kept for a reviewer who does nothing."""
_TABLE = "CREATE TABLE IF NOT EXISTS leases (id TEXT, by TEXT, until REAL, PRIMARY KEY (id, by))"


class ReviewLeases:
    """The leases of one log; every call opens the file, so that threads and processes share it."""

    def __init__(self, log: Path, seconds: float = SECONDS) -> None:
        # Files whose name begins with a dot are never read as documents.
        self.path = log.with_name(f".{log.name}.leases")
        self.seconds = seconds

    def take(self, rows: Iterable[tuple[str, int]], by: str) -> str | None:
        """Lease the first row that has room, and give up the reviewer's other leases.

        `rows` are (id, number of reviewers who may look at it at once). None where no row has room.
        A row that the reviewer holds already has room. Where the file cannot be written, as on a
        full disk, the first row is given without a lease: people can still read.
        """
        rows = iter(rows)
        try:
            return self._take(rows, by)
        except sqlite3.OperationalError:
            return next(rows, (None, 0))[0]

    def _take(self, rows: Iterator[tuple[str, int]], by: str) -> str | None:
        now = time.time()
        with self._transaction() as database:
            database.execute("DELETE FROM leases WHERE until < ?", (now,))
            held: dict[str, set[str]] = {}
            for name, holder in database.execute("SELECT id, by FROM leases"):
                held.setdefault(name, set()).add(holder)
            for name, room in rows:
                if len(held.get(name, set()) - {by}) < room:
                    database.execute("DELETE FROM leases WHERE by = ?", (by,))
                    values = (name, by, now + self.seconds)
                    database.execute("INSERT INTO leases VALUES (?, ?, ?)", values)
                    return name
        return None

    def holders(self, row: str) -> list[str]:
        """Names of the reviewers who have the row open now; none while the file is locked."""
        with suppress(sqlite3.OperationalError), self._transaction() as database:
            query = "SELECT by FROM leases WHERE id = ? AND until >= ? ORDER BY by"
            return [name for (name,) in database.execute(query, (row, time.time()))]
        return []

    def release(self, row: str, by: str) -> None:
        """Give a row back; where the file is locked, the lease ends by itself."""
        with suppress(sqlite3.OperationalError), self._transaction() as database:
            database.execute("DELETE FROM leases WHERE id = ? AND by = ?", (row, by))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as database:
            database.execute(_TABLE)
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
