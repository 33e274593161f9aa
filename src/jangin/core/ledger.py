"""Tables of the ledger, as numbered migrations.

They are applied in order and counted in `PRAGMA user_version`; one that was ever released is never
edited.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jangin.core.errors import LedgerError
from jangin.core.store import disk_errors

MIGRATIONS = (
    """
    CREATE TABLE calls (
        request TEXT NOT NULL,
        source TEXT NOT NULL,
        model TEXT NOT NULL,
        asked INTEGER NOT NULL DEFAULT 0,
        reply TEXT,
        answered_at TEXT,
        PRIMARY KEY (request, source)
    );
    CREATE TABLE memos (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (namespace, key)
    );
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        command TEXT NOT NULL,
        version TEXT NOT NULL,
        process INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        outcome TEXT
    );
    CREATE TABLE steps (
        run INTEGER NOT NULL REFERENCES runs (id),
        variant TEXT NOT NULL,
        stage TEXT NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        reasons TEXT NOT NULL,
        seconds REAL NOT NULL
    );
    """,
    """
    ALTER TABLE calls ADD COLUMN stage TEXT NOT NULL DEFAULT '';
    ALTER TABLE calls ADD COLUMN teacher TEXT NOT NULL DEFAULT '';
    ALTER TABLE calls ADD COLUMN prompt_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN completion_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN usd REAL;
    """,
    """
    CREATE TABLE uses (
        artifact TEXT NOT NULL,
        request TEXT NOT NULL,
        source TEXT NOT NULL,
        PRIMARY KEY (artifact, request, source)
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class CallCount:
    """How often requests went out to models, and how many of them were answered."""

    requests: int
    answered: int
    asked_again: int
    """Requests that went out more than once."""


@dataclass(frozen=True, slots=True)
class Spend:
    """What a teacher was asked for a stage, over the whole life of a store."""

    stage: str
    teacher: str
    model: str
    calls: int
    """Times that requests went out."""
    prompt_tokens: int
    completion_tokens: int
    usd: float
    """Calls whose end nobody saw count at their worst."""
    unpriced: int
    """Requests whose price nobody knows; they are not in `usd`."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What artifacts stand on, each request once however many of them use it."""

    calls: int = 0
    """Times that requests went out; recordings are not among them."""
    usd: float = 0.0
    unpriced: int = 0
    """Requests whose price nobody knows; they are not in `usd`."""
    recorded: int = 0
    """Requests that recordings answered: they cost nothing here."""


class Ledger:
    """An open ledger; use it from one thread."""

    stage: str = ""
    """The stage that is running: what is asked now is asked for it."""
    artifact: str = ""
    """Key of what it makes."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises `LedgerError` when a newer version wrote it."""
        self.path = path
        try:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{path.parent} cannot be made: {error.strerror}. Name a folder for the store "
                "with --store."
            ) from error
        with disk_errors(path):
            self._lock: int | None = os.open(
                path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        with ExitStack() as undo:
            undo.callback(self._unlock)
            with self._alone(), self._errors():
                self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
                undo.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._migrate()
            undo.pop_all()

    def close(self) -> None:
        """Close the file."""
        if self._lock is None:
            return
        with self._alone():
            self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: SQLite's waiting does not cover changes of the journal mode."""
        lock = self._lock
        if lock is None:
            raise ValueError("this ledger is closed")
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LedgerError(
                f"{self.path} cannot be used: {error}. Free some disk space, or check that you "
                "may write there, and run again."
            ) from error
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"{self.path} is no ledger of jangin or is damaged: {error}. Move it away; paid "
                "replies in it will be asked again."
            ) from error

    def _migrate(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            self._db.execute("ROLLBACK")
            raise LedgerError(
                f"{self.path} was written by a newer jangin (ledger version {version}, this one "
                f"reads up to {len(MIGRATIONS)}). Upgrade jangin, or use another store."
            )
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in migration.split(";"):
                if statement.strip():
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {number}")
        self._db.execute("COMMIT")

    def get(self, namespace: str, key: str) -> str | None:
        """What was remembered under this key, or None."""
        with self._errors():
            row = self._db.execute(
                "SELECT value FROM memos WHERE namespace = ? AND key = ?", (namespace, key)
            ).fetchone()
        return None if row is None else str(row[0])

    def put(self, namespace: str, key: str, value: str) -> None:
        """Keep a result that was slow to win; the same key keeps the newest value."""
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO memos VALUES (?, ?, ?)", (namespace, key, value)
            )

    def reply(self, request: str, source: str) -> str | None:
        """The answer to a request with this digest, as JSON, or None."""
        with self._errors():
            row = self._db.execute(
                "SELECT reply FROM calls WHERE request = ? AND source = ?", (request, source)
            ).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def record_request(
        self,
        request: str,
        source: str,
        model: str,
        teacher: str = "",
        usd: float | None = None,
    ) -> None:
        """Count a request before it goes out, so that a killed run's calls are counted too.

        `usd` is the most that it may cost; None where nobody knows.
        """
        with self._errors():
            self._db.execute(
                "INSERT INTO calls (request, source, model, asked, stage, teacher, usd) "
                "VALUES (?, ?, ?, 1, ?, ?, ?) ON CONFLICT (request, source) DO UPDATE SET "
                "asked = asked + 1, stage = excluded.stage, teacher = excluded.teacher, "
                "usd = coalesce(usd + excluded.usd, usd, excluded.usd)",
                (request, source, model, self.stage, teacher, usd),
            )
        self.record_use(request, source)

    @contextmanager
    def recording_uses(self, stage: str, artifact: str) -> Iterator[None]:
        """Note what is asked or looked up meanwhile as used for this artifact."""
        self.stage, self.artifact = stage, artifact
        try:
            # An artifact without requests gets a row too: it is known to cost nothing.
            self.record_use("", "")
            yield
        finally:
            self.stage = self.artifact = ""

    def record_use(self, request: str, source: str) -> None:
        """Note that the artifact being made stands on this request, whoever paid for it."""
        if not self.artifact:
            return
        with self._errors():
            self._db.execute(
                "INSERT OR IGNORE INTO uses VALUES (?, ?, ?)", (self.artifact, request, source)
            )

    def bill(self, artifacts: Sequence[str]) -> Bill:
        """What the requests of these artifacts cost, whenever they were paid."""
        with self._errors():
            rows = self._db.execute(
                "SELECT source LIKE 'recorded %', count(*), sum(asked), coalesce(sum(usd), 0), "
                "sum(usd IS NULL) FROM calls JOIN (SELECT DISTINCT request, source FROM uses "
                "WHERE artifact IN (SELECT value FROM json_each(?))) USING (request, source) "
                "GROUP BY 1",
                (json.dumps(list(artifacts)),),
            ).fetchall()
        found = {bool(row[0]): row[1:] for row in rows}
        _, calls, usd, unpriced = found.get(False, (0, 0, 0.0, 0))
        return Bill(calls, float(usd), unpriced, found.get(True, (0,))[0])

    def has_uses(self, artifact: str) -> bool:
        """False for an artifact that an earlier version made, or another store."""
        with self._errors():
            row = self._db.execute(
                "SELECT 1 FROM uses WHERE artifact = ? LIMIT 1", (artifact,)
            ).fetchone()
        return row is not None

    def record_reply(
        self,
        request: str,
        source: str,
        reply: str,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        usd: float = 0.0,
    ) -> None:
        """Keep an answer; from now on it is never paid for again. `usd` corrects what was asked."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET reply = ?, answered_at = ?, usd = usd + ?, "
                "prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ? "
                "WHERE request = ? AND source = ?",
                (reply, _now(), usd, prompt_tokens, completion_tokens, request, source),
            )

    def add_cost(self, request: str, source: str, usd: float) -> None:
        """Correct what a request cost: more for a lost try, less for one that never went out."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET usd = usd + ? WHERE request = ? AND source = ?",
                (usd, request, source),
            )

    def uncount_request(self, request: str, source: str, usd: float) -> None:
        """Take back one count of a request that did not go out after all."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET asked = asked - 1, usd = usd - ? "
                "WHERE request = ? AND source = ?",
                (usd, request, source),
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several changes at once: one commit, and none of them where one fails."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def spent_usd(self) -> float:
        """Dollars of all calls of this store."""
        with self._errors():
            (usd,) = self._db.execute("SELECT coalesce(sum(usd), 0) FROM calls").fetchone()
        return float(usd)

    def spend(self) -> list[Spend]:
        """What was spent by stage, teacher and model; recorded replies are left out."""
        with self._errors():
            rows = self._db.execute(
                "SELECT stage, teacher, model, sum(asked), sum(prompt_tokens), "
                "sum(completion_tokens), coalesce(sum(usd), 0), sum(usd IS NULL) FROM calls "
                "WHERE source NOT LIKE 'recorded %' GROUP BY stage, teacher, model "
                "ORDER BY min(rowid)"
            ).fetchall()
        return [Spend(*row) for row in rows]

    def get_all(self, namespace: str) -> dict[str, str]:
        """Everything remembered under a namespace, by key."""
        with self._errors():
            rows = self._db.execute(
                "SELECT key, value FROM memos WHERE namespace = ? ORDER BY rowid", (namespace,)
            ).fetchall()
        return {str(key): str(value) for key, value in rows}

    def delete(self, namespace: str, key: str) -> None:
        """Forget what was remembered under this key."""
        with self._errors():
            self._db.execute("DELETE FROM memos WHERE namespace = ? AND key = ?", (namespace, key))

    def drop_reply(self, request: str) -> None:
        """Drop an answer that turned out to be of no use, so that a later run asks again."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET reply = NULL, answered_at = NULL WHERE request = ?", (request,)
            )

    def count_calls(self) -> CallCount:
        """Totals over every run of this store."""
        with self._errors():
            row = self._db.execute(
                "SELECT count(*), count(reply), coalesce(sum(asked > 1), 0) FROM calls"
            ).fetchone()
        return CallCount(*row)

    def start_run(self, command: str, version: str) -> int:
        """Note that a run began; returns its number."""
        with self._errors():
            cursor = self._db.execute(
                "INSERT INTO runs (command, version, process, started_at) VALUES (?, ?, ?, ?)",
                (command, version, os.getpid(), _now()),
            )
        return int(cursor.lastrowid or 0)

    def record_step(
        self,
        run: int,
        variant: str,
        stage: str,
        key: str,
        state: str,
        reasons: tuple[str, ...],
        seconds: float,
    ) -> None:
        """Note what one stage of a run did."""
        with self._errors():
            self._db.execute(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run, variant, stage, key, state, json.dumps(reasons, ensure_ascii=False), seconds),
            )

    def end_run(self, run: int, outcome: str) -> None:
        """Note how a run ended; a run without an end was killed."""
        with self._errors():
            self._db.execute(
                "UPDATE runs SET ended_at = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def seconds_of(self, stage: str, key: str) -> float | None:
        """How long a stage took when it was made, or None when this store never saw it run."""
        with self._errors():
            row = self._db.execute(
                "SELECT sum(seconds) FROM steps WHERE stage = ? AND key = ? AND state != 'cached'",
                (stage, key),
            ).fetchone()
        return None if row is None or row[0] is None else float(row[0])


def _now() -> str:
    return datetime.now(UTC).isoformat()
