"""The index of all answers: filters, pages and systems that variants share."""

import pytest

from jangin.report.i18n.translate import Words
from jangin.serving.pages.compare.answers import AnswerFilter, AnswerTable
from tests.report.workshop import HOSTILE, Workshop, predictions


@pytest.fixture
def chosen(table):
    return AnswerFilter(*table.usual_pair())


def test_a_system_that_answered_the_same_in_every_variant_is_there_once(table):
    assert [system.key for system in table.systems] == [
        "plain/base", "plain/tuned", "paraphrased/tuned",
    ]  # fmt: skip
    assert [one.key for one in table.usual_pair()] == ["plain/tuned", "paraphrased/tuned"]
    labels = [system.label(Words("en")) for system in table.systems]
    assert labels[0] == Words("en")("base")
    assert labels[1].startswith("plain · ")


def test_one_variant_is_compared_with_its_base(tmp_path):
    made = Workshop(tmp_path).made(plain=predictions(3))
    table = AnswerTable({"plain": made["plain"]["evaluate"]})
    assert [one.key for one in table.usual_pair()] == ["plain/base", "plain/tuned"]
    assert table.system("plain/tuned").label(Words("en")) == Words("en")("tuned")
    assert table.system("plain/none") is None


def test_questions_are_filtered_by_what_changed_by_set_and_by_text(table, chosen):
    counts = table.page(chosen).counts
    assert counts == {"": 16, "won": 7, "lost": 0, "changed": 7, "wrong": 6}
    first, second = chosen.first, chosen.second
    turned = table.page(AnswerFilter(second, first, "lost"))
    assert turned.count == 7
    for question in turned.questions:
        assert question.answer_of(second).right
        assert not question.answer_of(first).right
    unseen = table.page(AnswerFilter(first, second, "won", "unseen_sections"))
    assert [question.evidence_set for question in unseen.questions] == ["unseen_sections"]
    one = table.page(AnswerFilter(first, second, search="11번 휴가"))
    assert [question.question for question in one.questions] == [
        "11번 휴가는 며칠입니까? paraphrase"
    ]
    assert table.page(AnswerFilter(first, second, search="11번 없는말")).count == 0
    assert table.page(AnswerFilter(first, second, search=".*")).count == 0


def test_pages_follow_each_other_without_gaps_and_back(table, chosen):
    seen, after, previous = [], "", []
    while after is not None:
        page = table.page(chosen, after, size=5)
        assert page.start == len(seen)
        seen += [question.key for question in page.questions]
        previous.append(page.previous)
        after = page.next
    assert len(seen) == len(set(seen)) == len(table) == 16
    assert previous == [None, "", seen[4], seen[9]]
    assert table.page(chosen, "test:gone", size=5).start == 0


def test_a_question_has_every_answer_with_its_grade_and_source(table):
    key = table.page(AnswerFilter(*table.usual_pair(), search="2번 휴가")).questions[0].key
    question = table.question(key)
    assert (question.source, question.page) == ("규정/취업 규칙.pdf", 3)
    assert [answer.right for answer in question.answers] == [False, True, True]
    assert [answer.form for answer in question.answers] == [False, True, True]
    assert table.question("test:gone") is None


def test_text_of_a_question_is_kept_as_it_is(tmp_path):
    rows = [row.model_copy(update={"prediction": HOSTILE}) for row in predictions(3)]
    made = Workshop(tmp_path).made(plain=rows)
    table = AnswerTable({"plain": made["plain"]["evaluate"]})
    assert table.page(AnswerFilter(*table.usual_pair(), search="<SCRIPT>")).count == 16
