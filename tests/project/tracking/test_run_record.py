"""A run leaves a record that another process can read, however the run ends."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jangin.core.errors import DataError, StageError
from jangin.core.events import Notice, Progress, RunBegins, RunPlanned, StepBegins, StepEnds
from jangin.project.tracking import run_record as records
from jangin.project.tracking.run_record import (
    FOLDER,
    LOG,
    STATE,
    create_record,
    find_run,
    first_state,
    hold,
    live_runs,
    new_token,
    read_log,
    recorded,
    recorded_runs,
    seconds_left,
    write_first_state,
    write_state,
)


def step(stage="load", state="run", seconds=0.0, reasons=("never ran",)):
    return SimpleNamespace(
        variant="main",
        stage=SimpleNamespace(name=stage),
        state=state,
        reasons=reasons,
        key="ab" * 32,
        seconds=seconds,
    )


def only_run(store):
    (run,) = recorded_runs(store)
    return run


def test_another_process_sees_steps_bars_and_lines_while_the_run_lasts(tmp_path):
    shown = Progress()
    with recorded(tmp_path, project="p.yaml", variants=("main",), last="chunk") as record:
        progress = Progress(shown.emit, record.take)
        run = only_run(tmp_path)
        assert (run.alive, run.phase, run.state.last) == (True, "planning", "chunk")
        waits = step("chunk", "waits", reasons=("after load",))
        progress.emit(RunPlanned([("all", ("main", "other"), step()), ("main", ("main",), waits)]))
        progress.emit(RunBegins(7))
        progress.emit(StepBegins(step()))
        first, second = progress.start("reading", 4), progress.start("pages", None)
        assert first != second
        for _ in range(3):
            progress.advance(first, 1, "a.pdf")
        progress.advance(second)
        progress.message("one page is empty")
        record.write()
        run = find_run(tmp_path, run.token)
        assert run.phase == "running"
        assert run.state.run == 7
        assert [(s.stage, s.state, s.done) for s in run.state.steps] == [
            ("load", "running", False),
            ("chunk", "waits", False),
        ]
        assert [(b.label, b.done, b.total, b.note) for b in run.state.bars] == [
            ("reading", 3, 4, "a.pdf"),
            ("pages", 1, None, ""),
        ]
        assert run.state.bars[0].seconds_left >= 0
        assert run.state.memory_bytes > 1_000_000
        progress.stop(first)
        progress.emit(StepEnds(step(seconds=1.5)))
    run = only_run(tmp_path)
    assert (run.alive, run.phase, run.state.bars) == (False, "done", ())
    lines, end = read_log(run.folder)
    assert [(line.event, line.stage, line.text) for line in lines] == [
        ("begins", "load", "never ran"),
        ("message", "", "one page is empty"),
        ("made", "load", ""),
    ]
    assert lines[-1].seconds == 1.5
    assert read_log(run.folder, end) == ([], end)
    assert shown.messages == ["one page is empty"]


def run_until(store, error):
    with recorded(store) as record:
        record.take(StepBegins(step()))
        raise error


@pytest.mark.parametrize(
    ("error", "phase", "outcome"),
    [
        (KeyboardInterrupt(), "stopped", ""),
        (StageError("out of breath."), "failed", "out of breath."),
        (ValueError("a bug"), "failed", "ValueError('a bug')"),
    ],
)
def test_how_a_run_ended_is_recorded(tmp_path, error, phase, outcome):
    with pytest.raises(type(error)):
        run_until(tmp_path, error)
    run = only_run(tmp_path)
    assert (run.phase, run.state.outcome) == (phase, outcome)
    assert run.state.steps[0].state == "interrupted"


def train_until_killed(store):
    with recorded(Path(store)) as record:
        record.take(StepBegins(step("sft")))
        progress = Progress(record.take)
        bar = progress.start("training", 100)
        while True:
            progress.advance(bar)
            time.sleep(0.01)


def test_a_killed_run_is_known_as_killed_with_its_last_state(tmp_path, fork):
    process = fork(f"{__name__}:train_until_killed", [tmp_path], output=tmp_path / "log.txt")
    deadline = time.monotonic() + 100
    while not any(run.state.bars for run in recorded_runs(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (run,) = live_runs(tmp_path)
    os.kill(run.state.process, signal.SIGKILL)
    process.wait()
    run = only_run(tmp_path)
    assert (run.alive, run.phase) == (False, "killed")
    assert run.state.steps[0].state == "running"
    assert live_runs(tmp_path) == []


def test_a_record_that_was_begun_for_a_process_is_alive_before_it_writes(tmp_path):
    token = new_token()
    folder = tmp_path / FOLDER / token
    create_record(folder)
    with hold(folder), recorded(tmp_path, token) as record:
        record.take(Notice("hello"))
        assert [run.token for run in live_runs(tmp_path)] == [token]
    assert only_run(tmp_path).phase == "done"


def test_a_run_does_not_fail_where_its_record_cannot_be_written(tmp_path):
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    shown = Progress()
    with recorded(tmp_path) as record:
        progress = Progress(shown.emit, record.take)
        progress.emit(StepBegins(step()))
        progress.message("working")
    assert shown.messages == ["working"]
    assert list(recorded_runs(tmp_path)) == []


@pytest.mark.slow
def test_a_log_with_a_cut_line_is_read_from_any_byte(tmp_path):
    with recorded(tmp_path) as record:
        for number in range(100):
            record.take(Notice(f"{number}번째 줄"))
    folder = only_run(tmp_path).folder
    with (folder / LOG).open("ab") as stream:
        stream.write(b'{"at": 1, "event": "mess')
    lines, end = read_log(folder)
    assert len(lines) == 100
    last, same = read_log(folder, -300)
    assert 1 <= len(last) < 5
    assert (last[-1].text, same) == ("99번째 줄", end)
    some, middle = read_log(folder, 0, 500)
    rest, _ = read_log(folder, middle)
    assert [line.text for line in (*some, *rest)] == [line.text for line in lines]


@pytest.mark.parametrize("damage", [b"", b"{", json.dumps({"process": "x"}).encode()])
def test_a_damaged_record_is_left_out(tmp_path, damage):
    with recorded(tmp_path):
        pass
    (only_run(tmp_path).folder / STATE).write_bytes(damage)
    assert list(recorded_runs(tmp_path)) == []


@pytest.mark.parametrize("token", ["", "..", "../../etc", "20260101T000000-1-abcd/..", "x"])
def test_only_a_token_names_a_record(tmp_path, token):
    assert find_run(tmp_path, token) is None


def test_only_the_newest_records_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "KEPT", 3)
    for number in range(5):
        (tmp_path / FOLDER / f"2026010{number + 1}T000000-1-0000").mkdir(parents=True)
    (tmp_path / FOLDER / "notes").mkdir()
    with recorded(tmp_path):
        names = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert names[:2] == ["20260104T000000-1-0000", "20260105T000000-1-0000"]
    assert (len(names), names[-1]) == (4, "notes")


def test_the_time_left_follows_the_speed():
    assert seconds_left([(0.0, 0), (10.0, 5)], 20) == 30.0
    assert seconds_left([(0.0, 0), (10.0, 5)], None) is None
    assert seconds_left([(0.0, 5)], 20) is None
    assert seconds_left([(0.0, 5), (1.0, 20)], 20) is None


def test_a_whole_run_of_a_project_is_recorded_with_its_id_in_the_ledger(tiny):
    project, _, _ = tiny
    store = project.folder / "store"
    runs = [run for run in recorded_runs(store) if run.state.last == ""]
    run = runs[-1]
    assert (run.phase, run.state.variants) == ("done", ("main",))
    assert run.state.project == "../project.yaml"
    assert run.state.run == 1
    assert {s.stage: (s.state, s.done) for s in run.state.steps}["sft"] == ("run", True)
    events = [(line.event, line.stage) for line in read_log(run.folder)[0]]
    assert ("begins", "sft") in events
    assert ("made", "evaluate") in events


def test_a_run_that_is_refused_before_it_begins_says_why(tiny):
    project, _, _ = tiny
    with pytest.raises(DataError), recorded(project.folder / "other"):
        raise DataError("rows.jsonl:3: this is no JSON.")
    assert only_run(project.folder / "other").state.outcome == "rows.jsonl:3: this is no JSON."


def test_the_first_state_does_not_replace_one_that_the_run_has_written(tmp_path):
    folder = tmp_path / FOLDER / new_token()
    create_record(folder)
    with hold(folder):
        write_first_state(folder, first_state("starting"))
        assert only_run(tmp_path).phase == "starting"
        write_state(folder, first_state("running"))
        write_first_state(folder, first_state("starting"))
        assert only_run(tmp_path).phase == "running"
    assert not list(folder.glob(f"{STATE}.*"))
