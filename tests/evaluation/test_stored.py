import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jangin.core.parquet import write_table
from jangin.core.records import Chunk, Example, Message, SplitExample
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.stored import (
    current_table,
    deciding,
    read_comparisons,
    read_predictions,
    read_results,
    read_slices,
)
from jangin.evaluation.tasks.table import DEFAULT_TASK
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics import facts
from jangin.metrics.facts import VERSION
from tests.conftest import make_artifact


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


def evaluation(folder, rows, summary, **manifest):
    folder.mkdir(parents=True)
    write_table(folder / "predictions.parquet", Prediction, rows)
    write_table(folder / "results.parquet", Result, summarise(rows))
    write_table(folder / "comparisons.parquet", Comparison, compare_systems(rows))
    write_table(folder / "slices.parquet", Slice, slice_predictions(rows, DEFAULT_TASK))
    return make_artifact(folder, stage="evaluate", version=3, summary=summary, **manifest)


def by_form(rows):
    """The answers as releases before facts graded them: right is what equals the gold answer."""
    return [row.model_copy(update={"right": row.form}) for row in rows]


def age(folder):
    """Give tables the columns that releases before facts wrote."""
    new = {"form", "reason", "detail", "form_low", "form_high", "form_a", "form_b"}
    for kind in ("predictions", "results", "comparisons"):
        path = folder / f"{kind}.parquet"
        table = pq.read_table(path).drop_columns(
            [name for name in pq.read_schema(path).names if name in new]
        )
        old = pa.array([True if kind == "predictions" else 0.5] * len(table))
        pq.write_table(table.append_column("content_match", old), path)


def test_an_evaluation_older_than_facts_is_graded_from_its_stored_answers(predictions, tmp_path):
    old = evaluation(tmp_path / "old", by_form(predictions), {"content_match_version": 1})
    age(old.folder)
    assert read_predictions(old) == predictions
    assert read_results(old) == summarise(predictions)
    assert read_comparisons(old) == compare_systems(predictions)
    assert read_slices(old) == slice_predictions(predictions, DEFAULT_TASK)
    assert [(row.right, row.form) for row in read_results(old)] == [(0, 0), (1, 1), (1, 0)]


def test_tables_of_an_older_evaluation_are_shown_with_present_grades(predictions, tmp_path):
    old = evaluation(tmp_path / "old", by_form(predictions), {})
    age(old.folder)
    shown = current_table(old, "predictions")
    assert "content_match" not in shown.column_names
    assert shown["right"].to_pylist() == [row.right for row in predictions]
    assert shown["form"].to_pylist() == [row.form for row in predictions]
    assert current_table(old, "comparisons")["right_b"].to_pylist() == [1, 1, 1]


def test_grades_by_other_rules_are_computed_anew_and_present_ones_are_kept(predictions, tmp_path):
    wrong = [row.model_copy(update={"right": False}) for row in predictions]
    other = evaluation(tmp_path / "other", wrong, {"facts_version": VERSION - 1})
    present = evaluation(tmp_path / "present", wrong, {"facts_version": VERSION})
    assert [(row.right, row.form) for row in read_results(other)] == [(0, 0), (1, 1), (1, 0)]
    assert [row.right for row in read_results(present)] == [0, 0, 0]


def reworded(systems):
    """Twelve questions on who pays: the tuned model in the taught words, others in their own."""
    rows = []
    for system in systems:
        for number in range(1, 13):
            prompt = (Message(role="user", content=f"제{number}호 배송비는 누가 냅니까?"),)
            answer = Message(role="assistant", content="고객")
            evidence = f"제{number}호 배송비는 고객이 냅니다."
            example = Example.make(prompt, answer, (), kind="original", evidence=evidence)
            text = "고객" if system == "tuned" else "사신 분이 부담하셔야 해요."
            rows.append(
                grade_prediction(example, "unseen_sections", system, text, evidence=(evidence,))
            )
    return rows


def test_answers_in_other_words_are_counted_beside_the_share_and_may_turn_the_comparison(tmp_path):
    rows = reworded(("base", "tuned"))
    stored = evaluation(tmp_path / "store", rows, {"facts_version": VERSION})
    base, tuned = read_results(stored)
    assert (base.right, base.unclear, tuned.right, tuned.unclear) == (0, 12, 1, 0)
    (pair,) = read_comparisons(stored)
    assert pair.p_value < 0.001
    assert (pair.unclear_a, pair.unclear_b, pair.p_unclear) == (12, 0, 1)


def test_what_a_person_says_of_an_unclear_answer_counts_and_of_a_clear_one_does_not(tmp_path):
    rows = reworded(("base", "tuned"))
    stored = evaluation(tmp_path / "store", rows, {"facts_version": VERSION})
    labels = {(row.question, row.gold, row.prediction): row.system == "base" for row in rows}
    with deciding(labels):
        base, tuned = read_results(stored)
        (pair,) = read_comparisons(stored)
        assert {row.reason for row in read_predictions(stored)} == {"read", "stated"}
    assert (base.right, base.unclear, tuned.right) == (1, 0, 1)
    assert (pair.p_value, pair.p_unclear) == (1, None)
    assert read_results(stored)[0].unclear == 12


def test_labels_have_no_facts_and_are_right_as_they_were(predictions, tmp_path):
    labels = [row.model_copy(update={"form": None, "right": True}) for row in predictions]
    task = {"task": {"type": "labels"}}
    stored = evaluation(tmp_path / "labels", labels, {}, config=task)
    assert [(row.right, row.form) for row in read_results(stored)] == [(1, None)] * 3


def test_an_older_answer_is_graded_with_the_evidence_and_passage_of_its_example(
    tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        "jangin.evaluation.results.grade_facts",
        lambda *given: seen.append(given) or facts.FactGrade(True, "stated"),
    )
    chunk = Chunk(
        id="c1", document_id="d", source="규정.md", text="제3호 휴가는 3일이다. 유급이다.",
        start=0, end=20, page=1, section="휴가",
    )  # fmt: skip
    prompt = (Message(role="user", content="제3호 휴가는 며칠입니까?"),)
    answer = Message(role="assistant", content="3일")
    quoted = "제3호 휴가는 3일이다."
    example = Example.make(prompt, answer, ("c1",), kind="original", evidence=quoted)
    for stage, kind, record, row in (
        ("split", "splits", SplitExample, SplitExample(example=example, split="test")),
        ("chunk", "chunks", Chunk, chunk),
    ):
        folder = tmp_path / stage / "key"
        folder.mkdir(parents=True)
        write_table(folder / f"{kind}.parquet", record, [row])
        made = make_artifact(folder, stage=stage, content=f"content of {stage}")
        (folder / "manifest.json").write_text(made.manifest.model_dump_json())
    row = grade_prediction(example, "test", "tuned", "3일")
    inputs = {"splits": "content of split", "chunks": "content of chunk"}
    old = evaluation(tmp_path / "evaluate" / "key", [row], {}, inputs=inputs)
    seen.clear()
    read_predictions(old)
    assert seen == [("3일", "3일", "제3호 휴가는 며칠입니까?", (quoted, chunk.text))]
