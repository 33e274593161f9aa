"""What a log file gets of long work: a line at its start, every half minute, and at its end."""

from types import SimpleNamespace

import pytest

from jangin.core.events import StepBegins
from jangin.core.store import Artifact
from jangin.report.terminal.progress import Bars, ProgressLines, duration, time_left, what_was_made
from tests.conftest import make_manifest


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def printed():
    return []


@pytest.fixture
def bars(clock, printed):
    return Bars(ProgressLines(printed.append, clock))


class Step:
    """What a subscriber gets."""

    stage = SimpleNamespace(name="sft")
    state = "run"
    reasons = ("never ran",)


class Unfinished(Step):
    """A step whose earlier run was killed."""

    state = "resume"
    reasons = ("an earlier run did not finish",)


def test_work_of_seconds_leaves_one_line_for_its_stage(bars, clock, printed):
    bars.emit(StepBegins(Step))
    bar = bars.start("packing", 3)
    for _ in range(3):
        clock.now += 0.5
        bars.advance(bar)
    bars.stop(bar)
    assert printed == ["sft         begins: never ran"]
    bars.emit(StepBegins(Unfinished))
    assert printed[1:] == ["sft         resumes: an earlier run did not finish"]


def test_long_work_says_how_far_it_is_what_is_left_and_its_loss(bars, clock, printed):
    bars.emit(StepBegins(Step))
    bar = bars.start("training", 200)
    for step in range(1, 101):
        clock.now = 2.0 * step
        bars.advance(bar, note=f"loss {9 - step / 50:.2f}")
    bars.stop(bar)
    assert printed[1] == "  sft: training: 2/200 (1%), about 7 min left, loss 8.96"
    assert len(printed) == 1 + 1 + 6 + 1
    assert printed[-2].startswith("  sft: training: 92/200 (46%), about 4 min left")
    assert printed[-1] == "  sft: training: 100/200 (50%), ended after 3 min, loss 7.00"


def test_lines_come_while_nothing_advances(bars, clock, printed):
    bars.start("asking", None)
    for second in range(1, 64):
        clock.now = float(second)
        bars._lines.tick()
    assert printed == ["  asking: 0"] * 3


@pytest.mark.parametrize(
    ("marks", "total", "left"),
    [
        ([], 10, ""),
        ([(0, 26)], 60, ""),
        ([(0, 26), (10, 27)], 60, "about 6 min left"),
        ([(0, 1), (1, 2)], None, ""),
        ([(0, 1), (9, 10)], 10, ""),
    ],
)
def test_time_left_follows_the_speed_since_the_first_event_so_a_resumed_run_is_not_too_fast(
    marks, total, left
):
    assert time_left(marks, total) == left


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_evaluate_has_its_questions_and_not_the_version_of_a_measure(tmp_path):
    summary = {"questions": 12, "facts_version": 1}
    artifact = Artifact(tmp_path, make_manifest(stage="evaluate", summary=summary))
    step = SimpleNamespace(stage=SimpleNamespace(name="evaluate"), artifact=artifact)
    assert list(what_was_made(step)) == ["12 questions"]
