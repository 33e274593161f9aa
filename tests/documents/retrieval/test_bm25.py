import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jangin.documents.bm25 import K1, B, Bm25, PassageIndex

TEXTS = (
    "전세 계약을 갱신하려면 끝나기 두 달 전까지 알려야 한다.",
    "출장비는 돌아온 날부터 이레 안에 청구한다.",
    "The deposit is returned on the day the lease ends.",
    "전세보증금은 계약이 끝난 날 돌려받는다.",
)


@pytest.fixture(scope="module")
def index():
    return PassageIndex.build(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "position"),
    [
        ("출장비는 언제까지 청구하나요?", 1),
        ("when is a deposit returned", 2),
        ("전세보증금을 언제 돌려받나요?", 3),
        ("계약갱신", 0),
    ],
)
def test_a_question_finds_its_passage_whatever_endings_spacing_and_case(index, question, position):
    (hits,) = index.search([question], 3)
    assert hits[0].index == position
    assert 0 < hits[0].score <= 1
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_what_shares_no_term_is_no_hit_even_if_more_are_wanted(index):
    assert list(index.search(["qqq", "Ωμέγα"], 4)) == [[], []]


def test_an_empty_index_finds_nothing_and_an_empty_question_too(index):
    assert list(PassageIndex.build([]).search(["출장비"], 3)) == [[]]
    assert list(index.search(["", "?!"], 3)) == [[], []]


def test_ties_come_in_the_order_of_the_texts_and_no_more_than_wanted():
    index = PassageIndex.build(["b c", "a b", "a b", "a b", "c d"])
    assert [hit.index for hit in next(index.search(["a"], 2))] == [1, 2]
    assert [hit.index for hit in next(index.search(["a"], 9))] == [1, 2, 3]


def test_weights_are_those_of_okapi_bm25_with_lucenes_idf():
    bm25 = Bm25.build([["a", "a", "b"], ["b"], ["c", "b"]])
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    weight = idf * 2 * (K1 + 1) / (2 + K1 * (1 - B + B * 3 / 2))
    assert bm25.weights[0, bm25.vocabulary["a"]] == pytest.approx(weight)


def test_a_word_that_no_text_holds_lowers_the_score():
    bm25 = Bm25.build([["a"], ["b"]])
    known, with_unknown = (bm25.queries([["a"], ["a", "z"]]) @ bm25.weights.T).toarray()[:, 0]
    assert 0 < with_unknown < known < 1


def test_scores_of_pairs_are_the_scores_of_the_whole_table(index):
    questions = ["계약이 끝난 날", "출장비 청구", "the lease"]
    pairs = [(0, 3), (2, 2), (1, 1), (0, 1)]
    table = index.scores(questions)
    assert index.score_pairs(questions, pairs) == pytest.approx([table[pair] for pair in pairs])
    assert index.score_pairs([], []).shape == (0,)


def test_blocks_of_queries_give_what_one_block_gives(index, monkeypatch):
    questions = ["계약", "출장비", "lease", "전세보증금", "qqq"]
    whole = list(index.search(questions, 2))
    monkeypatch.setattr("jangin.documents.bm25.BLOCK_CELLS", 2 * len(TEXTS))
    assert list(index.search(questions, 2)) == whole


@settings(max_examples=40)
@given(st.lists(st.text("ab cd", max_size=12), min_size=1, max_size=6), st.text("abe ", max_size=8))
def test_every_score_is_a_share(texts, question):
    scores = PassageIndex.build(texts).scores([question])
    assert np.all((scores >= 0) & (scores <= 1))
