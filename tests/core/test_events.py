"""The stream of events: everyone hears everything, in order, and other processes can pass it on."""

import json

import pytest

from jangin.core.events import (
    Notice,
    Progress,
    TrainingResumes,
    Work,
    WorkAdvances,
    WorkBegins,
    WorkEnds,
    packed,
    unpacked,
)


def test_every_subscriber_gets_every_event_in_order():
    one, two = [], []
    root = Progress(one.append)
    inner = Progress(root.emit, two.append)
    work = inner.start("training", 3)
    inner.advance(work, 2, "loss 1.0")
    inner.message("half")
    inner.stop(work)
    assert (
        one
        == two
        == [
            WorkBegins(work, "training", 3),
            WorkAdvances(work, 2, "loss 1.0"),
            Notice("half"),
            WorkEnds(work),
        ]
    )
    assert root.messages == inner.messages == ["half"]
    assert inner.start("training", 3) != work


def test_what_a_subscriber_raises_ends_the_work():
    def stop(_event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Progress(stop).message("now")


@pytest.mark.parametrize(
    "event",
    [
        WorkBegins(1 << 60, "훈련", None),
        WorkAdvances(3, 1, ""),
        WorkEnds(3),
        Notice("wandb: no answer", "tracker"),
        TrainingResumes(4, 8),
    ],
)
def test_events_of_stages_cross_a_pipe_unchanged(event):
    assert unpacked(json.loads(json.dumps(packed(event)))) == event


def test_work_keeps_its_last_note_and_only_its_latest_marks():
    work = Work("training", None, 0.0)
    for number in range(300):
        work.advance(WorkAdvances(1, 1, "first" if number == 0 else ""), float(number))
    assert (work.done, work.note, len(work.marks)) == (300, "first", 100)
