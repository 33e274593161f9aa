import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from jangin.core.errors import ConfigError, DataError
from jangin.core.ledger import Bill
from jangin.core.records import Example, Message
from jangin.core.store import Artifact
from jangin.evaluation.results import Comparison, Result, grade_prediction, summarise
from jangin.evaluation.tasks.labels import LabelsTask
from jangin.evaluation.tasks.numbers import NumbersTask
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.statistics import holm
from jangin.report.compare import (
    _corrected,
    as_csv,
    as_html,
    as_json,
    compare_variants,
    find_cause,
    flat_rows,
    page_sentences,
    refuse_leaks,
    sentences,
)
from jangin.report.data.results import VariantCost
from jangin.report.i18n.translate import Words
from tests.conftest import make_manifest
from tests.report.workshop import HOSTILE, PROJECT, Workshop, predictions

THREE = """
variants:
  plain: {examples: {split: {training_paraphrases: 0}}}
  paraphrased:
  again: {models: {sft: {seed: 7}}}
"""
SECONDS = {"plain": 10.0, "paraphrased": 20.0, "again": 30.0}
COSTS = {
    "plain": VariantCost(Bill(calls=12, usd=1.5)),
    "paraphrased": VariantCost(Bill(calls=40, usd=0.0, unpriced=40)),
    "again": VariantCost(Bill(calls=52, usd=0.0123, unpriced=40)),
}


@pytest.fixture
def compared(tmp_path):
    workshop = Workshop(tmp_path)
    made = workshop.made(plain=predictions(2), paraphrased=predictions(11, 1), again=predictions(8))
    opened = workshop.open(PROJECT + THREE)
    return compare_variants(opened, made, SECONDS, COSTS), made, opened


def test_each_variant_is_held_against_the_first_on_the_same_questions(compared):
    table, _, _ = compared
    assert table.baseline == "plain"
    assert table.test_sets == ["held_out_paraphrases", "unseen_sections"]
    rows = {row.variant: row.measured["held_out_paraphrases"] for row in table.rows}
    assert rows["plain"].against is None
    assert (rows["paraphrased"].against.only_a, rows["paraphrased"].against.only_b) == (0, 9)
    assert rows["paraphrased"].against.p_value == pytest.approx(2 / 2**9)
    assert (rows["again"].against.only_a, rows["again"].against.only_b) == (0, 6)


def test_p_values_are_corrected_for_every_comparison_of_the_table(compared):
    table, _, _ = compared
    assert table.comparisons == 4
    corrected = {
        (row.variant, name): measured.p_holm
        for row in table.rows
        for name, measured in row.measured.items()
    }
    assert corrected["paraphrased", "held_out_paraphrases"] == pytest.approx(4 * 2 / 2**9)
    assert corrected["again", "held_out_paraphrases"] == pytest.approx(3 * 2 / 2**6)
    assert corrected["paraphrased", "unseen_sections"] == 1


def test_unclear_answers_are_corrected_for_every_comparison_as_well(compared):
    table, _, _ = compared
    measured = next(row for row in table.rows if row.variant == "paraphrased").measured
    first = measured["held_out_paraphrases"]
    against = first.against.model_copy(update={"unclear_a": 3, "p_unclear": 2 / 2**6})
    pairs = {"paraphrased": {"held_out_paraphrases": replace(first, against=against)}}
    pairs["again"] = {name: replace(first, against=against) for name in ("a", "b", "c")}
    corrected = _corrected(pairs)["paraphrased"]["held_out_paraphrases"]
    assert corrected.p_holm == pytest.approx(4 * first.against.p_value)
    assert corrected.p_unclear == pytest.approx(4 * 2 / 2**6)
    assert corrected.hangs_on_unclear


def test_p_values_of_the_score_are_corrected_as_those_of_the_share(compared):
    table, made, _ = compared
    found = [m for row in table.rows for m in row.measured.values() if m.against]
    expected = holm([m.against.score_p for m in found])
    assert [m.score_p_holm for m in found] == expected != [m.against.score_p for m in found]
    assert [row["score_p_holm"] for row in flat_rows(table) if row["score_p"]] == expected
    assert "corrected by Holm in the same way" in as_html(table, made, "en")


@pytest.mark.parametrize(
    ("task", "golds", "answers", "said", "heading"),
    [
        (
            NumbersTask(type="numbers"),
            [str(100 + n) for n in range(12)],
            ([str(190 + n) for n in range(12)], [str(110 + n % 2 + n) for n in range(12)]),
            "the mean error (lower is better) of near is 79.50 smaller than that of far (95 % "
            "interval 79.25 smaller to 79.75 smaller): the difference is statistically significant",
            "Mean error (lower is better)",
        ),
        (
            LabelsTask(type="labels", labels=("1", "2", "3", "4", "5"), ordered=True),
            ["5"] * 12,
            (["1"] * 12, ["4"] * 12),
            "the closeness (higher is better) of near is 0.750 higher than that of far (95 % "
            "interval 0.750 higher to 0.750 higher): the difference is statistically significant",
            "Closeness",
        ),
    ],
)
def test_the_second_measure_is_named_and_its_interval_says_which_way(
    tmp_path, task, golds, answers, said, heading
):
    workshop = Workshop(tmp_path)
    made = {}
    for variant, given in zip(("far", "near"), answers, strict=True):
        rows = graded(task, golds, given)
        tables = {
            "predictions": (Prediction, rows),
            "results": (Result, summarise(rows, 0, task.metric)),
            "comparisons": (Comparison, []),
        }
        artifact = workshop.publish("evaluate", tables, {"publishable": True}, {"v": variant})
        made[variant] = {"evaluate": artifact}
    opened = workshop.open(PROJECT + "variants:\n  far:\n  near: {models: {sft: {seed: 7}}}\n")
    costs = {"far": COSTS["plain"], "near": COSTS["again"]}
    table = compare_variants(opened, made, {}, costs)
    assert said in "\n".join(sentences(table))
    html = as_html(table, made, "en")
    assert f">{heading}</th>" in html
    points = " (percentage points)" if heading == "Closeness" else ""
    assert f">Change{points}: {heading}</th>" in html
    assert ("+75.0 <small>[+75.0, +75.0]" in html) == bool(points)
    assert ">Score</th>" not in html


def asked(number, gold):
    prompt = (Message(role="user", content=f"Q{number}"),)
    answer = Message(role="assistant", content=gold)
    return Example.make(prompt, answer, (), kind="original", source="a.csv")


def graded(task, golds, answers):
    return [
        grade_prediction(asked(n, gold), "test", "tuned", answer, task=task)
        for n, (gold, answer) in enumerate(zip(golds, answers, strict=True))
    ]


def test_the_sentences_are_for_people_who_know_no_statistics(compared):
    table, _, _ = compared
    by_variant = "\n".join(sentences(table))
    facts = (
        r"paraphrased is 75\.0 points better than plain in the facts, .*significant \(p = 0\.0156",
        r"again is 50\.0 points better than plain in the facts, .*chance",
        "4 questions are too few",
    )
    for fact in facts:
        assert re.search(fact, by_variant)


def test_a_difference_that_unread_answers_could_turn_is_not_called_significant(compared):
    table, _, _ = compared
    measured = next(row for row in table.rows if row.variant == "paraphrased").measured
    first = measured["held_out_paraphrases"]
    measured["held_out_paraphrases"] = replace(first, p_unclear=1.0)
    line = next(line for line in sentences(table) if "paraphrased is 75.0 points" in line)
    assert "open until someone reads the answers" in line
    assert "significant" not in line
    (korean,) = [text for text in page_sentences(table, Words("ko")) if "“paraphrased”" in text][:1]
    assert "규칙으로 채점하지 못한 답" in korean


def test_another_variant_can_be_the_one_that_others_are_held_against(compared):
    _, made, opened = compared
    table = compare_variants(opened, made, SECONDS, COSTS, baseline="paraphrased")
    row = next(row for row in table.rows if row.variant == "plain")
    assert row.measured["held_out_paraphrases"].against.only_a == 9
    assert "plain is 75.0 points worse than paraphrased" in "\n".join(sentences(table))


def test_what_a_run_took_stands_beside_what_it_reached(compared):
    table, _, _ = compared
    row = table.rows[1]
    assert (row.variant, row.seconds, row.steps, row.trained_tokens) == ("paraphrased", 20, 20, 77)
    assert (row.train_loss, row.valid_loss) == (8 / 20, 9 / 20)
    assert row.settings == {"examples.split.training_paraphrases": "100", "models.sft.seed": "0"}


def test_what_a_variant_cost_stands_in_every_form_and_is_never_0_where_nobody_knows(compared):
    table, made, _ = compared
    rows = {row["variant"]: row for row in flat_rows(table)}
    assert [rows[name]["cost"] for name in rows] == [
        *("$1.50", "price unknown (calls: 40)", "$0.0123 + price unknown (calls: 40)"),
    ]
    assert [row["cost_usd"] for row in rows.values()] == [1.5, None, 0.0123]
    assert [row["unpriced_calls"] for row in rows.values()] == [0, 40, 40]
    first = next(csv.DictReader(io.StringIO(as_csv(table))))
    assert (first["cost"], first["cost_usd"], first["model_calls"]) == ("$1.50", "1.5", "12")
    for language, unknown in (("en", "price unknown (calls: 40)"), ("ko", "가격 모름(호출 40회)")):
        html = as_html(table, made, language)
        assert '<td class="right">$1.50 <small>' in html
        assert f'<td class="right">{unknown} <small>' in html


def test_json_and_csv_hold_the_same_rows(compared):
    table, _, _ = compared
    data = json.loads(as_json(table))
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert len(data["rows"]) == len(rows) == 6
    assert data["rows"] == flat_rows(table)
    for one, other in zip(data["rows"], rows, strict=True):
        assert one.keys() == other.keys()
        assert float(one["right"]) == float(other["right"])
    assert (data["baseline"], data["system"]) == ("plain", "tuned")


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_page_is_one_file_with_every_figure_and_curve(compared, language):
    table, made, _ = compared
    html = as_html(table, made, language)
    body = html[html.index("<main>") : html.index("</main>") + 7].replace("&nbsp;", " ")
    root = ET.fromstring(body)  # our own page
    assert len(root.findall(".//table")) == 4
    assert "http" not in html.replace("http://www.w3.org", "")
    for variant in ("plain", "paraphrased", "again"):
        assert html.count(variant) >= 4
    assert html.count("<figure>") == 3


def test_other_questions_are_compared_where_both_were_asked_and_the_cause_is_named(tmp_path):
    workshop = Workshop(tmp_path)
    others = [row for row in predictions(2) if row.question != HOSTILE]
    fewer = [row for row in others if not row.question.startswith("3번")]
    made = workshop.made(plain=predictions(2), paraphrased=fewer)
    table = compare_variants(workshop.open(), made, {}, COSTS)
    plain, paraphrased = (row.measured["held_out_paraphrases"] for row in table.rows[:2])
    assert paraphrased.result.n < plain.result.n
    assert paraphrased.against.n == paraphrased.result.n
    (other,) = table.other_questions.values()
    note = other.text(Words("en"))
    assert "paraphrased was asked other questions than plain" in note
    assert f"{paraphrased.against.n} of {paraphrased.result.n} held out paraphrases" in note
    assert sentences(table)[0] == note
    shown = other.text(Words("ko"))
    assert "처음 보는 표현" in shown
    assert "단계의 결과가 다르기 때문" in shown
    assert shown in as_html(table, made, "ko")
    assert note in as_html(table, made, "en")


def test_other_chunks_of_another_base_are_named_as_the_cause_of_other_questions():
    def variant(base):
        manifests = {
            "load": make_manifest(stage="load", content="same"),
            "chunk": make_manifest(stage="chunk", content=f"of {base}", inputs={"base": base}),
            "split": make_manifest(stage="split", content=base),
        }
        return {name: Artifact(Path(), manifest) for name, manifest in manifests.items()}

    cause = find_cause(variant("gemma"), variant("smollm"))
    assert "base models differ" in cause
    assert "measure: characters" in cause
    same_chunks = variant("gemma")["chunk"]
    other = variant("smollm") | {"chunk": same_chunks}
    assert find_cause(variant("gemma"), other) == "because their split differs"
    assert "only one of them has split" in find_cause(variant("gemma"), {"chunk": same_chunks})


def test_figures_that_a_leak_has_touched_are_not_published(tmp_path):
    workshop = Workshop(tmp_path)
    shared = workshop.examples_stages()
    made = {
        "plain": shared | workshop.models_stages("plain", predictions(2)),
        "paraphrased": shared | workshop.models_stages("paraphrased", predictions(9), leakage=0.5),
    }
    table = compare_variants(workshop.open(), made, {}, COSTS)
    assert table.leaked == {"paraphrased": {"held_out_paraphrases": 0.5}}
    with pytest.raises(DataError, match=r"paraphrased: 50\.0% of held_out_paraphrases copy"):
        refuse_leaks(table)
    assert "50" in as_html(table, made, "en").split("<main>")[0]


def test_names_that_are_not_there_are_refused_with_those_that_are(compared):
    _, made, opened = compared
    with pytest.raises(ConfigError, match=r"'pain'.*: plain, paraphrased, again"):
        compare_variants(opened, made, {}, COSTS, baseline="pain")
    with pytest.raises(DataError, match=r"'sft'.*: base"):
        compare_variants(opened, made, {}, COSTS, system="sft")
    with pytest.raises(DataError, match="nothing to compare: no variant has an evaluation yet"):
        compare_variants(opened, {name: {} for name in made}, {}, COSTS)
