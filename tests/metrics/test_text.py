import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.metrics.scores.character_f1 import character_f1
from jangin.metrics.scores.chrf import chrf
from jangin.metrics.scores.rouge_l import rouge_l
from jangin.metrics.text import contains, exact_match, normalise_answer


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


def test_f1_counts_each_occurrence_of_a_character():
    assert character_f1("가가가", "가") == pytest.approx(0.5)


def test_decomposed_hangul_equals_composed_hangul():
    assert exact_match(unicodedata.normalize("NFD", "세종대왕"), "세종대왕") == 1


@pytest.mark.parametrize(("prediction", "gold", "f1"), [("", "", 1), ("", "답", 0), ("답", "", 0)])
def test_both_empty_is_right_and_one_empty_is_wrong(prediction, gold, f1):
    assert character_f1(prediction, gold) == exact_match(prediction, gold) == f1


@given(st.text(), st.text())
def test_f1_is_symmetric_within_bounds_and_1_on_exact_matches(left, right):
    f1 = character_f1(left, right)
    assert 0 <= f1 <= 1
    assert f1 == character_f1(right, left)
    assert f1 >= exact_match(left, right)
    assert exact_match(left, left) == 1


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("정답은 세종 대왕입니다.", "세종대왕", 1),
        ("《훈민정음》이다", "훈민정음", 1),
        ("세종", "세종대왕", 0),
        ("anything", "", 0),
        ("", "", 1),
    ],
)
def test_a_gold_answer_is_found_inside_a_longer_one(prediction, gold, expected):
    assert contains(prediction, gold) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "score"),
    [
        ("the cat sat on the mat", "the cat on the mat", 2 * 5 / 11),
        ("고양이가 매트에 앉았다", "고양이가 앉았다", 2 * 2 / 5),
        ("the cat", "the cat", 1),
        ("a b", "c d", 0),
        ("", "", 1),
        ("a", "", 0),
    ],
)
def test_rouge_l_is_the_longest_common_subsequence_of_words(prediction, gold, score):
    assert rouge_l(prediction, gold) == pytest.approx(score)


def test_chrf_is_between_nothing_in_common_and_the_same_text():
    assert chrf("연차는 15일", "연차는 15일") == pytest.approx(1)
    assert chrf("abc", "가나다") == 0
    assert 0.2 < chrf("연차는 열다섯 일", "연차는 15일") < 0.9
