import pytest

from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.stored import read_comparisons, read_predictions, read_results
from jangin.evaluation.tasks.prediction import Prediction
from jangin.metrics.content_match import VERSION
from jangin.report.data.results import collect_results
from tests.conftest import make_artifact

FIELDS = {"content_match": None, "content_match_low": None, "content_match_high": None}
PAIR = {
    "content_match_a": None, "content_match_b": None, "content_match_p": None,
    "content_match_only_a": 0, "content_match_only_b": 0,
}  # fmt: skip


@pytest.fixture
def predictions():
    """Twelve questions: tuned answers in the taught form, writer in a sentence, base wrongly."""
    rows = []
    for system, form in (("base", "모릅니다"), ("tuned", "{}일"), ("writer", "{}일입니다.")):
        for number in range(1, 13):
            prompt = (Message(role="user", content=f"제{number}호 휴가는 며칠입니까?"),)
            answer = Message(role="assistant", content=f"{number}일")
            example = Example.make(prompt, answer, (), kind="original")
            text = form.format(number)
            rows.append(grade_prediction(example, "held_out_paraphrases", system, text))
    return rows


def evaluation(folder, rows, results, comparisons, summary):
    folder.mkdir()
    write_table(folder / "predictions.parquet", Prediction, rows)
    write_table(folder / "results.parquet", Result, results)
    write_table(folder / "comparisons.parquet", Comparison, comparisons)
    return make_artifact(folder, stage="evaluate", version=3, summary=summary)


def test_an_evaluation_older_than_content_match_is_graded_from_its_stored_answers(
    predictions, tmp_path
):
    results, comparisons = summarise(predictions), compare_systems(predictions)
    old = evaluation(
        tmp_path / "old",
        [row.model_copy(update={"content_match": None}) for row in predictions],
        [row.model_copy(update=FIELDS) for row in results],
        [row.model_copy(update=PAIR) for row in comparisons],
        {},
    )
    assert read_predictions(old) == predictions
    assert read_results(old) == results
    assert read_comparisons(old) == comparisons
    assert [row.content_match for row in read_results(old)] == [0, 1, 1]


def test_grades_by_other_rules_are_computed_anew_and_present_ones_are_kept(predictions, tmp_path):
    wrong = [row.model_copy(update={"content_match": False}) for row in predictions]
    tables = (wrong, summarise(wrong), compare_systems(wrong))
    other = evaluation(tmp_path / "other", *tables, {"content_match_version": VERSION - 1})
    present = evaluation(tmp_path / "present", *tables, {"content_match_version": VERSION})
    assert [row.content_match for row in read_results(other)] == [0, 1, 1]
    assert [row.content_match for row in read_results(present)] == [0, 0, 0]


def test_where_the_measures_disagree_the_results_say_so(predictions, tmp_path):
    tables = (predictions, summarise(predictions), compare_systems(predictions))
    stored = evaluation(tmp_path / "e", *tables, {"content_match_version": VERSION})
    lines = collect_results({"main": {"evaluate": stored}}).sentences
    (line,) = [line for line in lines if "disagree" in line]
    assert "tuned and writer" in line
    assert "exact match tuned is better (100.0 % against 0.0 %" in line
    assert "content match neither is better (100.0 % against 100.0 %" in line
