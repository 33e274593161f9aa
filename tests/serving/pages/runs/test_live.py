"""What a page is told of a run, across broken connections."""

from types import SimpleNamespace

import pytest

from jangin.core.events import Notice, StepBegins, StepEnds
from jangin.project.tracking import run_record
from jangin.project.tracking.run_record import recorded, recorded_runs
from jangin.serving.pages.runs.views import Follower, training_of
from tests.views.test_curves import write

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def _without_ticks(monkeypatch):
    """Only the tests write the state: its writer would do so at any moment."""
    monkeypatch.setattr(run_record, "TICK_SECONDS", 1000)


def step(stage="sft", state="run"):
    return SimpleNamespace(
        variant="main",
        stage=SimpleNamespace(name=stage),
        state=state,
        reasons=(),
        key=KEY,
        seconds=0.0,
    )


def kinds(events):
    return [event.kind for event in events]


def test_a_page_gets_each_line_and_point_once_and_learns_of_begin_and_end(tmp_path):
    page = Follower.at(tmp_path, "nothing that was sent")
    assert (page.poll(), page.position) == ([], "")
    partial = tmp_path / "sft" / f"{KEY[:16]}.partial"
    with recorded(tmp_path) as record:
        (begun,) = page.poll()
        assert begun.kind == "begun"
        record.take(StepBegins(step()))
        record.take(Notice("one"))
        record.write()
        assert kinds(page.poll()) == ["log", "status"]
        assert page.poll() == []
        write(partial, [10, 20])
        record.take(Notice("two"))
        log, points = page.poll()
        assert [line.text for line in log.lines] == ["two"]
        assert (points.points.steps, points.reset) == ((10, 20), True)
        assert points.point_data["stage"] == "sft"
        # The connection breaks: another process continues at the position that the browser sends.
        again = Follower.at(tmp_path, page.position)
        write(partial, [30])
        (more,) = [event for event in again.poll() if event.kind == "points"]
        assert (more.points.steps, more.reset) == ((30,), False)
    last = again.poll()
    assert kinds(last)[-1] == "end"
    assert again.position == ""


def test_a_position_of_a_deleted_run_follows_what_runs_now(tmp_path):
    page = Follower.at(tmp_path, "20200101T000000-1-abcd~5~~0")
    with recorded(tmp_path):
        assert kinds(page.poll()) == ["begun"]


def test_a_rebuilt_training_shows_the_work_and_not_the_old_artifact(tmp_path):
    write(tmp_path / "sft" / KEY[:16], [100])
    with recorded(tmp_path) as record:
        record.take(StepBegins(step()))
        record.write()
        (run,) = recorded_runs(tmp_path)
        assert training_of(run, tmp_path) is None
        write(tmp_path / "sft" / f"{KEY[:16]}.partial", [1])
        assert training_of(run, tmp_path).folder.name.endswith(".partial")
        record.take(StepEnds(step()))
        record.write()
        (run,) = recorded_runs(tmp_path)
        assert training_of(run, tmp_path).folder.name == KEY[:16]
