import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.metrics.scores.similarity import SIMILARITIES, gleu, meteor, rouge_n

TEXT = "직원의 연차휴가는 한 해에 15일이며 다음 해로 이월되지 않는다"
OTHER = "직원의 연차휴가는 한 해에 15일이며 다음 해로 넘어간다"


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_ranks_equal_before_close_before_unrelated_texts(name):
    score = SIMILARITIES[name]
    text, close = TEXT, OTHER
    assert score(text, text) == pytest.approx(1, abs=0.02)  # METEOR: 1 - 0.5 / n ** 3
    assert score(text, text) > score(close, text) > score("완전히 무관함", text)
    assert score("", "") == 1 if name != "bleu" else score("", "") == 0
    assert score("", text) == 0


@given(st.text(max_size=30), st.text(max_size=30))
def test_every_similarity_of_any_texts_is_between_0_and_1(text, reference):
    for name, score in SIMILARITIES.items():
        assert 0 <= score(text, reference) <= 1, name


def test_values_computed_by_hand():
    # All six words match in three runs, "the cat", "sat" and "on the mat": less 0.5 * 0.5 ** 3.
    assert meteor("the cat sat on the mat", "on the mat sat the cat") == pytest.approx(0.9375)
    # Two of four words match, in one run: precision 1/2, recall 2/3, weighted 1 to 9.
    mean = (1 / 2) * (2 / 3) / (0.9 * 1 / 2 + 0.1 * 2 / 3)
    assert meteor("a b x y", "a b c") == pytest.approx(mean * (1 - 0.5 / 8))
    # Bigrams "the cat", "cat sat" against "the cat", "cat is": one of two each.
    assert rouge_n(2)("the cat sat", "the cat is") == 0.5
    # Of 6 n-grams each, "the", "cat" and "the cat" are common.
    assert gleu("the cat sat", "the cat is") == 0.5
