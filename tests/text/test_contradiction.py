import pytest

from jangin.text.contradiction import (
    aligned,
    alike_passages,
    difference,
    masked,
    question_key,
    said,
)

DIFFERENT = [
    ("통산 3년", "통산 2년", "amount"),
    ("1년", "6개월", "amount"),
    ("만 8세 이하의 자녀", "만 6세 이하", "amount"),
    ("30일 전까지", "2주 전까지", "amount"),
    ("1인당 35만 원", "1인당 30만 원", "amount"),
    ("2026년 3월 2일", "2026년 3월 4일", "date"),
    ("오전 9시부터 오후 6시", "오전 10시부터 오후 6시", "date"),
    ("가능합니다", "불가능합니다", "negation"),
    ("30일 이내 취소 가능", "30일 이내 취소 불가", "negation"),
    ("Yes, it is covered", "No, it is not covered", "negation"),
    ("24 months", "12 months", "amount"),
    ("Parts only", "Parts and labour", "words"),
    ("교무처장", "총장", "words"),
    ("월요일", "화요일", "words"),
]
SAME = [
    ("1년", "12개월"),
    ("14일", "2주"),
    ("6개월", "180일"),
    ("3년", "통산 3년까지 가능하며 한 번에 1년입니다"),
    ("3년을 초과할 수 없습니다", "3년까지 할 수 있습니다"),
    ("제12조에 따라 3년", "제14조에 따라 3년"),
    ("2026년 기준 3년", "2023년 기준 3년"),
    ("4312000", "4,312,000원"),
    ("two years", "24 months"),
    ("not more than 30 days", "up to 30 days"),
    ("학사팀", "학사팀에서 담당합니다"),
    (
        "등록금을 낸 뒤 포털에서 신청서를 작성하여 학과 사무실에 제출합니다",
        "먼저 등록금을 납부하고, 신청서는 포털에서 씁니다. 낼 곳은 학과 사무실입니다",
    ),
]


@pytest.mark.parametrize(("one", "two", "kind"), DIFFERENT)
def test_answers_with_other_facts_contradict_each_other(one, two, kind):
    for first, second in ((one, two), (two, one)):
        assert difference(said(first), said(second), same_question=True) == kind


@pytest.mark.parametrize(("one", "two"), SAME)
def test_answers_in_other_words_or_with_more_detail_do_not(one, two):
    for first, second in ((one, two), (two, one)):
        assert difference(said(first), said(second), same_question=True) == ""


def test_the_same_question_in_other_words_has_the_same_key():
    for wordings in (
        ("일반휴학은 통산 몇 년까지 가능한가요?", "일반 휴학의 통산 한도는 얼마인가요?"),
        ("How long is the warranty period?", "What is the maximum warranty period?"),
        ("육아휴학은 자녀가 몇 세까지 가능한가요?", "육아휴학 대상 자녀의 나이는 몇 세인가요?"),
        ("분실물은 얼마 동안 보관하나요?", "분실물의 보관 기간은 얼마인가요?"),
        ("세 번 위반하면 어떻게 되나요?", "3회 위반하면 어떻게 되나요?"),
        ("Are two visits a week allowed?", "Are 2 visits per week allowed?"),
    ):
        assert len({question_key(wording) for wording in wordings}) == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("도서관 개관 시간은 언제인가요?", "체육관 개관 시간은 언제인가요?"),
        ("휴학 신청 기한은 며칠인가요?", "군휴학 신청 기한은 며칠인가요?"),
        ("P-100의 보증 기간은?", "S-10의 보증 기간은?"),
        ("How long is the warranty of the pump?", "How long is the warranty of the motor?"),
        ("2025년 수업료는 얼마인가요?", "2026년 수업료는 얼마인가요?"),
        ("세 번 위반하면 어떻게 되나요?", "두 번 위반하면 어떻게 되나요?"),
    ],
)
def test_questions_about_other_things_have_other_keys(one, two):
    assert question_key(one) != question_key(two)


def test_passages_that_differ_in_amounts_are_alike_and_those_about_other_things_are_not():
    texts = [
        "① 일반휴학은 통산 3년(6학기)을 초과할 수 없다.",
        "① 일반휴학은 통산 2년(4학기)을 초과할 수 없다.",
        "도서관은 오전 9시에 연다. 일요일에는 쉰다.",
        "체육관은 오전 6시에 연다. 일요일에는 쉰다.",
    ]
    read = [masked(text) for text in texts]
    owners = ["new", "old", "a", "b"]
    assert alike_passages([words for words, _ in read], owners) == [(0, 1)]
    pairs = list(aligned(read[0][1], read[1][1]))
    assert [(a.text, b.text) for a, b in pairs] == [("3년", "2년"), ("6", "4")]
    assert alike_passages([words for words, _ in read[:2]], ["one", "one"]) == []


SPELLED = (
    ("매월 둘째 주 화요일입니다", "매월 셋째 주 화요일입니다", "매달 두 번째 주 화요일"),
    ("해마다 한 번 받습니다", "2년마다 한 번 받습니다", "매년 1회 받습니다"),
    ("열흘 안에 냅니다", "보름 안에 냅니다", "10일 안에 냅니다"),
    ("십사 일 이내", "이십 일 이내", "14일 이내"),
    ("once a year", "twice a year", "1 time every year"),
    ("within fourteen days", "within thirty days", "within 14 days"),
    ("twenty-one days", "22 days", "21 days"),
    ("every other year", "annually", "every two years"),
    ("the second Monday of the month", "the third Monday of the month", "The second Monday"),
)


@pytest.mark.parametrize(("one", "other", "same"), SPELLED)
def test_numbers_ordinals_and_frequencies_in_words_are_amounts(one, other, same):
    assert difference(said(one), said(other), same_question=True) == "amount"
    assert difference(said(one), said(same), same_question=True) == ""
