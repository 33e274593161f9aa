"""Blind judgements: the order, the queue of each person, and what survives a restart."""

import pytest

from jangin.core.errors import DataError
from jangin.evaluation.blind_judgements import read_judgements
from jangin.report.data.verdict import peoples_judgements
from jangin.serving.pages.compare.answers import AnswerTable
from jangin.serving.pages.compare.blind import BlindReview, log_of
from tests.report.workshop import Workshop, predictions


@pytest.fixture
def open_review(table, tmp_path):
    def open_as(by="김", evidence_set=""):
        a, b = table.usual_pair()
        return BlindReview(table, log_of(tmp_path), a, b, by, evidence_set)

    return open_as


def prefer(review, system, count):
    """Judge `count` questions for a system, wherever its answer is shown."""
    for _ in range(count):
        asked = review.next_question()
        review.judge(asked.question.key, "first" if asked.first.system == system else "second")


def test_only_questions_with_different_answers_are_asked_and_each_once(open_review):
    review = open_review()
    assert (review.progress().count, review.progress().equal) == (7, 9)
    keys = []
    while (asked := review.next_question()) is not None:
        assert asked.first.text != asked.second.text
        keys.append(asked.question.key)
        review.judge(asked.question.key, "tie")
    assert len(set(keys)) == 7
    again = open_review()
    assert again.progress().judged == 7
    assert again.progress().last == keys[-1]
    assert open_review("이").next_question().question.key == keys[0]


def test_what_is_shown_first_differs_between_people_and_questions(open_review, table):
    a = table.usual_pair()[0]
    keys = open_review()._keys()[0]
    orders = {
        by: [open_review(by).shown(key).first.system == a for key in keys]
        for by in ("김", "이", "박", "최", "정")
    }
    assert len({tuple(order) for order in orders.values()}) > 1
    assert not all(all(order) for order in orders.values())
    assert orders["김"] == [open_review().shown(key).first.system == a for key in keys]


def test_preferences_count_for_the_system_wherever_it_was_shown(open_review, table, made, tmp_path):
    a, b = table.usual_pair()
    review = open_review()
    prefer(review, b, 5)
    prefer(open_review("이"), b, 2)
    whole = open_review().standings()[0].report
    assert (whole.n, whole.verdicts, whole.losses, whole.judges) == (5, 7, 5, 2)
    assert open_review().judges() == [("김", 5, 0), ("이", 2, 0)]
    (pair,) = peoples_judgements(tmp_path, made).pairs
    assert (pair.a, pair.b) == (a.contestant, b.contestant)
    assert pair.standings[0].report == whole


def test_undo_brings_the_question_back(open_review):
    review = open_review()
    first = review.next_question().question.key
    review.judge(first, "both_bad")
    assert review.next_question().question.key != first
    assert review.undo() == first
    assert review.next_question().question.key == first
    assert review.undo() == ""


def test_judgements_after_the_names_were_shown_do_not_count(open_review, table, made, tmp_path):
    review = open_review()
    prefer(review, table.usual_pair()[0], 2)
    review.reveal()
    assert review.progress().named
    prefer(review, table.usual_pair()[0], 3)
    assert review.standings()[0].report.n == 2
    assert review.judges() == [("김", 2, 3)]
    assert not open_review("이").progress().named
    assert peoples_judgements(tmp_path, made).pairs[0].not_blind == 3


def test_judgements_of_answers_that_changed_do_not_count(open_review, table, tmp_path):
    prefer(open_review(), table.usual_pair()[0], 7)
    made = Workshop(tmp_path).made(plain=predictions(3), paraphrased=predictions(7, 0))
    again = AnswerTable({name: stages["evaluate"] for name, stages in made.items()})
    review = BlindReview(again, log_of(tmp_path), *again.usual_pair(), "김")
    assert (review.progress().judged, review.outdated) == (4, 3)
    assert peoples_judgements(tmp_path, made).outdated == 3
    assert len(read_judgements(log_of(tmp_path))) == 7


def test_a_question_that_a_new_run_replaced_is_refused(open_review, table):
    review = open_review()
    with pytest.raises(DataError, match="not part of the evaluation any more"):
        review.judge("test:gone", "first")
    a = table.usual_pair()[0]
    with pytest.raises(DataError, match="with itself"):
        BlindReview(table, review.log, a, a, "김")


def test_a_test_set_can_be_chosen(open_review):
    review = open_review(evidence_set="unseen_sections")
    assert review.progress().count == 1
    review.judge(review.next_question().question.key, "tie")
    assert review.next_question() is None
    assert open_review().progress().judged == 1
