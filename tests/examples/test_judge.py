import json

import numpy as np
import pytest
from scipy import stats

from jangin.core.errors import DataError, StageError
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Document, Example, Score
from jangin.examples.judge import (
    SCORERS,
    STAGE,
    AgreementFigure,
    HumanScores,
    JudgeConfig,
    advice,
    compare,
    forecast,
    judge,
    kendall,
    spearman,
    weighted_kappa,
)
from jangin.llm.ask import CachedChat
from jangin.llm.replies import Failed

CONFIG = JudgeConfig(teacher="fake")
TEXT = "제12조 회사는 휴대품 1개당 20만 원을 한도로 보상합니다."
GOOD = {"correctness": 5, "completeness": 4, "clarity": 5, "self_contained": 3}


def grades(reason="보상 조건이 빠졌다.", **changed):
    return json.dumps({"reason": reason, **GOOD, **changed}, ensure_ascii=False)


@pytest.fixture
def rows(make_example):
    return [
        make_example(f"휴대품 {n}번의 한도는?", f"{n}만 원", chunk_ids=("c1",), teacher="first")
        for n in range(6)
    ]


@pytest.fixture
def context(make_context, make_document, make_chunk, rows):
    def make(answer, config=CONFIG, chat=None, some=None, chunks=True):
        tables = {"examples": (Example, rows if some is None else some)}
        if chunks:
            tables["chunks"] = (Chunk, [make_chunk(1, TEXT)])
            tables["documents"] = (Document, [make_document(TEXT)])
        return make_context(config, tables, chat or FakeChat(answer))

    return make


def run(context):
    judge(context)
    return (
        read_table(context.workspace / "examples.parquet", Example),
        read_table(context.workspace / "failed.parquet", Failed),
    )


def test_every_criterion_becomes_a_score_and_their_mean_has_the_reason(context, rows):
    opened = context(lambda _request: grades())
    examples, failed = run(opened)
    assert [e.id for e in examples] == [row.id for row in rows]
    assert failed == []
    scores = {score.scorer: score for score in examples[0].scores}
    assert tuple(scores) == SCORERS
    assert {score.kind for score in scores.values()} == {"model"}
    assert [scores[name].value for name in SCORERS] == [0.8125, 1.0, 0.75, 1.0, 0.5]
    assert scores["judge"].reason == "보상 조건이 빠졌다."
    assert opened.summary["mean"]["judge.self_contained"] == 0.5


def test_the_judge_sees_the_passage_and_the_rubric_in_the_language_of_the_document(context):
    chat = FakeChat(lambda _request: grades())
    run(context(None, chat=chat))
    system, user = chat.calls[0].messages
    for name in GOOD:
        assert name in system.content
    assert "채점자" in system.content
    assert TEXT in user.content
    assert chat.calls[0].temperature == 0


def test_without_a_chunk_the_evidence_serves_and_without_that_nothing(context, make_example):
    rows = [make_example("가?", "나", evidence="근거 문장"), make_example("다?", "라")]
    chat = FakeChat(lambda _request: grades())
    run(context(None, chat=chat, some=rows, chunks=False))
    assert "본문:\n근거 문장\n" in chat.calls[0].messages[1].content
    assert "본문:\n-\n" in chat.calls[1].messages[1].content


def test_paraphrases_are_judged_only_when_asked_for(context, rows, make_example):
    fields = {"kind": "paraphrase", "family": rows[0].id, "parent": rows[0].id}
    some = [rows[0], make_example("한도가 얼마죠?", "0만 원", **fields)]
    chat = FakeChat(lambda _request: grades())
    examples, _ = run(context(None, chat=chat, some=some))
    assert (len(chat.calls), examples[1].scores) == (1, ())
    every = JudgeConfig(teacher="fake", kinds=("original", "paraphrase"))
    examples, _ = run(context(lambda _request: grades(), every, some=some))
    assert examples[1].scores != ()


def test_other_scores_stay_and_an_earlier_verdict_is_replaced(context, rows):
    old = (
        Score(scorer="support", kind="rule", value=1.0),
        Score(scorer="judge", kind="model", value=0.1),
    )
    some = [rows[0].model_copy(update={"scores": old})]
    (example,), _ = run(context(lambda _request: grades(), some=some))
    assert [score.scorer for score in example.scores] == ["support", *SCORERS]
    assert example.scores[1].value == 0.8125


def test_a_grade_off_the_scale_is_asked_for_again_and_then_kept_aside(context, rows):
    def answer(request):
        return grades(clarity=7) if "휴대품 2번" in request.messages[1].content else grades()

    examples, (failed,) = run(context(answer))
    assert failed.subject == rows[2].id
    assert "clarity" in failed.reason
    assert examples[2].scores == ()


def test_a_judge_that_grades_nothing_stops_the_stage(context):
    with pytest.raises(StageError, match="graded none of 6 examples"):
        run(context(lambda _request: "fine"))


def test_a_teacher_that_judges_its_own_work_is_named(context, rows):
    own = [row.model_copy(update={"teacher": "fake"}) for row in rows[:2]]
    opened = context(lambda _request: grades(), some=[*own, *rows[2:]])
    run(opened)
    assert "fake wrote 2 of the 6 examples that it judges" in opened.services.progress.messages[0]


def test_the_forecast_counts_what_is_not_paid_yet(context, ledger):
    chat = CachedChat(FakeChat(lambda _request: grades()), ledger)
    assert forecast(context(None, chat=chat)).text == "6 calls to fake (6 examples)"
    run(context(None, chat=chat))
    assert forecast(context(None, chat=chat)).calls == 0


CALIBRATED = JudgeConfig(teacher="fake", calibration=HumanScores(type="file", path="human.jsonl"))


@pytest.fixture
def human(tmp_path):
    def write(lines):
        text = lines if isinstance(lines, str) else "\n".join(map(json.dumps, lines))
        (tmp_path / "human.jsonl").write_text(text, encoding="utf-8")

    return write


def climbing(request):
    number = int(request.messages[1].content.split("휴대품 ")[-1][0])
    grade = min(5, number + 1)
    return grades(**dict.fromkeys(GOOD, grade))


@pytest.mark.slow
def test_calibration_says_how_far_judge_and_people_agree_and_that_six_are_few(context, rows, human):
    human([{"id": row.id, "score": min(5, n + 1)} for n, row in enumerate(rows)])
    opened = context(climbing, CALIBRATED)
    run(opened)
    table = read_table(opened.workspace / "agreement.parquet", AgreementFigure)
    by_name = {row.measure: row for row in table}
    assert {row.n for row in table} == {6}
    for name in ("spearman", "kendall", "weighted_kappa"):
        assert by_name[name].value == pytest.approx(1.0)
    assert by_name["mean_difference"].value == 0.0
    assert "too few to rely on" in opened.summary["calibration"]["advice"]
    assert "with 6 human scores: too few" in opened.services.progress.messages[-1]
    assert set(STAGE.sources(CALIBRATED, opened.services.project_folder)) == {"human_scores"}


@pytest.mark.slow
def test_several_people_are_averaged_and_unknown_examples_are_named(context, rows, human):
    lines = [{"id": rows[0].id, "score": 1}, {"id": rows[0].id, "score": 2}]
    human([*lines, {"id": rows[5].id, "score": 5, "by": "김"}, {"id": "gone", "score": 3}])
    opened = context(climbing, CALIBRATED)
    run(opened)
    assert opened.summary["calibration"]["n"] == 2
    assert opened.summary["calibration"]["mean_difference"][0] == -0.25
    said = opened.services.progress.messages[-1]
    assert (said.startswith("judge: 1 "), "'gone'" in said) == (True, True)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"id": "a", "score": 9}', r"human.jsonl:1: .*9"),
        ('{"id": "a", "score": 3}\nnonsense', "human.jsonl:2: "),
        ("\n", "human.jsonl .*calibration"),
        ('{"id": "a", "score": 3}', "none of the 1 .*'a'"),
    ],
)
def test_a_bad_file_of_human_scores_is_an_error_with_file_and_line(context, human, lines, words):
    human(lines)
    with pytest.raises(DataError, match=words):
        run(context(climbing, CALIBRATED))


def test_a_file_of_human_scores_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"human.jsonl does not exist"):
        STAGE.sources(CALIBRATED, tmp_path)


def test_the_figures_are_those_of_scipy_and_of_the_definition_of_kappa():
    generator = np.random.default_rng(0)
    human = generator.integers(1, 6, 80).astype(float)
    judged = np.clip(human + generator.integers(-1, 2, 80) * generator.random(80), 1, 5)
    assert spearman(judged, human) == pytest.approx(stats.spearmanr(judged, human).statistic)
    assert kendall(judged, human) == pytest.approx(stats.kendalltau(judged, human).statistic)
    a, b = np.rint(judged).astype(int) - 1, human.astype(int) - 1
    table, weights = np.zeros((5, 5)), (np.arange(5)[:, None] - np.arange(5)) ** 2
    np.add.at(table, (a, b), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / 80
    kappa = 1 - (weights * table).sum() / (weights * expected).sum()
    assert weighted_kappa(judged, human) == pytest.approx(kappa)


def compared(judged, human, siblings=1):
    """Agreement of rows in groups of siblings of this size."""
    families = [str(n // siblings) for n in range(len(judged))]
    return compare(list(judged), list(human), families)


@pytest.mark.slow
def test_intervals_hold_the_value_and_widen_when_rows_are_siblings():
    generator = np.random.default_rng(1)
    human = generator.integers(1, 6, 120).astype(float)
    judged = np.clip(human + generator.normal(0, 1, 120), 1, 5)
    apart = compared(judged, human)
    for row in apart:
        assert row.low < row.value < row.high
    copies = compared(np.repeat(judged, 4), np.repeat(human, 4), siblings=4)
    alone = compared(np.repeat(judged, 4), np.repeat(human, 4))

    def width(found):
        return found[0].high - found[0].low

    assert width(copies) == pytest.approx(width(apart), rel=0.15)
    assert width(alone) < 0.7 * width(copies)


@pytest.mark.slow
def test_scores_without_variance_and_agreement_by_chance_are_called_so():
    flat = compared([4.0] * 40, [3.0] * 40)
    assert flat[0].value is None
    assert advice(flat).startswith("40 human scores do not vary enough")
    generator = np.random.default_rng(3)
    noise = compared(generator.random(40) * 4 + 1, generator.random(40) * 4 + 1)
    assert "this could be chance" in advice(noise)
    human = generator.integers(1, 6, 60).astype(float)
    good = advice(compared(human, human))
    assert good == "Spearman 1.00 [1.00, 1.00] with 60 human scores."
    assert compared(human + 1, human)[3].value == 1.0
