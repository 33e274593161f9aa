import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.text.dedup import question_copies
from jangin.text.dedup.question_copies import find_near_copies

WORDS = st.sampled_from(
    ["휴가는", "휴가를", "병가는", "언제까지", "쓸수", "1년", "2년", "신청한", "신청하는"]
)
TEXTS = st.lists(
    st.lists(WORDS, max_size=6).flatmap(
        lambda words: st.sampled_from(["있나요", "있습니까", "며칠", ""]).map(
            lambda last: " ".join([*words, last])
        )
    )
    | st.text(alphabet="가나다 1?", max_size=20),
    max_size=8,
)
STEMS = {"휴가는": "휴가", "휴가를": "휴가", "병가는": "병가", "신청한": "신청", "신청하는": "신청"}


def is_copy(left, right):
    return bool(list(find_near_copies([left], [right])))


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_a_pair_is_found_among_many_if_and_only_if_it_is_found_alone(left, right):
    copies = [(copy.left, copy.right, copy.kind) for copy in find_near_copies(left, right)]
    expected = [
        (i, j, copy.kind)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        for copy in find_near_copies([a], [b])
    ]
    assert copies == expected
    assert len(set(copies)) == len(copies)


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_a_copy_is_one_in_both_directions(left, right):
    forward = {(c.left, c.right, c.similarity) for c in find_near_copies(left, right)}
    backward = {(c.right, c.left, c.similarity) for c in find_near_copies(right, left)}
    assert forward == backward


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_copies_are_the_same_with_and_without_an_index_of_grams(left, right):
    by_words = list(find_near_copies(left, right))
    own = list(find_near_copies(left, left))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(question_copies, "FEW", 0)
        assert list(find_near_copies(left, right)) == by_words
        assert list(find_near_copies(left, left)) == own
    assert list(find_near_copies(left, list(left))) == own


@given(TEXTS)
def test_every_text_with_a_letter_is_an_exact_copy_of_itself(texts):
    exact = {(c.left, c.right) for c in find_near_copies(texts, texts) if c.kind == "exact"}
    assert {(i, i) for i, text in enumerate(texts) if text.strip(" ?")} <= exact


@given(st.lists(WORDS, min_size=1, max_size=7), st.lists(WORDS, min_size=1, max_size=7))
def test_near_copies_are_those_of_the_definition(left_words, right_words):
    left, right = " ".join([*left_words, "쓰나요"]), " ".join([*right_words, "쓰나요"])
    a, b = left.replace(" ", ""), right.replace(" ", "")

    def copies(short, long, short_words, long_words):
        pieces = {short[i : i + 5] for i in range(len(short) - 4)}
        others = {long[i : i + 5] for i in range(len(long) - 4)}
        stems = [{STEMS.get(word, word) for word in words} for words in (short_words, long_words)]
        return (
            len(pieces & others) >= 0.8 * len(pieces) - 1e-9
            and abs(len(short) - len(long)) <= 0.2 * max(len(short), len(long))
            and stems[0] <= stems[1]
            and sorted(c for c in short if c in "12") == sorted(c for c in long if c in "12")
        )

    expected = (
        a == b or copies(a, b, left_words, right_words) or copies(b, a, right_words, left_words)
    )
    assert is_copy(left, right) == expected


def test_particles_and_endings_make_no_other_word():
    question = "이 회사에 처음 입사한 뒤 1년이 넘게 지난 정규 직원의 연차휴가는 모두 며칠입니까?"
    assert is_copy(question, question.replace("휴가는", "휴가가"))
    assert is_copy(question, question.replace("입사한", "입사하신"))
    assert is_copy(question, question.replace("며칠입니까", "며칠인가요"))
    assert not is_copy(question, question.replace("휴가는", "수당은"))
    assert not is_copy(question, question.replace("직원", "사장"))
    assert not is_copy(question, question.replace("1년", "3년"))
    assert is_copy(question, question.replace("회사에", "우리 회사에"))
    assert not is_copy(question, question.replace("회사에", "2호 회사에"))


def test_a_copy_is_found_though_another_text_has_its_rarest_piece():
    question = "직원의연차휴가신청서를내는제출기한은며칠{}"
    left = [question.format("입니까"), question.format("이지요"), "오늘은며칠인가요"]
    right = [question.format("인가요"), question.format("이더라"), "오늘은며칠입니까"]
    copies = {(copy.left, copy.right) for copy in find_near_copies(left, right)}
    assert copies == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.slow
def test_thousands_of_questions_from_one_template_are_not_compared_pair_by_pair():
    generator = random.Random(0)

    def word():
        return "".join(chr(generator.randrange(0xAC00, 0xD7A4)) for _ in range(2))

    texts = [f"회사에서 {word()} 때문에 그러는데 서류 기한 좀 알려 주실래요" for _ in range(3000)]
    started = time.process_time()
    copies = [copy for copy in find_near_copies(texts, texts) if copy.left != copy.right]
    assert len(copies) < 10
    assert time.process_time() - started < 20
