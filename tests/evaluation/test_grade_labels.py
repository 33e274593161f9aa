import pytest

from jangin.core.errors import DataError
from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.grade_labels import (
    LOG,
    GradeLabel,
    GradeSample,
    draw_answers,
    graded_answers,
    read_labels,
    texts_of,
)
from jangin.evaluation.results import grade_prediction
from jangin.evaluation.second_opinion import OpinionRow, differs
from jangin.evaluation.stored import current_table, read_opinions
from jangin.evaluation.tasks.task import Prediction
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
    assert sample.checked() is None
    for row in sample.drawn:
        sample.say(row, "right" if row.right else "wrong", "kim")
    assert sample.left("kim") == []
    assert len(sample.left("lee")) == 20
    assert (sample.checked().grader.n, sample.checked().grader.agreement.estimate) == (20, 1)
    last = sample.drawn[-1]
    assert sample.undo("kim")
    assert sample.left("kim") == [last]
    sample.say(last, "wrong" if last.right else "right", "kim")
    again = GradeSample(evaluations, tmp_path / LOG).checked()
    assert (again.grader.agreement.estimate, again.differing[0][0]) == (0.95, last)
    assert again.grader.false_rights + again.grader.false_wrongs == 1
    sample.say(last, "skip", "kim")
    assert sample.checked().grader.n == 19
    assert sample.judges == []


def test_a_label_counts_for_the_same_answer_only(evaluations, tmp_path):
    sample = GradeSample(evaluations, tmp_path / LOG)
    sample.say(sample.drawn[0], "right", "kim")
    sample.say(sample.drawn[1].model_copy(update={"prediction": "99일"}), "right", "kim")
    checked = sample.checked()
    assert (checked.grader.n, checked.outdated) == (1, 1)


def test_without_answers_and_with_a_damaged_log_the_message_says_what_is_wrong(
    evaluations, tmp_path
):
    with pytest.raises(DataError, match=r"jangin run"):
        GradeSample({}, tmp_path / LOG)
    (tmp_path / LOG).write_text('{"by": "kim", "label": "maybe"}\n{}\n')
    with pytest.raises(DataError, match=r"grades\.jsonl:1: at: "):
        read_labels(tmp_path / LOG)


def test_answers_that_a_judge_was_asked_about_are_drawn_first(evaluations):
    rows = graded_answers(evaluations)
    every = [row for own in rows.values() for row in own]
    judged = {texts_of(row) for row in every if row.question.startswith(("제1호", "제36호"))}
    drawn = draw_answers(rows, 8, judged=judged)
    assert judged < {*map(texts_of, drawn)}
    assert len(judged) == 4


def judged(rows, opinions):
    """Opinions of a judge on these answers, by their number in the list."""
    return [
        OpinionRow(
            evidence_set="test", example_id=row.example_id, system=row.system, judge="gpt",
            question=row.question, gold=row.gold, answer=row.prediction, right=row.right,
            opinion=opinion, differs=differs(opinion, row.right),
            reference_first="right" if opinion == "undecided" else opinion,
            answer_first="unusable" if opinion == "undecided" else opinion,
            reason_reference_first="-", reason_answer_first="",
        )
        for row, opinion in zip(rows, opinions, strict=True)
    ]  # fmt: skip


@pytest.fixture
def second_opinions(evaluations):
    """The judge calls the answers of the tuned model right, and those of the base wrong.

    So it differs from the grader on 3 right answers of the base and 5 wrong ones of the tuned
    model; on two answers of the base it is undecided.
    """
    folder = evaluations["main"].path
    rows = [row for own in graded_answers(evaluations).values() for row in own]
    opinions = ["right" if row.system == "tuned" else "wrong" for row in rows]
    undecided = [n for n, row in enumerate(rows) if row.system == "base" and not row.right][:2]
    for number in undecided:
        opinions[number] = "undecided"
    write_table(folder / "opinions.parquet", OpinionRow, judged(rows, opinions))
    return evaluations


def test_answers_on_which_judge_and_grader_differ_are_shown_first_and_the_even_draw_stays(
    second_opinions, tmp_path
):
    evenly = draw_answers(graded_answers(second_opinions), 6)
    sample = GradeSample(second_opinions, tmp_path / LOG, 6)
    first, rest = sample.drawn[:3], sample.drawn[3:]
    assert rest == evenly
    assert all(row.right == (row.system == "base") for row in first)
    assert not {*map(texts_of, first)} & {*map(texts_of, evenly)}


def test_only_evenly_drawn_labels_count_for_shares_and_the_others_for_disputes(
    second_opinions, tmp_path
):
    sample = GradeSample(second_opinions, tmp_path / LOG, 20)
    for row in sample.drawn:  # a person who always agrees with the grader
        sample.say(row, "right" if row.right else "wrong", "kim")
    (judge,) = sample.judges
    evenly = draw_answers(graded_answers(second_opinions), 20)
    differing = [row for row in evenly if row.right == (row.system == "base")]
    assert (judge.judge, judge.answers, judge.decided, judge.unusable) == ("gpt", 80, 78, 2)
    assert len(judge.differing) == 8
    assert judge.calibration.n == 20
    assert judge.calibration.grader.agreement.estimate == 1
    decided = judge.calibration.judge
    assert decided.false_rights + decided.false_wrongs == len(differing)
    assert judge.calibration.both.n == decided.n - len(differing)
    assert judge.calibration.both.agreement.estimate == 1
    assert judge.calibration.standing == "unproven"  # nine errors in twenty
    # All eight were shown; whichever way they were drawn, they say who is right where both differ.
    assert (judge.disputes.n, judge.disputes.agreement.estimate) == (8, 1)
    assert sample.checked().grader.n == 20


def test_a_larger_draw_asks_again_for_what_was_shown_as_a_dispute(second_opinions, tmp_path):
    small = GradeSample(second_opinions, tmp_path / LOG, 4)
    for row in small.drawn:
        small.say(row, "right", "kim")
    assert small.left("kim") == []
    shown = {*map(texts_of, small.drawn[:2])}
    large = GradeSample(second_opinions, tmp_path / LOG, 80)
    assert shown < {*map(texts_of, large.left("kim"))}
    assert len(large.left("kim")) == 80 - 4


def test_a_log_of_an_older_release_was_drawn_evenly(second_opinions, tmp_path):
    row = draw_answers(graded_answers(second_opinions), 1)[0]
    line = GradeLabel(
        by="kim", at="2026-11-24T00:00:00Z", question=row.question, gold=row.gold,
        answer=row.prediction, label="right",
    )  # fmt: skip
    (tmp_path / LOG).write_text(line.model_dump_json(exclude={"drawn"}) + "\n", encoding="utf-8")
    (judge,) = GradeSample(second_opinions, tmp_path / LOG, 4).judges
    assert judge.calibration.n == 1
    assert judge.calibration.standing == "few"


def test_opinions_stand_beside_the_grades_of_the_present_rules(second_opinions):
    old = second_opinions["main"]
    wrong = [row.model_copy(update={"right": True}) for row in read_opinions(old)]
    write_table(old.path / "opinions.parquet", OpinionRow, wrong)
    outdated = make_artifact(old.path, stage="evaluate", summary={"facts_version": 0})
    rows = read_opinions(outdated)
    assert {row.right for row in rows if row.answer == "모릅니다."} == {False}
    assert sum(row.differs for row in rows) == 8
    assert sum(current_table(outdated, "opinions")["differs"].to_pylist()) == 8
