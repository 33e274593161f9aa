import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from jangin.core.ledger import CallCount
from jangin.core.records import Example, Message
from jangin.evaluation.forgetting import ForgettingResult, forgetting_result
from jangin.evaluation.pairwise_judge import PairwiseResult
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.select import Candidate
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.tasks.labels import LabelResult, LabelsTask, label_results
from jangin.evaluation.tasks.numbers import NumberResult, NumbersTask, number_results
from jangin.evaluation.tasks.task import Prediction
from jangin.report.data.results import collect_results
from jangin.report.i18n.translate import Words
from jangin.report.page import build_report
from jangin.report.sections.evaluation import candidates, evaluations
from tests.report.workshop import Workshop

STARS = LabelsTask(type="labels", labels=("1", "2", "3", "4", "5"), ordered=True, good_from="4")
PRICES = NumbersTask(type="numbers")


def rows(task, golds, answers):
    """Predictions of `{system: answers}` for the test set."""
    made = []
    for system, given in answers.items():
        for number, (gold, answer) in enumerate(zip(golds, given, strict=True)):
            asked = Example.make(
                (Message(role="user", content=f"{number}번 <b>후기</b> " + "x" * number),),
                Message(role="assistant", content=gold),
                kind="original",
                source="a.csv" if number % 2 else "b.csv",
            )
            made.append(grade_prediction(asked, "test", system, answer, task=task))
    return made


def evaluation(workshop, task, predictions, model="", **tables):
    measure = task.metric
    tables = {
        "predictions": (Prediction, predictions),
        "results": (Result, summarise(predictions, 0, measure)),
        "comparisons": (Comparison, compare_systems(predictions, 0, measure)),
        "slices": (Slice, slice_predictions(predictions, task)),
        **tables,
    }
    if isinstance(task, LabelsTask):
        tables["label_results"] = (LabelResult, label_results(predictions, task))
    else:
        tables["number_results"] = (NumberResult, number_results(predictions, task))
    config = {"task": task.model_dump(mode="json")}
    return workshop.publish("evaluate", tables, {"publishable": True}, config, {"model": model})


@pytest.fixture
def reviews(tmp_path):
    golds = list("1234512345123451234512345")
    answers = {"base": ["5"] * 20 + ["?"] * 5, "constant": ["1"] * 25, "tuned": [*golds[:-1], "4"]}
    judged = PairwiseResult(
        evidence_set="test", judge="gpt", a="tuned", b="base", n=15, wins=10, losses=3, ties=2,
        inconsistent=2, unjudged=0, win_rate=0.733, win_rate_low=0.5, win_rate_high=0.9,
        p_value=0.0923, first_shown=0.533, longer_won=0.7, length_correlation=None,
    )  # fmt: skip
    kept = forgetting_result("base", ["글"], [(9.0, 3)], [(9.0, 3)], [True], [True], 0)
    lost = forgetting_result("tuned", ["글"], [(12.0, 3)], [(9.0, 3)], [False], [True], 0)
    workshop = Workshop(tmp_path)
    made = evaluation(
        workshop,
        STARS,
        rows(STARS, golds, answers),
        pairwise=(PairwiseResult, [judged]),
        forgetting=(ForgettingResult, [kept, lost]),
    )
    return workshop, {"main": {"evaluate": made}}


@pytest.fixture
def prices(tmp_path):
    golds = [str(price) for price in range(50, 1050, 50)]
    answers = {"base": ["?"] * 20, "tuned": [f"${int(g) * 1.1:.2f}" for g in golds[:-1]] + ["5"]}
    workshop = Workshop(tmp_path)
    made = evaluation(workshop, PRICES, rows(PRICES, golds, answers))
    return workshop, {"main": {"evaluate": made}}


@pytest.mark.parametrize("language", ["ko", "en"])
def test_labels_get_their_table_and_a_confusion_matrix_of_base_tuned_and_the_best_other(
    reviews, language
):
    _, made = reviews
    (found,) = evaluations(made, Words(language))
    assert [row.system for row in found.labels] == ["base", "constant", "tuned"]
    assert [system for system, _ in found.confusions] == ["base", "constant", "tuned"]
    chart = ET.fromstring(found.confusions[2][1])  # our own picture
    titles = [e.text for e in chart.iter("{http://www.w3.org/2000/svg}title")]
    words = Words(language)
    assert f"{words('truth')} 5, {words('given')} 4: 1 / 5" in titles
    assert len([t for t in titles if "/" in t]) == 5 * 6


def test_everything_else_that_was_asked_stands_against_the_tuned_model(reviews):
    _, made = reviews
    (found,) = evaluations(made, Words("en"))
    assert [rival.system for rival in found.rivals] == ["base", "constant"]
    constant = found.rivals[1]
    assert (constant.comparison.only_a, constant.comparison.only_b) == (0, 19)
    assert constant.p_holm >= constant.comparison.p_value
    assert constant.comparison.score_gain > 0


def test_parts_by_length_stand_from_short_to_long(reviews):
    _, made = reviews
    (found,) = evaluations(made, Words("en"))
    parts = [part.value for part in found.slices if part.dimension == "length"]
    assert re.fullmatch(r"≤ \d+, \d+–\d+, > \d+", ", ".join(parts))


@pytest.mark.parametrize(
    ("language", "kind", "names"),
    [
        ("en", "reviews", ("“Accuracy”", "“Closeness”")),
        ("ko", "reviews", ("‘정확도’", "‘가까움’")),
        ("en", "prices", ("“Green band”", "“Mean error”")),
        ("ko", "prices", ("‘초록 구간’", "‘평균 오차’")),
    ],
)
def test_the_note_on_intervals_names_the_measures_of_the_page(request, language, kind, names):
    workshop, made = request.getfixturevalue(kind)
    html = build_report(workshop.open(), made, CallCount(0, 0, 0), language=language)
    assert all(name in html for name in names)
    assert "exact match is Wilson" not in html
    assert "F1의 구간" not in html
    lower = {"en": "Mean error (lower is better)", "ko": "평균 오차 (낮을수록 좋음)"}[language]
    assert (f">{lower}</th>" in html) == (kind == "prices")


def test_what_was_won_and_lost_is_shown_with_both_answers(reviews):
    _, made = reviews
    (found,) = evaluations(made, Words("ko"))
    assert (found.first, found.second) == ("base", "tuned")
    assert (found.gained_count, found.lost_count) == (20, 0)
    assert len(found.gained) == 5
    assert all(changed.second == changed.gold != changed.first for changed in found.gained)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_judge_that_is_a_contestant_is_said_to_be_one_with_figures_where_there_are_any(
    tmp_path, language
):
    workshop = Workshop(tmp_path)
    answers = {"base": ["5"] * 5, "tuned": list("12345")}
    judged = {
        "evidence_set": "test", "a": "tuned", "b": "base", "n": 5, "wins": 3, "losses": 2,
        "ties": 0, "inconsistent": 0, "unjudged": 0, "win_rate": 0.6, "win_rate_low": 0.2,
        "win_rate_high": 0.9, "p_value": 1.0, "first_shown": 0.5, "longer_won": None,
        "length_correlation": None,
    }  # fmt: skip
    own = {
        "kinship": "itself", "kin": "base", "own_n": 5, "own_win_rate": 0.4,
        "others_win_rate": 0.1, "self_preference": 0.3, "self_preference_low": -0.05,
        "self_preference_high": 0.65,
    }  # fmt: skip
    rows_of_judges = [
        PairwiseResult(judge="llama", **judged, **own),
        PairwiseResult(judge="claude", **judged),
        PairwiseResult(judge="writer", **judged, kinship="teacher", kin="tuned"),
    ]
    made = evaluation(
        workshop, STARS, rows(STARS, list("12345"), answers),
        pairwise=(PairwiseResult, rows_of_judges),
    )  # fmt: skip
    page = build_report(
        workshop.open(), {"plain": {"evaluate": made}}, CallCount(0, 0, 0), language
    )
    text = page.replace("&nbsp;", " ").replace("\N{NO-BREAK SPACE}", " ")
    words = Words(language)
    assert words("kin_itself", judge="llama", system=words("base")) in text
    assert words("kin_teacher", judge="writer", system=words("tuned")) in text
    assert text.count(words("kin_alone")) == 1
    for figure in ("40.0", "10.0", "+30.0", "−5.0", "+65.0"):
        assert figure in text
    lines = collect_results({"plain": {"evaluate": made}}).sentences
    assert "test: tuned against base, judged by claude: 3 wins, 2 losses, 0 ties of 5." in lines
    (kin,) = [line for line in lines if "judge llama" in line]
    assert ("base" in kin, "40 %" in kin, "10 %" in kin) == (True, True, True)
    assert sum("may favour it" in line for line in lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("language", ["ko", "en"])
def test_systems_with_the_very_same_figures_under_several_variants_stand_once(tmp_path, language):
    golds = [str(price) for price in range(50, 1050, 50)]
    workshop = Workshop(tmp_path)
    constant, base = ["500"] * 20, ["?"] * 20
    made = {}
    for name, tuned in (("plain", golds), ("again", golds), ("other", constant)):
        answers = {"base": base, "tuned": tuned, "constant": constant if name != "other" else golds}
        predictions = rows(PRICES, golds, answers)
        made[name] = {"evaluate": evaluation(workshop, PRICES, predictions, name)}
    first, again, other = evaluations(made, Words(language))
    assert [row.system for row in first.numbers] == ["base", "tuned", "constant"]
    assert first.same == []
    assert [row.system for row in again.numbers] == ["tuned"]
    assert again.same == [("base", "plain"), ("constant", "plain")]
    assert [row.system for row in other.numbers] == ["tuned", "constant"]
    assert other.same == [("base", "plain")]
    assert [system for system, _ in other.scatters] == ["tuned", "constant"]
    page = build_report(workshop.open(), made, CallCount(0, 0, 0), language)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    words = Words(language)
    assert f"{words('same_figures', variants='plain')} {words('base')}, constant." in text


def test_numbers_get_a_scatter_with_one_dot_per_readable_answer(prices):
    _, made = prices
    (found,) = evaluations(made, Words("en"))
    by_system = dict(found.scatters)
    assert by_system["tuned"].count("<circle") == 20
    assert "base" not in by_system
    assert found.numbers[1].green == pytest.approx(19 / 20)
    assert 'class="s1"><title>1,000 → 5' in by_system["tuned"]
    assert "<polyline" in found.running


def test_a_page_of_labels_holds_every_part_and_is_well_formed(reviews):
    workshop, made = reviews
    html = build_report(workshop.open(), made, CallCount(0, 0, 0), "en")
    for key in ("labels", "confusion", "pairwise", "forgetting"):
        assert f"<h3>{Words('en')(key)}" in html
    assert "10 / 3 / 2" in html
    assert "<b>후기" not in html
    body = re.search(r"<main>.*</main>", html, re.DOTALL).group().replace("&nbsp;", " ")
    ET.fromstring(body)  # our own page
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_page_of_numbers_holds_its_mean_error_and_bands(prices):
    workshop, made = prices
    html = build_report(workshop.open(), made, CallCount(0, 0, 0), "ko")
    assert "평균 오차" in html
    assert "초록 구간" in html
    assert "정답과 답" in html


def test_candidates_are_listed_with_the_chosen_one_and_its_ties(tmp_path):
    workshop = Workshop(tmp_path)
    one = Candidate(
        name="큰 모델", type="hub", revision="abc", rank=1, chosen=True, n=40,
        nats_per_character=1.2, nats_low=1.1, nats_high=1.3, right=0.4, right_low=0.3,
        right_high=0.5, character_f1=0.613, text_bits_per_character=1.93,
        tokens_per_character=0.6, parameters=10**9, context_length=4096,
        vocabulary=32000, licence="apache-2.0", lora_memory_bytes=5 * 2**30,
    )  # fmt: skip
    other = one.model_copy(
        update={"name": "작은 모델", "rank": 2, "chosen": False, "tied": True, "p_value": 0.3}
    )
    chosen = workshop.publish("select", {"candidates": (Candidate, [one, other])}, {"chosen": "x"})
    made = {"main": {"select": chosen}}
    ((_, listed),) = candidates(made)
    assert [row.name for row in listed] == ["큰 모델", "작은 모델"]
    html = build_report(workshop.open(), made, CallCount(0, 0, 0), "ko")
    for shown in ("5.0 GiB", "무승부", "61.3", "1.93", "정답 40개"):
        assert shown in html
    by_text = one.model_copy(update={"criterion": "text", "right": None, "character_f1": None})
    chosen = workshop.publish("select", {"candidates": (Candidate, [by_text])}, {"chosen": "y"})
    html = build_report(workshop.open(), {"main": {"select": chosen}}, CallCount(0, 0, 0), "ko")
    assert "글 40토막" in html
    assert "학습 후 F1" not in html
    assert replace(Words("ko"), language="en")("tied") == "tie"
