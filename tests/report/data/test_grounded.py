"""The page of a project whose model reads passages: its first sentence and its tables."""

import re
from xml.etree import ElementTree as ET

import pytest

from jangin.core.ledger import CallCount
from jangin.core.records import Example, Message
from jangin.evaluation.grounded import TRAINED_WITH, Grounding, SearchLimit
from jangin.evaluation.recall import Recall
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.facts import VERSION
from jangin.metrics.statistics import smallest_visible_difference
from jangin.report.i18n.translate import Words
from jangin.report.page import build_report
from tests.report.workshop import Workshop

SET = "unseen_sections"


def predictions(right):
    """40 questions about unseen sections, of which each system has the first few right."""
    rows = []
    for system, count in right.items():
        for number in range(40):
            prompt = (Message(role="user", content=f"How many days is leave {number}?"),)
            answer = Message(role="assistant", content=f"{number + 100} days")
            asked = Example.make(prompt, answer, (), kind="original", source="rules.md")
            text = asked.answer if number < count else "I do not know"
            rows.append(grade_prediction(asked, SET, system, text))
    return rows


@pytest.fixture
def page_of(tmp_path):
    """The page of an evaluation where each system has so many of 40 questions right."""

    def make(language, trained=True, **right):
        right = {name.replace("_", " + "): count for name, count in right.items()}
        rows = predictions({"base": 0, "tuned": 1, **right})
        figures = {
            "recall": (
                Recall,
                [
                    Recall(
                        evidence_set=SET, ranking="bm25", depth=depth, n=40, recall=share,
                        low=share - 0.05, high=share + 0.02,
                    )
                    for depth, share in ((1, 0.925), (3, 0.95), (10, 0.975))
                ],
            ),
            "limits": (
                SearchLimit,
                [
                    SearchLimit(
                        evidence_set=SET, limit=0.215, calibrated_on=77, n=40, refused_rightly=31,
                        refused_wrongly=1,
                    )
                ],
            ),
            "grounding": (
                Grounding,
                [
                    Grounding(
                        evidence_set=SET, system=system, n=40, right=count, known=40, own_read=38,
                        citation_right=37, stating=0, faithful=0, answered=39,
                        right_answered=min(count, 39),
                    )
                    for system, count in right.items()
                ],
            ),
            "predictions": (Prediction, rows),
            "results": (Result, summarise(rows)),
            "comparisons": (Comparison, compare_systems(rows)),
        }  # fmt: skip
        summary = {"publishable": True, "facts_version": VERSION, TRAINED_WITH: trained}
        workshop = Workshop(tmp_path)
        made = {"evaluate": workshop.publish("evaluate", figures, summary)}
        html = build_report(workshop.open(), {"main": made}, CallCount(0, 0, 0), language)
        return re.sub("&nbsp;|\N{NO-BREAK SPACE}", " ", html)

    return make


def first_sentence(html):
    return re.search(r'<div class="verdict (\w+)".*?<p>.*?</span>(.*?)</p>', html, re.DOTALL)


@pytest.mark.parametrize(
    ("tuned", "tone", "says"),
    [
        (39, "good", "the trained model is better (p = 0.0156"),
        (33, "unsure", "no difference is shown (p = 1"),
        (9, "bad", "training is not worth it for these questions"),
    ],
)
def test_a_page_opens_with_the_tuned_model_beside_the_best_alternative(page_of, tuned, tone, says):
    html = page_of("en", base_retrieval=20, gpt_retrieval=32, tuned_retrieval=tuned)
    shown = first_sentence(html)
    assert shown[1] == tone
    share = f"{100 * tuned / 40:.0f} %"
    assert shown[2].startswith(f"With the documents at hand, the trained model answers {share} [")
    assert "gpt + retrieval, " in shown[2]
    assert "80 % [65 to 90 %]" in shown[2]
    assert says in shown[2]
    assert "sent to an endpoint" in html
    assert "trained without passages" not in html


def test_few_questions_and_a_model_that_cannot_read_are_said(page_of):
    html = page_of("en", trained=False, base_retrieval=30, tuned_retrieval=32)
    assert "For right answers alone, training is not worth it here" in first_sentence(html)[2]
    points = Words("en").points(smallest_visible_difference(40))
    assert f"With 40 questions, a difference below {points} points cannot be detected." in html
    assert "trained without passages" in html
    assert "sent to an endpoint" not in html


def test_without_passages_a_page_opens_as_before(page_of):
    assert "With the documents at hand" not in page_of("en", trained=False)


def test_a_model_that_always_reads_passages_opens_the_page_under_its_own_name(page_of):
    html = page_of("en", base_retrieval=20, tuned=39)
    assert "the trained model is better" in first_sentence(html)[2]


def test_the_korean_page_has_every_figure_of_search_limit_and_citations(page_of):
    html = page_of("ko", base_retrieval=20, tuned_retrieval=34)
    assert first_sentence(html)[2].startswith("문서를 함께 줄 때 가르치지 않은 부분에 관한 질문")
    for shown in (
        "검색이 찾아내는 것", "92.5%", "97.5%",
        "0.215보다 낮으면", "학습 질문 77개", "77.5%", "2.5%",
        "조각과 함께 한 답", "95.0%", "85.0%", "87.2%",
    ):  # fmt: skip
        assert shown in html, shown
    body = re.search(r"<main>.*</main>", html, re.DOTALL).group()
    ET.fromstring(body)
