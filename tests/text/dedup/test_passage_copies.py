import unicodedata

import pytest

from jangin.text.dedup.passage_copies import find_copies


def copies_of(texts):
    return {copy.row: copy.twin for copy in find_copies(texts)}


TEXT = "보증금은 계약이 끝난 날부터 7일 안에 세입자에게 돌려주어야 한다고 정하였다."


@pytest.mark.parametrize(
    "other",
    [
        unicodedata.normalize("NFD", TEXT),
        TEXT.replace(" ", "").replace(".", "!"),
        f"알려 드립니다. {TEXT} 자세한 것은 본문을 보세요.",
        TEXT[:-8],
        TEXT.replace("정하였다", "정했다"),
    ],
    ids=["decomposed", "spacing", "around it", "part of it", "nearly"],
)
def test_a_repeated_passage_is_a_copy_of_the_first(other):
    assert copies_of([TEXT, "전혀 다른 이야기입니다.", other]) == {2: 0}
    assert copies_of([other, TEXT]) == {1: 0}


@pytest.mark.parametrize(
    "other",
    [TEXT.replace("7일", "14일"), "계약이 끝난 날", "이사비는 영수증을 내면 받습니다."],
    ids=["other number", "short part", "another"],
)
def test_what_says_something_else_stays(other):
    assert copies_of([TEXT, other]) == {}


def test_copies_of_copies_point_at_the_one_that_stays():
    assert copies_of([TEXT, f"{TEXT} ", TEXT]) == {1: 0, 2: 0}
    assert copies_of([]) == {}
