"""Steps and epochs of a run, side by side."""

import pytest

from jangin.core.events import Progress
from jangin.training.loop.config import TrainingConfig
from jangin.training.preflight.duration import Duration, report_end, report_start


def settings(per_step=8, **length):
    return TrainingConfig(length=length, examples_per_step=per_step)


def test_steps_are_shown_with_the_epochs_that_they_are_of_all_rows():
    duration = Duration.of(settings(type="steps", steps=60), 1848)
    assert (duration.steps, duration.rows, duration.unseen) == (60, 1848, 1368)
    assert duration.epochs == pytest.approx(60 / 231)
    assert duration.text == "60 steps of 8 rows = 0.26 epochs of 1,848 rows"


def test_epochs_are_shown_with_their_steps_and_a_last_step_that_is_not_full_counts():
    duration = Duration.of(settings(type="epochs", epochs=3), 17)
    assert (duration.steps, duration.epochs, duration.unseen) == (9, 3, 0)
    assert duration.text == "9 steps of 8 rows = 3 epochs of 17 rows"


def test_a_step_has_no_more_rows_than_there_are():
    duration = Duration.of(settings(16, type="epochs", epochs=2), 5)
    assert (duration.steps, duration.per_step, duration.epochs) == (2, 5, 2)


def test_less_than_an_epoch_is_a_warning_before_and_after_the_run():
    progress = Progress()
    short = Duration.of(settings(type="steps", steps=60), 1848)
    report_start(short, progress)
    report_end(short, 60, progress)
    before, after = progress.messages
    assert "1,368 rows are not trained on" in before
    assert "`length`" in before
    assert "0.26 epochs" in after


def test_a_run_that_was_stopped_before_its_first_epoch_ended_is_told_by_what_it_did():
    progress = Progress()
    long = Duration.of(settings(type="epochs", epochs=2), 80)
    report_end(long, 20, progress)
    assert progress.messages == []
    report_end(long, 5, progress)
    assert "5 steps of 8 rows = 0.5 epochs of 80 rows" in progress.messages[0]
