"""The table of metrics, and a metric of one file taken from grading to the report."""

import io
import math
from itertools import product

import pytest
from rich.console import Console

from jangin.core.ledger import Bill
from jangin.core.records import Example, Message
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.tasks.answers import AnswersTask
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.scores.closeness import LabelPosition, closeness
from jangin.metrics.scores.metric import Metric
from jangin.metrics.scores.table import METRICS, default_metric, find_metric, metric_names
from jangin.models.model_card import _evaluation
from jangin.report.compare import as_html, compare_variants
from jangin.report.data.results import VariantCost
from jangin.report.terminal.tables import result_table
from tests.report.workshop import PROJECT, Workshop


def length_gap(prediction: str, gold: str) -> float:
    return float(abs(len(prediction) - len(gold)))


TOY = Metric(
    name="length_gap",
    display={"en": "Length gap", "ko": "길이 차이"},
    right={"en": "Exact match", "ko": "완전 일치"},
    gold="text",
    score=length_gap,
    higher_is_better=False,
    range=(0.0, math.inf),
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METRICS, TOY.name, TOY)
    return AnswersTask.model_construct(type="answers", right="exact_match", measure=TOY.name)


def predictions(task, answers, other_golds=()):
    return [
        grade_prediction(
            Example.make(
                (Message(role="user", content=f"Q{i}"),),
                Message(role="assistant", content="가나다라"),
                kind="original",
                source="a.csv",
            ),
            "test",
            "tuned",
            answer,
            other_golds=other_golds,
            task=task,
        )
        for i, answer in enumerate(answers)
    ]


def test_a_metric_of_one_file_is_graded_by_its_function_and_its_direction(toy):
    rows = predictions(toy, ["가나다라", "가"], other_golds=("가나",))
    assert [row.score for row in rows] == [0.0, 1.0]  # the nearest gold answer: lower is better
    assert [row.right for row in rows] == [True, False]
    (result,) = summarise(rows, 0, toy.metric)
    assert (result.measure, result.score) == ("length_gap", 0.5)


def test_a_metric_of_one_file_has_its_name_and_direction_in_terminal_reports_and_cards(
    toy, tmp_path
):
    near, far = predictions(toy, ["가나다라", "가나다"]), predictions(toy, ["가", "가나"])
    (result,) = summarise(near, 0, toy.metric)
    shown = result.model_dump()
    console = Console(file=io.StringIO(), width=200)
    console.print(result_table([{**shown, "variant": "main", "p_value": None}]))
    terminal = console.file.getvalue()
    assert "Length gap" in terminal
    assert "(lower is better)" in terminal
    assert "0.50" in terminal
    assert "Length gap, lower is better" in "\n".join(_evaluation([shown]))

    workshop = Workshop(tmp_path)
    artifacts = {}
    for variant, rows in (("far", far), ("near", near)):
        tables = {
            "predictions": (Prediction, rows),
            "results": (Result, summarise(rows, 0, toy.metric)),
            "comparisons": (Comparison, compare_systems(rows, 0, toy.metric)),
        }
        artifacts[variant] = {
            "evaluate": workshop.publish("evaluate", tables, {"publishable": True}, {"v": variant})
        }
    opened = workshop.open(PROJECT + "variants:\n  far:\n  near: {models: {sft: {seed: 7}}}\n")
    costs = {
        "far": VariantCost(Bill(calls=0, usd=0.0)),
        "near": VariantCost(Bill(calls=0, usd=0.0)),
    }
    compared = compare_variants(opened, artifacts, {}, costs)
    assert ">Length gap (lower is better)</th>" in as_html(compared, artifacts, "en")
    assert ">길이 차이 (낮을수록 좋음)</th>" in as_html(compared, artifacts, "ko")


def test_every_metric_is_named_in_both_languages_under_its_own_key():
    assert [find_metric(name).name for name in METRICS] == list(METRICS)
    for metric in METRICS.values():
        assert set(metric.display) == set(metric.right) == {"en", "ko"}
    assert [default_metric(gold) for gold in ("text", "label", "number")] == [
        "character_f1",
        "closeness",
        "absolute_error",
    ]
    for gold in ("text", "label", "number"):
        names = metric_names(gold)
        assert list(names) == [name for name in METRICS if METRICS[name].gold == gold]


@pytest.mark.parametrize("name", metric_names("text"))
def test_scores_of_texts_are_in_the_range_of_their_metric_and_best_for_the_gold_itself(name):
    metric = find_metric(name)
    for prediction, gold in product(["연차는 15일", "", "abc", "15일"], ["연차는 15일", "abc"]):
        score = metric.score(prediction, gold)
        assert metric.range[0] <= score <= metric.range[1] + 1e-9
        assert score <= metric.score(gold, gold) + 1e-9


def test_closeness_falls_evenly_where_labels_have_an_order_and_at_once_where_not():
    ordered = [
        closeness(LabelPosition(i, 4, ordered=True), LabelPosition(0, 4, ordered=True))
        for i in range(5)
    ]
    assert ordered == [1, 0.75, 0.5, 0.25, 0]
    unordered = [
        closeness(LabelPosition(i, 2, False), LabelPosition(1, 2, False)) for i in range(3)
    ]
    assert unordered == [0, 1, 0]
