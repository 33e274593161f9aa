"""What pages say of grades and second opinions, beside the labels of people."""

import io
import re
import sys

import pytest
import yaml

from jangin.cli.main import main
from jangin.evaluation.grade_labels import LOG, GradeSample
from jangin.report.data.verdict import grades_checked, opinion_lines
from jangin.report.i18n.translate import Words
from tests.cli.test_grade_file import judged_project  # noqa: F401  a fixture
from tests.evaluation.test_grade_labels import (  # noqa: F401  fixtures
    evaluations,
    second_opinions,
)
from tests.tiny_project import KEYS, write_project


def shown(evaluations, folder):
    artifacts = {name: {"evaluate": artifact} for name, artifact in evaluations.items()}
    return grades_checked(folder, artifacts, Words("en"))


def test_without_labels_a_page_says_that_the_judge_is_not_calibrated(second_opinions, tmp_path):
    checked = shown(second_opinions, tmp_path)
    assert not checked.by_people
    (sentence,) = checked.opinions
    assert "Second opinion by gpt" in sentence
    assert "not calibrated: people have labelled 0 evenly drawn answers" in sentence
    assert "calls right" not in sentence
    lines = opinion_lines(checked.judges, Words("en"))
    assert "of the 78 answers on which it is decided" in lines[0]
    assert "undecided on 2 of 80" in lines[0]
    assert len(lines) == 2


@pytest.mark.parametrize(("trusts_judge", "said"), [(True, True), (False, False)])
def test_the_verdict_holds_what_the_judge_says_only_where_labels_speak_for_it(
    trusts_judge,
    said,
    second_opinions,
    tmp_path,
):
    sample = GradeSample(second_opinions, tmp_path / LOG, 40)
    for number, row in enumerate(sample.drawn):
        is_right = row.system == "tuned" if trusts_judge else number % 2 == 0
        sample.say(row, "right" if is_right else "wrong", "kim")
    checked = shown(second_opinions, tmp_path)
    (sentence,) = checked.opinions
    assert ("calls right" in sentence) is said
    if said:
        assert "at least as often as the grader" in sentence
    else:
        assert "not shown to tell right from wrong" in sentence
    lines = opinion_lines(checked.judges, Words("ko"))
    assert any(line.startswith("심사 모델(의견이 정해진 답): 답의 ") for line in lines)
    assert "둘이 다르게 본 답 중 사람이 판정한 8개" in lines[-1]


@pytest.mark.slow
def test_a_project_with_a_judge_is_planned_run_shown_reported_and_checked(
    judged_project,
    tmp_path,
    monkeypatch,
    capsys,
):
    teachers = yaml.safe_load(judged_project[0].read_text("utf-8"))["teachers"]
    evaluate = {**KEYS["models"]["evaluate"], "second_opinion": {"judge": "gpt", "limit": 4}}
    keys = {**KEYS, "teachers": teachers, "models": {**KEYS["models"], "evaluate": evaluate}}
    folder = write_project(tmp_path / "tiny", keys)

    def call(*words, answers=""):
        monkeypatch.setattr(sys, "argv", ["jangin", *words, "-p", str(folder)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
        with pytest.raises(SystemExit) as leave:
            main()
        return leave.value.code or 0, " ".join(capsys.readouterr().out.split())

    assert "for a second opinion" in call("plan")[1]
    code, out = call("run")
    # The judge mumbles about Korean answers: undecided, listed as failed, nothing is graded anew.
    assert re.search(r"agrees with the grader on 0, differs on 0 and is undecided on [1-8]\b", out)
    assert "failed" in out
    assert code
    assert "opinion" in call("show", "opinions")[1]
    _, out = call("grade", "--sample", "4", answers="w\nw\nw\nw\n")
    assert re.search(r"The judge is not calibrated: people have labelled [1-4] ", out)
    call("report", "--output", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("심사 모델은 아직 사람의 판정과 견주어 보지 않았습니다") == 2
    assert 'id="opinions"' in page
    assert "틀렸다고 하신 4개 중 0개" in page
    assert not re.search(r"하신 0개|정해진 답 0개", page)
