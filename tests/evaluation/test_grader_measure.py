import json
from dataclasses import replace

import pytest

from jangin.core.errors import DataError, SettingsError
from jangin.core.model_protocols import FakeChat
from jangin.evaluation.evaluate import STAGE, EvaluateConfig, evaluate
from jangin.metrics.scores.table import find_metric
from tests.evaluation.test_evaluate import (
    AnswerBook,
    answers,
    context_of,
    opener,
    rows,
    tables,
)

__all__ = ("context_of",)
"""Fixtures of other files."""

CLOSE = {
    "type": "text_similarity", "name": "close", "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}", "evaluation_metric": "rouge_1",
}  # fmt: skip
NAMED = {
    "type": "string_check", "name": "named", "input": "{{sample.output_text}}",
    "reference": "팀", "operation": "like",
}  # fmt: skip
POLITE = {
    "type": "score_model", "name": "polite", "model": "gpt-4o", "range": [0, 10],
    "input": [{"role": "developer", "content": "{{item.question}}: {{sample.output_text}}"}],
}  # fmt: skip
MULTI = {
    "type": "multi", "name": "both", "graders": {"close": CLOSE, "named": NAMED},
    "calculate_output": "2 * close + named",
}  # fmt: skip
PYTHON = {"type": "python", "name": "length", "source": "def grade(sample, item):\n"
          "    return len(sample['output_text']) / len(item['answer'])"}  # fmt: skip


@pytest.fixture
def graded(context_of, tmp_path):
    """The tables of an evaluation of two systems with a grader as the measure."""

    def make(grader, chat=None, **settings):
        (tmp_path / "grader.json").write_text(json.dumps(grader))
        measure = {"grader": "grader.json", **settings}
        context = context_of(task={"type": "answers", "measure": measure})
        if chat is not None:
            context = replace(context, services=replace(context.services, chat=lambda _name: chat))
        tuned = AnswerBook(answers(rows(), "train", "held_out_paraphrases"))
        evaluate(context, opener({"base": AnswerBook({}), "tuned": tuned}))
        return context, tables(context)

    return make


def test_rewards_are_the_scores_and_are_compared_in_pairs(graded):
    _, written = graded(CLOSE)
    scores = {(r.evidence_set, r.system): r.score for r in written["results"]}
    assert scores["seen_questions", "tuned"] == 1
    assert scores["seen_questions", "base"] == 0
    assert {r.measure for r in written["results"]} == {"grader:close"}
    seen = next(c for c in written["comparisons"] if c.evidence_set == "seen_questions")
    assert (seen.score_gain, seen.score_n) == (1, 8)
    assert seen.score_p < 0.01
    assert find_metric("grader:close").is_share


def test_a_multi_grader_is_shown_in_points(graded):
    _, written = graded(MULTI)
    scores = {(r.evidence_set, r.system): r.score for r in written["results"]}
    assert scores["seen_questions", "tuned"] == 3
    metric = find_metric(written["results"][0].measure)
    assert (metric.display["ko"], metric.is_share, metric.digits) == ("both", False, 2)


def test_a_model_grades_every_distinct_answer_once(graded):
    def answer(request):
        return "nonsense" if "연차휴가" in request.messages[0].content else '{"result": 7}'

    chat = FakeChat(answer)
    context, written = graded(POLITE, chat, model="judge")
    assert len(chat.calls) == 36  # both systems do not know the four unseen ones
    assert json.loads(chat.calls[0].json_schema)["properties"]["result"]["maximum"] == 10
    missing = [p for p in written["predictions"] if p.score is None]
    assert {p.score for p in written["predictions"]} == {None, 7.0}
    assert len(missing) == 4
    assert "4 of 40" in context.services.progress.messages[-1]
    assert STAGE.teachers(context.config) == ("judge",)
    assert STAGE.cost(context).calls == 40


@pytest.mark.slow
def test_python_runs_only_where_it_is_allowed(graded):
    with pytest.raises(SettingsError, match=r"grader\.json .*`python: true`"):
        graded(PYTHON)
    _, written = graded(PYTHON, python=True)
    assert next(p.score for p in written["predictions"] if p.right) == 1


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        (POLITE, r"grader\.json .*`model`"),
        (CLOSE | {"reference": "{{item.gold}}"}, r"grader\.json: \{\{item\.gold\}\}.* question, "),
        (CLOSE | {"evaluation_metric": "x"}, r"grader\.json: .*'x'"),
        (None, r"grader\.json: .*JSON"),
    ],
)
def test_a_grader_that_cannot_be_run_is_refused_before_anything_is_asked(tmp_path, grader, words):
    text = json.dumps(grader) if grader else "{"
    (tmp_path / "grader.json").write_text(text)
    config = EvaluateConfig(task={"type": "answers", "measure": {"grader": "grader.json"}})
    with pytest.raises((DataError, SettingsError), match=words):
        STAGE.sources(config, tmp_path)


def test_the_file_is_identity_and_its_path_is_not():
    here, there = (
        EvaluateConfig(task={"type": "answers", "measure": {"grader": name}}).identity()
        for name in ("a.json", "b.json")
    )
    assert here == there
