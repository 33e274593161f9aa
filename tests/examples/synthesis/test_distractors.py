import pytest

from jangin.examples.synthesis.multiple_choice import check_distractor, same

TEXT = (
    "연차휴가는 15일이다. 병가는 60일까지 쓸 수 있다. 출장비는 돌아온 날부터 7일 안에 청구한다. "
    "신청은 인사팀이 받고, 청구는 회계팀이 받는다."
)


def problem(distractor, question="연차휴가는 며칠인가?", answer="15일", others=()):
    evidence = "연차휴가는 15일이다" if answer == "15일" else "신청은 인사팀이 받고"
    return check_distractor(distractor, question, answer, list(others), evidence, TEXT).rule


@pytest.mark.parametrize(
    ("distractor", "rule"),
    [
        ("20일", ""),
        ("60일", ""),
        ("십 일", "form"),
        (" ", "empty"),
        ("15 일", "same"),
        ("10일", "same"),
        ("15시간", "form"),
        ("20", "form"),
        ("twenty", "form"),
        ("20일 동안이며 그 뒤에는 다시 신청하여야 한다", "length"),
    ],
)
def test_a_wrong_answer_has_the_form_of_the_right_one(distractor, rule):
    assert problem(distractor, others=("10일",)) == rule


@pytest.mark.parametrize(
    ("distractor", "question", "rule"),
    [
        ("총무팀", "휴가 신청은 어느 부서가 받나?", ""),
        ("회계팀", "휴가 신청은 어느 부서가 받나?", "supported"),
        ("회계팀", "병이 났을 때 누구에게 말하나?", ""),
    ],
)
def test_what_the_source_may_say_is_no_wrong_answer(distractor, question, rule):
    text = "휴가 신청은 인사팀이 받는다.\n휴가 신청은 회계팀도 받는다."
    evidence = "휴가 신청은 인사팀이 받는다"
    decision = check_distractor(distractor, question, "인사팀", [], evidence, text)
    assert (decision.rule, decision.keep) == (rule, not rule)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("3만 원", "30,000원", True),
        ("하루 3만 원", "하루 30,000원", True),
        ("하루 3만 원", "한 달 30,000원", False),
        ("인사팀", "인사 팀", True),
        ("15일", "16일", False),
    ],
)
def test_amounts_are_the_same_however_they_are_written(left, right, expected):
    assert same(left, right) is expected
