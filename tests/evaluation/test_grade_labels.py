import pytest

from jangin.core.errors import DataError
from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.grade_labels import (
    LOG,
    GradeSample,
    draw_answers,
    graded_answers,
    read_labels,
    texts_of,
)
from jangin.evaluation.results import grade_prediction
from jangin.evaluation.tasks.prediction import Prediction
from jangin.metrics.facts import VERSION
from tests.conftest import make_artifact


def answers(system, right, wrong, forms=("{}일", "0일")):
    rows = []
    for number in range(1, right + wrong + 1):
        prompt = (Message(role="user", content=f"제{number}호 휴가는 며칠입니까?"),)
        gold = Message(role="assistant", content=f"{number}일")
        text = forms[number > right].format(number)
        example = Example.make(prompt, gold, (), kind="original")
        rows.append(grade_prediction(example, "test", system, text))
    return rows


@pytest.fixture
def evaluations(tmp_path):
    folder = tmp_path / "store" / "evaluate" / "key"
    folder.mkdir(parents=True)
    rows = answers("base", 3, 37, ("{}일입니다.", "모릅니다.")) + answers("tuned", 35, 5)
    write_table(folder / "predictions.parquet", Prediction, rows)
    summary = {"facts_version": VERSION}
    return {"main": make_artifact(folder, stage="evaluate", summary=summary)}


def test_right_and_wrong_answers_of_every_system_are_drawn_and_more_contain_fewer(evaluations):
    rows = graded_answers(evaluations)
    drawn = draw_answers(rows, 20)
    counts = {}
    for row in drawn:
        counts[row.system, row.right] = counts.get((row.system, row.right), 0) + 1
    assert counts == {
        ("base", False): 6, ("base", True): 3, ("tuned", False): 5, ("tuned", True): 6,
    }  # fmt: skip
    assert draw_answers(rows, 20) == drawn
    assert {*map(texts_of, drawn)} < {*map(texts_of, draw_answers(rows, 30))}


def test_labels_are_kept_withdrawn_and_held_against_the_grades(evaluations, tmp_path):
    sample = GradeSample(evaluations, tmp_path / LOG)
    assert sample.agreement() is None
    for row in sample.drawn:
        sample.say(row, "right" if row.right else "wrong", "kim")
    assert sample.left("kim") == []
    assert len(sample.left("lee")) == 20
    assert (sample.agreement().n, sample.agreement().agree.estimate) == (20, 1)
    last = sample.drawn[-1]
    assert sample.undo("kim")
    assert sample.left("kim") == [last]
    sample.say(last, "wrong" if last.right else "right", "kim")
    again = GradeSample(evaluations, tmp_path / LOG).agreement()
    assert (again.agree.estimate, again.differing[0][0]) == (0.95, last)
    assert again.false_rights + again.false_wrongs == 1
    sample.say(last, "skip", "kim")
    assert sample.agreement().n == 19


def test_a_label_counts_for_the_same_answer_only(evaluations, tmp_path):
    sample = GradeSample(evaluations, tmp_path / LOG)
    sample.say(sample.drawn[0], "right", "kim")
    sample.say(sample.drawn[1].model_copy(update={"prediction": "99일"}), "right", "kim")
    agreement = sample.agreement()
    assert (agreement.n, agreement.outdated) == (1, 1)


def test_without_answers_and_with_a_damaged_log_the_message_says_what_is_wrong(
    evaluations, tmp_path
):
    with pytest.raises(DataError, match=r"jangin run"):
        GradeSample({}, tmp_path / LOG)
    (tmp_path / LOG).write_text('{"by": "kim", "label": "maybe"}\n{}\n')
    with pytest.raises(DataError, match=r"grades\.jsonl:1: at: "):
        read_labels(tmp_path / LOG)
