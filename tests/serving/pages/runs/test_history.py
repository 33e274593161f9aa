"""The history of runs is read from the ledger without changing it."""

import sqlite3
from contextlib import closing

import pytest

from jangin.core.errors import LedgerError
from jangin.core.events import RunBegins
from jangin.core.ledger import MIGRATIONS, Ledger
from jangin.core.store import Store
from jangin.project.tracking.run_record import recorded
from jangin.serving.pages.runs import history
from jangin.serving.pages.runs.history import (
    changes_between,
    failures_of_run,
    find_past_run,
    folder_of,
    past_runs,
    spending,
)

KEYS = {name: name * 32 for name in ("aa", "bb", "cc")}


def publish(store, stage, key, config, inputs, summary):
    Store(store).workspace(stage, key, keep=False)
    return Store(store).publish(stage, 1, key, config, inputs, summary)


@pytest.fixture
def store(tmp_path):
    """Two runs of one project file, one of another, and one that was killed."""
    publish(tmp_path, "chunk", KEYS["aa"], {"size": 100}, {"documents": "1"}, {"chunks": 3})
    publish(
        tmp_path, "chunk", KEYS["bb"], {"size": 200}, {"documents": "2"}, {"chunks": 5, "n": [1]}
    )
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        for key, outcome in (("aa", "done, 0 rows failed"), ("bb", "done, 2 rows failed")):
            run = ledger.start_run("run all", "0.1", "../project.yaml")
            ledger.record_step(run, "main", "load", KEYS["cc"], "cached", (), 0.0)
            ledger.record_step(run, "main", "chunk", KEYS[key], "run", ("never ran",), 2.5)
            ledger.end_run(run, outcome)
        other = ledger.start_run("run all", "0.1", "../other.yaml")
        ledger.end_run(other, "failed: load.folder: nothing there.")
        ledger.start_run("run all", "0.1", "../project.yaml")
    return tmp_path


def test_runs_of_a_project_are_listed_newest_first_in_pages(store):
    runs, more = past_runs(store, "../project.yaml", limit=2)
    assert [(run.id, run.state, more) for run in runs] == [
        (4, "killed", True),
        (2, "rows_failed", True),
    ]
    assert (runs[1].failed_rows, len(runs[1].worked), runs[1].variants) == (2, 1, ("main",))
    older, more = past_runs(store, "../project.yaml", before=2)
    assert [(run.id, run.state, run.reason) for run in older] == [(1, "done", "")]
    assert not more
    assert past_runs(store / "none", "../project.yaml") == ([], False)


@pytest.mark.parametrize(
    ("outcome", "state", "failed"),
    [
        ("done", "done", 0),
        ("rows_failed: 1", "rows_failed", 1),
        ("rows_failed: 1234", "rows_failed", 1234),
        ("done, 0 rows failed", "done", 0),
        ("done, 1 row failed", "rows_failed", 1),
        ("done, 2 rows failed", "rows_failed", 2),
        ("done, 1,234 rows failed", "rows_failed", 1234),
        ("failed: 12", "failed", 0),
        ("stopped", "stopped", 0),
    ],
)
def test_outcomes_of_this_and_of_older_versions_are_read(tmp_path, outcome, state, failed):
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.end_run(ledger.start_run("run all", "0.1", "../project.yaml"), outcome)
    (run,), _ = past_runs(tmp_path, "../project.yaml")
    assert (run.state, run.failed_rows) == (state, failed)


def test_a_failed_run_says_why_and_a_running_one_is_alive(store):
    failed = find_past_run(store, 3)
    assert (failed.state, failed.reason) == ("failed", "load.folder: nothing there.")
    with recorded(store) as record:
        record.take(RunBegins(4))
        record.write()
        assert (find_past_run(store, 4).state, find_past_run(store, 4).seconds > 0) == (
            "running",
            True,
        )
    assert find_past_run(store, 4).state == "killed"
    assert find_past_run(store, 99) is None


def test_what_changed_between_two_runs_is_named(store):
    before, after = find_past_run(store, 1), find_past_run(store, 2)
    (change,) = changes_between(store, before, after)
    assert (change.variant, change.stage, change.kind) == ("main", "chunk", "changed")
    assert change.settings == ("size: 100 -> 200",)
    assert change.inputs == ("documents changed",)
    assert [(f.name, f.before, f.after, f.difference) for f in change.figures] == [
        ("chunks", 3, 5, 2.0)
    ]
    assert changes_between(store, after, after) == []
    assert [change.kind for change in changes_between(store, find_past_run(store, 4), after)] == [
        "new",
        "new",
    ]


def test_a_deleted_artifact_cannot_be_compared(store):
    for path in sorted((store / "chunk" / KEYS["aa"][:16]).rglob("*"), reverse=True):
        path.unlink()
    (store / "chunk" / KEYS["aa"][:16]).rmdir()
    (change,) = changes_between(store, find_past_run(store, 1), find_past_run(store, 2))
    assert change.kind == "unknown"
    assert failures_of_run(store, find_past_run(store, 2)) == []


@pytest.mark.parametrize(
    ("stage", "key"),
    [("chunk", "../../etc"), ("..", KEYS["aa"]), ("chunk", ""), ("chunk", "zz" * 32)],
)
def test_no_path_of_a_client_becomes_one_of_the_store(store, stage, key):
    assert folder_of(store, stage, key) is None


def test_reading_changes_nothing_and_an_old_ledger_is_brought_up_to_date(store):
    path = store / "ledger.sqlite"
    before = path.stat().st_mtime_ns
    past_runs(store, "../project.yaml")
    assert spending(store, "../project.yaml") == history.Spending()
    assert path.stat().st_mtime_ns == before
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError):
        past_runs(store, "../project.yaml")


def test_a_ledger_for_reading_cannot_write(store):
    ledger = Ledger.for_reading(store / "ledger.sqlite")
    with closing(ledger), pytest.raises(LedgerError):
        ledger.put("a", "b", "c")
    assert Ledger.for_reading(store / "none.sqlite") is None
