"""SQLite cache of paid replies and slow results, with its migrations.

Migrations are applied in order and counted in `PRAGMA user_version`. A released one is never
edited.
"""

import fcntl
import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jangin.core.errors import LedgerError
from jangin.core.store import disk_errors

ROWS_FAILED = "rows_failed: "
"""Beginning of the outcome of a run after which rows failed; their number follows."""
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
    """
    ALTER TABLE calls ADD COLUMN project TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE replies (
        project TEXT NOT NULL,
        request TEXT NOT NULL,
        stage TEXT NOT NULL,
        subject TEXT NOT NULL,
        model TEXT NOT NULL,
        prompt TEXT NOT NULL,
        reply TEXT NOT NULL,
        problem TEXT NOT NULL,
        PRIMARY KEY (project, request)
    );
    """,
    """
    ALTER TABLE replies ADD COLUMN source TEXT NOT NULL DEFAULT '';
    """,
)

INTERRUPTED = "interrupted"
"""State of a step that ended before its artifact was finished."""
RUN_PROJECT = "run_project"
"""Namespace of the cached values that name the project file of each run."""
_USED_BY = (
    "(request, source) IN (SELECT request, source FROM uses WHERE artifact IN (SELECT steps.key "
    "FROM steps LEFT JOIN memos ON memos.namespace = 'run_project' AND memos.key = "
    "CAST(steps.run AS TEXT) WHERE coalesce(memos.value, :project) = :project))"
)
_UNUSED = "(request, source) NOT IN (SELECT request, source FROM uses)"
_PAID_BY = f"(project = :project OR project = '' AND ({_USED_BY} OR {_UNUSED}))"
"""Requests that runs of a project file sent. One from before requests named theirs is that of the
file whose artifacts use it; where none is known to, it counts for every file."""
_OF_PROJECT = f"({_PAID_BY} OR {_USED_BY})"
"""Those, and what artifacts of its runs use although another file has paid for it."""


@dataclass(frozen=True, slots=True)
class CallCount:
    """Number of requests sent to models and of replies received."""

    requests: int
    answered: int
    asked_again: int
    """Requests that were sent more than once."""


@dataclass(frozen=True, slots=True)
class KeptReply:
    """The last reply to a request, for people to read.

    Its text is stored once: in `calls`, from which the stage continues, or in `replies` where
    `calls` has none, as for a reply that could not be used.
    """

    request: str
    """Digest of the request."""
    subject: str
    """Id of the chunk or example that the request was about."""
    model: str
    prompt: str
    """All messages of the request, each under its role."""
    reply: str
    problem: str = ""
    """Why all or part of it could not be used; empty where all was used."""
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Spend:
    """Calls, tokens and cost of one teacher for one stage, over all runs of a project file."""

    stage: str
    teacher: str
    model: str
    calls: int
    """Requests sent, repeats included."""
    prompt_tokens: int
    completion_tokens: int
    usd: float
    """A call without a known end counts at its highest possible cost."""
    unpriced: int
    """Requests of unknown price; not in `usd`."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost of the requests that a set of artifacts uses; each request counts once."""

    calls: int = 0
    """Requests sent, repeats included, recorded replies excluded."""
    usd: float = 0.0
    unpriced: int = 0
    """Requests of unknown price; not in `usd`."""
    recorded: int = 0
    """Requests answered from recorded replies, at no cost."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as the ledger has it."""

    id: int
    command: str
    version: str
    process: int
    started_at: str
    """ISO 8601, UTC."""
    ended_at: str | None
    outcome: str | None
    """None for a run that lasts or was killed; see `Ledger.end_run`."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a run as the ledger has it."""

    run: int
    variant: str
    stage: str
    key: str
    state: str
    reasons: tuple[str, ...]
    seconds: float


class Ledger:
    """An open ledger. Use it from one thread only."""

    stage: str = ""
    """The running stage, to which requests are attributed."""
    artifact: str = ""
    """Key of the artifact that it builds."""
    project: str = ""
    """The project file of the run; it is charged for the requests."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            LedgerError: The file is damaged, not writable or from a newer version.

        """
        self.path = path
        try:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{path.parent} cannot be created: {error.strerror}. Name a folder for the store "
                "with --store."
            ) from error
        with disk_errors(path):
            self._lock: int | None = os.open(
                path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        with ExitStack() as undo:
            undo.callback(self._unlock)
            with self._exclusive(), self._errors():
                self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
                undo.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._migrate()
            undo.pop_all()

    @classmethod
    def for_reading(cls, path: Path) -> "Ledger | None":
        """Open the file without creating, changing or locking it; None where there is none.

        One of an earlier version is brought up to date first. Raises `LedgerError` as `Ledger`.
        """
        if not path.exists():
            return None
        ledger = cls.__new__(cls)
        ledger.path, ledger._lock = path, None
        with ledger._errors():
            address = f"{path.absolute().as_uri()}?mode=ro"
            ledger._db = sqlite3.connect(address, timeout=60, isolation_level=None, uri=True)
            (version,) = ledger._db.execute("PRAGMA user_version").fetchone()
        if version == len(MIGRATIONS):
            return ledger
        ledger.close()
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        if self._lock is None:
            self._db.close()
            return
        with self._exclusive():
            self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock file: SQLite's busy timeout does not cover changes of the journal mode."""
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
                f"{self.path} cannot be used: {error}. Free some disk space or check the "
                "permissions, and run again."
            ) from error
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"{self.path} is not a ledger of jangin or is damaged: {error}. Move the file "
                "elsewhere; requests in it will be paid for again."
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
        for target, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in migration.split(";"):
                if statement.strip():
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {target}")
        self._db.execute("COMMIT")

    def get(self, namespace: str, key: str) -> str | None:
        """The value cached under this key, or None."""
        with self._errors():
            row = self._db.execute(
                "SELECT value FROM memos WHERE namespace = ? AND key = ?", (namespace, key)
            ).fetchone()
        return None if row is None else str(row[0])

    def has_memos(self, namespace: str) -> bool:
        """True if any value is cached in this namespace."""
        query = "SELECT 1 FROM memos WHERE namespace = ? LIMIT 1"
        with self._errors():
            return self._db.execute(query, (namespace,)).fetchone() is not None

    def put(self, namespace: str, key: str, value: str) -> None:
        """Cache the result of a slow computation; replaces the value of the same key."""
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO memos VALUES (?, ?, ?)", (namespace, key, value)
            )

    def reply(self, request: str, source: str) -> str | None:
        """The cached reply to the request with this digest, as JSON, or None."""
        with self._errors():
            row = self._db.execute(
                "SELECT reply FROM calls WHERE request = ? AND source = ?", (request, source)
            ).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def replies(self, request: str) -> tuple[str, ...]:
        """The cached replies of every source to the request with this digest, as JSON."""
        with self._errors():
            rows = self._db.execute(
                "SELECT reply FROM calls WHERE request = ? AND reply IS NOT NULL ORDER BY source",
                (request,),
            ).fetchall()
        return tuple(str(row[0]) for row in rows)

    def record_request(
        self,
        request: str,
        source: str,
        model: str,
        teacher: str = "",
        usd: float | None = None,
    ) -> None:
        """Count a request before it is sent, so that the calls of a killed run count too.

        `usd` is its highest possible cost; None if unknown.
        """
        with self._errors():
            self._db.execute(
                "INSERT INTO calls (request, source, model, asked, stage, teacher, usd, project) "
                "VALUES (?, ?, ?, 1, ?, ?, ?, ?) ON CONFLICT (request, source) DO UPDATE SET "
                "asked = asked + 1, stage = excluded.stage, teacher = excluded.teacher, project = "
                "excluded.project, usd = coalesce(usd + excluded.usd, usd, excluded.usd)",
                (request, source, model, self.stage, teacher, usd, self.project),
            )
        self.record_use(request, source)

    @contextmanager
    def recording_uses(self, stage: str, artifact: str) -> Iterator[None]:
        """Attribute the requests made or looked up in this block to an artifact."""
        self.stage, self.artifact = stage, artifact
        try:
            # An artifact without requests gets a row too: it is known to cost nothing.
            self.record_use("", "")
            yield
        finally:
            self.stage = self.artifact = ""

    def record_use(self, request: str, source: str) -> None:
        """Record that the current artifact uses this request, whichever artifact paid for it."""
        if not self.artifact:
            return
        with self._errors():
            self._db.execute(
                "INSERT OR IGNORE INTO uses VALUES (?, ?, ?)", (self.artifact, request, source)
            )

    def bill(self, artifacts: Sequence[str]) -> Bill:
        """Cost of the requests that these artifacts use, whenever they were paid."""
        with self._errors():
            rows = self._db.execute(
                "SELECT source LIKE 'recorded %', count(*), sum(asked), coalesce(sum(usd), 0), "
                "sum(usd IS NULL) FROM calls JOIN (SELECT DISTINCT request, source FROM uses "
                "WHERE artifact IN (SELECT value FROM json_each(?))) USING (request, source) "
                "GROUP BY 1",
                (json.dumps(list(artifacts)),),
            ).fetchall()
        totals = {bool(row[0]): row[1:] for row in rows}
        _, calls, usd, unpriced = totals.get(False, (0, 0, 0.0, 0))
        return Bill(calls, float(usd), unpriced, totals.get(True, (0,))[0])

    def has_uses(self, artifact: str) -> bool:
        """False for an artifact of an earlier version or of another store."""
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
        """Cache a reply, so that it is never paid for again.

        `usd` is its cost minus the cost that `record_request` was given.
        """
        with self._errors():
            self._db.execute(
                "UPDATE calls SET reply = ?, answered_at = ?, usd = usd + ?, "
                "prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ? "
                "WHERE request = ? AND source = ?",
                (reply, _now(), usd, prompt_tokens, completion_tokens, request, source),
            )

    def add_cost(self, request: str, source: str, usd: float) -> None:
        """Correct the cost of a request: up for a lost attempt, down for one that was not sent."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET usd = usd + ? WHERE request = ? AND source = ?",
                (usd, request, source),
            )

    def uncount_request(self, request: str, source: str, usd: float) -> None:
        """Undo one count of a request that was not sent after all."""
        with self._errors():
            self._db.execute(
                "UPDATE calls SET asked = asked - 1, usd = usd - ? "
                "WHERE request = ? AND source = ?",
                (usd, request, source),
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit several changes together, or none of them if one fails."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def spent_usd(self, project: str | None = None) -> float:
        """Cost of the calls that runs of a project file sent, or of all, in US dollars."""
        query = "SELECT coalesce(sum(usd), 0) FROM calls"
        with self._errors():
            (usd,) = self._select(query, _PAID_BY, project).fetchone()
        return float(usd)

    def _select(self, query: str, condition: str, project: str | None, rest: str = "") -> Any:
        """Rows of calls under a condition on the project file; of every call where it is None."""
        where = "" if project is None else f" {'AND' if ' WHERE ' in query else 'WHERE'} "
        text = f"{query}{where}{condition if project is not None else ''} {rest}"
        return self._db.execute(text, {"project": project})

    def spend(self, project: str | None = None, *, used: bool = False) -> list[Spend]:
        """Cost by stage, teacher and model of the calls that a project file sent, or of all.

        `used`: also of those that its artifacts use and another file sent. Recorded replies are
        excluded.
        """
        query = (
            "SELECT stage, teacher, model, sum(asked), sum(prompt_tokens), "
            "sum(completion_tokens), coalesce(sum(usd), 0), sum(usd IS NULL) FROM calls "
            "WHERE source NOT LIKE 'recorded %'"
        )
        rest = "GROUP BY stage, teacher, model ORDER BY min(rowid)"
        with self._errors():
            condition = _OF_PROJECT if used else _PAID_BY
            rows = self._select(query, condition, project, rest).fetchall()
        return [Spend(*row) for row in rows]

    def get_all(self, namespace: str) -> dict[str, str]:
        """All cached values of a namespace by key, in order of insertion."""
        with self._errors():
            rows = self._db.execute(
                "SELECT key, value FROM memos WHERE namespace = ? ORDER BY rowid", (namespace,)
            ).fetchall()
        return {str(key): str(value) for key, value in rows}

    def delete(self, namespace: str, key: str) -> None:
        """Remove the value of this key."""
        with self._errors():
            self._db.execute("DELETE FROM memos WHERE namespace = ? AND key = ?", (namespace, key))

    def drop_reply(self, request: str) -> None:
        """Drop an unusable reply, so that the next run sends the request again.

        People can still read it: its text moves to `replies`.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE replies SET reply = coalesce(json_extract(calls.reply, '$.content'), '') "
                "FROM calls WHERE calls.request = replies.request "
                "AND calls.source = replies.source AND replies.reply = '' AND replies.request = ?",
                (request,),
            )
            self._db.execute(
                "UPDATE calls SET reply = NULL, answered_at = NULL WHERE request = ?", (request,)
            )

    def keep_replies(self, replies: Sequence[KeptReply], source: str) -> None:
        """Keep replies of the current stage and project file, also those that are asked again.

        `source` is that of the model that replied, as in `record_reply`.
        """
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (self.project, r.request, self.stage, r.subject, r.model, r.prompt, r.reply,
                     r.problem, source)
                    for r in replies
                ),
            )  # fmt: skip
            self._db.executemany(
                "UPDATE replies SET reply = '' FROM calls WHERE calls.request = replies.request "
                "AND calls.source = replies.source "
                "AND json_extract(calls.reply, '$.content') = replies.reply "
                "AND replies.project = ? AND replies.request = ?",
                ((self.project, r.request) for r in replies),
            )

    def add_problems(self, problems: Sequence[tuple[str, str]]) -> None:
        """Add (digest of a request, reason) to kept replies, part of which was rejected."""
        with self.transaction():
            self._db.executemany(
                "UPDATE replies SET problem = trim(problem || char(10) || ?, char(10)) "
                "WHERE project = ? AND request = ?",
                ((reason, self.project, request) for request, reason in problems),
            )

    def kept_replies(
        self, project: str, limit: int | None = None, start: int = 0
    ) -> tuple[list[KeptReply], int]:
        """(kept replies of a project file, how many there are); those with a problem first."""
        with self._errors():
            (count,) = self._db.execute(
                "SELECT count(*) FROM replies WHERE project = ?", (project,)
            ).fetchone()
            rows = self._db.execute(
                "SELECT replies.request, subject, replies.model, prompt, CASE replies.reply "
                "WHEN '' THEN coalesce(json_extract(calls.reply, '$.content'), '') "
                "ELSE replies.reply END, problem, replies.stage FROM replies LEFT JOIN calls "
                "ON calls.request = replies.request AND calls.source = replies.source "
                "WHERE replies.project = ? ORDER BY problem = '', replies.rowid LIMIT ? OFFSET ?",
                (project, -1 if limit is None else limit, start),
            ).fetchall()
        return [KeptReply(*row) for row in rows], int(count)

    def count_calls(self, project: str | None = None) -> CallCount:
        """Totals of what a project file uses, or of all calls."""
        query = "SELECT count(*), count(reply), coalesce(sum(asked > 1), 0) FROM calls"
        with self._errors():
            row = self._select(query, _OF_PROJECT, project).fetchone()
        return CallCount(*row)

    def start_run(self, command: str, version: str, project: str = "") -> int:
        """Record the start of a run of a project file; returns its id."""
        with self._errors():
            cursor = self._db.execute(
                "INSERT INTO runs (command, version, process, started_at) VALUES (?, ?, ?, ?)",
                (command, version, os.getpid(), _now()),
            )
        run = int(cursor.lastrowid or 0)
        self.project = project
        if project:
            self.put(RUN_PROJECT, str(run), project)
        return run

    def last_keys(self, stage: str, project: str, variant: str) -> list[str]:
        """Keys of a stage in runs of a project file: those of a variant first, newest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT steps.key FROM steps JOIN memos ON memos.namespace = ? "
                "AND memos.key = CAST(steps.run AS TEXT) WHERE memos.value = ? "
                "AND steps.stage = ? AND steps.key != '' AND state != 'interrupted' "
                "ORDER BY steps.variant = ? DESC, steps.rowid DESC LIMIT 20",
                (RUN_PROJECT, project, stage, variant),
            ).fetchall()
        return [str(key) for (key,) in rows]

    def last_keys_unnamed(self, stage: str, variant: str) -> list[str]:
        """Keys of a stage of a variant in old runs without a project file name, newest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT key FROM steps WHERE stage = ? AND variant = ? AND key != '' AND state != "
                "'interrupted' AND CAST(run AS TEXT) NOT IN (SELECT key FROM memos WHERE "
                "namespace = ?) ORDER BY rowid DESC LIMIT 20",
                (stage, variant, RUN_PROJECT),
            ).fetchall()
        return [str(key) for (key,) in rows]

    def last_runs(self, project: str, variant: str) -> list[dict[str, str]]:
        """{stage: key} of the runs of a variant of a project file, newest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT steps.run, steps.stage, steps.key FROM steps JOIN memos ON "
                "memos.namespace = ? AND memos.key = CAST(steps.run AS TEXT) WHERE memos.value = "
                "? AND steps.variant = ? AND steps.key != '' AND steps.state != 'interrupted' "
                "ORDER BY steps.run DESC, steps.rowid",
                (RUN_PROJECT, project, variant),
            ).fetchall()
        runs: dict[int, dict[str, str]] = {}
        for run, stage, key in rows:
            runs.setdefault(int(run), {})[str(stage)] = str(key)
        return list(runs.values())

    def run_records(self, project: str, before: int | None = None, limit: int = 20) -> list[RunRow]:
        """Runs of a project file and those from before runs named theirs, newest first.

        `before`: only runs with a lower id.
        """
        with self._errors():
            rows = self._db.execute(
                "SELECT id, command, version, process, started_at, ended_at, outcome FROM runs "
                "LEFT JOIN memos ON memos.namespace = ? AND memos.key = CAST(runs.id AS TEXT) "
                "WHERE id < ? AND coalesce(memos.value, ?) = ? ORDER BY id DESC LIMIT ?",
                (RUN_PROJECT, before or sys.maxsize, project, project, limit),
            ).fetchall()
        return [RunRow(*row) for row in rows]

    def run_record(self, run: int) -> RunRow | None:
        """One run, of any project file."""
        with self._errors():
            row = self._db.execute(
                "SELECT id, command, version, process, started_at, ended_at, outcome FROM runs "
                "WHERE id = ?",
                (run,),
            ).fetchone()
        return None if row is None else RunRow(*row)

    def steps_of(self, runs: Sequence[int]) -> list[StepRow]:
        """The steps of these runs, in the order in which they were recorded."""
        with self._errors():
            rows = self._db.execute(
                "SELECT run, variant, stage, key, state, reasons, seconds FROM steps "
                "WHERE run IN (SELECT value FROM json_each(?)) ORDER BY rowid",
                (json.dumps(list(runs)),),
            ).fetchall()
        return [
            StepRow(run, variant, stage, key, state, tuple(json.loads(reasons)), seconds)
            for run, variant, stage, key, state, reasons, seconds in rows
        ]

    def seconds_per_call(self, stage: str, project: str) -> float:
        """How long a request of a stage took in runs of a project file; 0 if it sent none."""
        with self._errors():
            (calls,) = self._db.execute(
                "SELECT coalesce(sum(asked), 0) FROM calls WHERE stage = ? AND project = ?",
                (stage, project),
            ).fetchone()
            (seconds,) = self._db.execute(
                "SELECT coalesce(sum(seconds), 0) FROM steps JOIN memos ON memos.namespace = ? "
                "AND memos.key = CAST(steps.run AS TEXT) "
                "WHERE memos.value = ? AND stage = ? AND state != 'cached'",
                (RUN_PROJECT, project, stage),
            ).fetchone()
        return float(seconds) / calls if calls else 0.0

    def knows_project(self, project: str) -> bool:
        """True if a run of this project file is recorded."""
        with self._errors():
            row = self._db.execute(
                "SELECT 1 FROM memos WHERE namespace = ? AND value = ? LIMIT 1",
                (RUN_PROJECT, project),
            ).fetchone()
        return row is not None

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
        """Record the outcome of one stage of a run."""
        with self._errors():
            self._db.execute(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run, variant, stage, key, state, json.dumps(reasons, ensure_ascii=False), seconds),
            )

    def end_run(self, run: int, outcome: str) -> None:
        """Record the end of a run; a run without an end was killed.

        `outcome`: `done`, `stopped`, `failed: REASON`, or `ROWS_FAILED` and their number.
        """
        with self._errors():
            self._db.execute(
                "UPDATE runs SET ended_at = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def seconds_of(self, stage: str, key: str) -> float | None:
        """Seconds that building this artifact took, with what was interrupted; None: not built."""
        with self._errors():
            row = self._db.execute(
                "SELECT sum(seconds) FROM steps WHERE stage = ? AND key = ? AND state != 'cached'",
                (stage, key),
            ).fetchone()
        return None if row is None or row[0] is None else float(row[0])


class ReadOnlyLedger(Ledger):
    """The replies of an open ledger, for a stage that is only tried: nothing is written."""

    def __init__(self, ledger: Ledger) -> None:
        """Share the connection of `ledger`, which is closed by its owner."""
        self.path, self._lock, self._db = ledger.path, None, ledger._db

    def put(self, namespace: str, key: str, value: str) -> None:
        """Write nothing."""

    def delete(self, namespace: str, key: str) -> None:
        """Write nothing."""

    def drop_reply(self, request: str) -> None:
        """Write nothing."""

    def keep_replies(self, replies: Sequence[KeptReply], source: str) -> None:
        """Write nothing."""

    def add_problems(self, problems: Sequence[tuple[str, str]]) -> None:
        """Write nothing."""

    def record_use(self, request: str, source: str) -> None:
        """Write nothing."""


def _now() -> str:
    return datetime.now(UTC).isoformat()
