"""Points of trainings are read while the files grow, and thinned out for a page."""

import json
import time

import pytest

from jangin.report.charts.curves import curve_charts
from jangin.report.i18n.translate import Words
from jangin.views.curves import EMPTY, CurveFiles, curves_of, read_end, read_points, thinned


def write(folder, steps, mode="a", **more):
    (folder / "runtime").mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open(mode) as metrics:
        for step in steps:
            line = {"step": step, "train_loss": 3 / step, "learning_rate": 1e-3, **more}
            metrics.write(json.dumps(line) + "\n")
    with (folder / "runtime/pace.jsonl").open("a") as pace:
        for step in steps:
            pace.write(json.dumps({"step": step, "at": 1.0, "tokens_per_second": 9.5}) + "\n")


def test_points_are_read_from_where_a_page_left_off(tmp_path):
    write(tmp_path, [10, 20], valid_loss=2.5)
    first = read_points(tmp_path)
    assert (first.steps, first.columns["valid_loss"]) == ((10, 20), (2.5, 2.5))
    assert first.columns["tokens_per_second"] == (9.5, 9.5)
    assert read_points(tmp_path, first.end).steps == ()
    write(tmp_path, [30])
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 40, "train_lo')
    rest = read_points(tmp_path, first.end)
    assert (rest.steps, rest.columns["valid_loss"]) == ((30,), (None,))
    assert rest.last("train_loss") == 0.1
    assert rest.last("valid_loss") is None


def test_a_resumed_training_whose_file_became_shorter_is_read_from_its_beginning(tmp_path):
    write(tmp_path, range(1, 50))
    end = read_points(tmp_path).end
    write(tmp_path, [1, 2], mode="w")
    assert read_points(tmp_path, end).steps == (1, 2)


def test_a_damaged_line_and_a_missing_file_are_no_error(tmp_path):
    assert read_points(tmp_path / "none") == EMPTY
    assert read_end(tmp_path / "none") == EMPTY
    write(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'\xff\xfe\n[1]\n{"step": "x"}\n')
    write(tmp_path, [2])
    assert read_points(tmp_path).steps == (1, 2)


@pytest.mark.slow
def test_a_hundred_thousand_lines_become_a_thousand_points_with_their_extremes(tmp_path):
    lines = [f'{{"step": {step}, "train_loss": {step % 97}}}' for step in range(1, 100_001)]
    lines[54_320] = '{"step": 54321, "train_loss": 5000.0}'
    lines[70_000] = '{"step": 70001, "train_loss": -1.0, "valid_loss": 1.5}'
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    files = CurveFiles()
    curves = files.read(tmp_path)
    assert 500 < len(curves.steps) < 1_100
    assert (curves.steps[0], curves.steps[-1]) == (1, 100_000)
    assert max(curves.columns["train_loss"]) == 5000.0
    assert min(curves.columns["train_loss"]) == -1.0
    assert 1.5 in curves.columns["valid_loss"]
    assert files.read(tmp_path) is curves
    assert read_end(tmp_path).steps[-1] == 100_000


def test_what_was_read_is_read_again_once_it_has_changed(tmp_path):
    files = CurveFiles()
    write(tmp_path, [1, 2])
    assert files.read(tmp_path).steps == (1, 2)
    time.sleep(0.01)
    write(tmp_path, [3])
    assert files.read(tmp_path).steps == (1, 2, 3)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_chart_for_a_browser_without_scripts_has_both_curves(tmp_path, language):
    write(tmp_path, [1, 2, 3], valid_loss=2.0)
    words = Words(language)
    (loss,) = curve_charts("c", [("", read_points(tmp_path))], words)
    assert loss.title == words("loss")
    assert loss.chart.count("<polyline") == 2
    assert curve_charts("c", [("", EMPTY)], words) == []


def test_all_validation_rows_count_more_than_a_batch_of_them():
    lines = [{"step": 1, "valid_loss": 3.0}, {"step": 2, "valid_loss": 3.0, "full_valid_loss": 2.0}]
    assert curves_of(lines).points("valid_loss") == ((1.0, 3.0), (2.0, 2.0))
    assert curves_of(lines, is_validated=False).points("valid_loss") == ()


def test_later_points_follow_those_before():
    both = curves_of([{"step": 1, "train_loss": 3}]) + curves_of([{"step": 2, "train_loss": 2}])
    assert both.points("train_loss") == ((1.0, 3.0), (2.0, 2.0))


def test_few_points_stay_as_they_are(tmp_path):
    write(tmp_path, [1, 2, 3])
    points = read_points(tmp_path)
    assert thinned(points) is points
