import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.grading.answers import character_f1, exact_match, grade_answer, normalise_answer


def test_quotes_and_brackets_of_any_script_do_not_count():
    assert exact_match("《훈민정음》", "훈민정음") == 1
    assert exact_match("‘대한민국’ (Korea)", "대한민국 korea.") == 1
    assert normalise_answer("'a\"《b》<c>〈d〉(e)‘f’") == "a b c d e f"


def test_a_particle_costs_a_little_f1_and_the_exact_match():
    assert exact_match("세종대왕이", "세종대왕") == 0
    assert character_f1("세종대왕이", "세종대왕") == pytest.approx(8 / 9)


def test_spaces_count_for_the_exact_match_but_not_for_f1():
    assert exact_match("서울 특별시", "서울특별시") == 0
    assert character_f1("서울 특별시", "서울특별시") == 1


def test_f1_counts_how_often_a_character_stands_there():
    assert character_f1("가가가", "가") == pytest.approx(0.5)


def test_decomposed_hangul_equals_composed_hangul():
    assert exact_match(unicodedata.normalize("NFD", "세종대왕"), "세종대왕") == 1


@pytest.mark.parametrize(("prediction", "gold", "f1"), [("", "", 1), ("", "답", 0), ("답", "", 0)])
def test_both_empty_is_right_and_one_empty_is_wrong(prediction, gold, f1):
    assert character_f1(prediction, gold) == exact_match(prediction, gold) == f1


def test_the_best_gold_answer_counts():
    grade = grade_answer("1989년", ["1989년 2월", "1989년"])
    assert (grade.exact, grade.f1) == (1, 1)
    assert grade_answer("임수경 씨", ["임종석", "임수경"]).f1 == pytest.approx(6 / 7)


def test_no_gold_answer_is_the_callers_mistake():
    with pytest.raises(ValueError, match="empty"):
        grade_answer("답", [])


@given(st.text(), st.text())
def test_f1_is_symmetric_within_bounds_and_1_on_exact_matches(left, right):
    f1 = character_f1(left, right)
    assert 0 <= f1 <= 1
    assert f1 == character_f1(right, left)
    assert f1 >= exact_match(left, right)
    assert exact_match(left, left) == 1
