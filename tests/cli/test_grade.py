"""`jangin grade --sample`: the questions that are asked in a terminal, and what the keys do."""

import io
import sys

from jangin.cli.grade import _ask
from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.grade_labels import LOG, GradeSample, read_labels
from jangin.evaluation.results import grade_prediction
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.facts import VERSION
from tests.conftest import make_artifact


def test_keys_from_a_pipe_label_answers_without_their_system_and_grade(
    tmp_path, monkeypatch, capsys
):
    prompt = (Message(role="user", content="휴가는 며칠인가요?"),)
    example = Example.make(prompt, Message(role="assistant", content="3일"), kind="original")
    rows = [grade_prediction(example, "test", name, text) for name, text in (
        ("secret-one", "3일"), ("secret-two", "5일"), ("secret-two", "3일입니다.")
    )]  # fmt: skip
    write_table(tmp_path / "predictions.parquet", Prediction, rows)
    made = make_artifact(tmp_path, stage="evaluate", summary={"facts_version": VERSION})
    sample = GradeSample({"main": made}, tmp_path / LOG)
    monkeypatch.setattr(sys, "stdin", io.StringIO("x\nr\nu\nw\ns\nq\n"))
    _ask(sample, "kim")
    labels = [line.label for line in read_labels(tmp_path / LOG)]
    assert labels == ["right", "undo", "wrong", "skip"]
    shown = capsys.readouterr().out
    assert "휴가는 며칠인가요?" in shown
    assert "5일" in shown
    assert "secret" not in shown
    assert "right" in shown
    assert "2 of 3" in shown
    assert len(sample.left("kim")) == 1
