import random

import pytest

from jangin.text.wordings import MOST_ALIKE, lookup_hits, similarity, wording_similarity

SUBJECTS = (
    "휴학",
    "복학",
    "기숙사 통금",
    "장학금",
    "등록금 납부",
    "계절학기",
    "도서관 대출",
    "전과 신청",
)
FRAMES = (
    "{}의 한도는 얼마인가요?", "{} 한도 알려 주세요.", "{}의 한도가 어떻게 되나요?",
    "혹시 {}의 한도를 아시나요?", "{}의 한도가 궁금합니다.",
)  # fmt: skip
ENGLISH = (
    "What is the limit of {}?", "Please tell me the limit of {}.", "I want to know {} limits.",
    "How high is the limit for {}?", "Could you name the limit of {}?",
)  # fmt: skip
OWN = {  # as different people asked
    "a": (["휴학은 몇 번까지 되나요?", "휴학 횟수 제한", "최대 몇 학기 쉴 수 있어?"],
          "쉬는 거 몇 번 가능한가요"),
    "b": (["기숙사 통금은 몇 시인가요?", "기숙사 문 언제 잠가요?", "통금 시간"],
          "밤에 몇 시까지 들어가야 하나요"),
    "c": (["책은 며칠 빌리나요?", "도서관 대출 기간", "책 반납 언제까지"],
          "빌린 책 얼마나 갖고 있어도 되죠"),
}  # fmt: skip


@pytest.mark.parametrize("frames", [FRAMES, ENGLISH])
def test_wordings_of_a_template_are_alike_whatever_their_letters_share(frames):
    trained, held_out = {}, []
    for number, subject in enumerate(SUBJECTS):
        wordings = [frame.format(subject) for frame in frames]
        held_out.append((subject, wordings.pop(number % len(wordings))))
        trained[subject] = wordings
    known = wording_similarity(trained, held_out)
    assert known.alike >= 0.75  # people's own wordings: 0.19, see docs/measurements.md
    assert known.is_alike


def test_wordings_that_people_chose_themselves_are_not():
    known = wording_similarity(
        {n: w for n, (w, _) in OWN.items()}, [(n, h) for n, (_, h) in OWN.items()]
    )
    assert known.questions == 3
    assert known.alike < MOST_ALIKE
    assert known.similarity < 0.5


def test_a_nearly_equal_wording_is_alike_without_any_template():
    trained = {"a": ["휴학은 몇 번까지 되나요?"], "b": ["책은 며칠 빌리나요?"]}
    known = wording_similarity(
        trained, [("a", "휴학은 몇 번까지 되나요"), ("a", "휴학 몇 번까지 되나요?")]
    )
    assert (known.alike, known.similarity > 0.8) == (1.0, True)


def test_only_wordings_of_trained_questions_count():
    assert wording_similarity({"a": ["휴학은 몇 번?"]}, [("b", "복학은 몇 번?")]) is None
    assert wording_similarity({}, []) is None


def test_similarity_is_that_of_pairs_of_letters_and_ignores_spaces_and_case():
    assert similarity("TOPIK 5급", "topik5급!") == 1.0
    assert similarity("가나다", "라마바") == 0.0
    order = list("가나다라마바사")
    random.Random(0).shuffle(order)
    assert 0 <= similarity("가나다라마바사", "".join(order)) < 0.5


def test_a_lookup_finds_wordings_that_are_like_trained_ones_and_no_others():
    trained = ["연차휴가는 며칠인가요?", "연차 일수 알려 주세요", "출장비는 얼마인가요?"]
    answers = ["15일", "15일", "3만 원"]
    held = [("연차휴가가 며칠이죠?", "15일"), ("출장비 얼마죠?", "3만 원"), ("출장비?", "15일")]
    assert lookup_hits(trained, answers, held) == pytest.approx(2 / 3)
    assert lookup_hits(trained, answers, [("xyz", "15일")]) == 0.0
    assert lookup_hits([], [], held) is None
    assert lookup_hits(trained, answers, []) is None
