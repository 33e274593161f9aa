import pytest

from jangin.text.content_words import proper_names
from jangin.text.grounding import check_answer, locate, support

SOURCE = (
    "제12조(연차휴가) 회사는 1년간 80퍼센트 이상 출근한 직원에게 15일의 유급휴가를 준다. "
    "휴가 신청은 인사팀 박하늘 과장이 받으며, ERP에서 낸다."
)
ENGLISH = "Staff ask Dana Reyes of the travel desk for a refund within seven days."


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("15일", SOURCE),
        ("1년에 15일입니다.", SOURCE),
        ("박하늘 과장", SOURCE),
        ("ERP", SOURCE),
        ("네, 80% 이상이면 됩니다.", SOURCE),
        ("Dana Reyes", ENGLISH),
        ("They ask Dana Reyes within 7 days.", ENGLISH),
    ],
)
def test_what_the_source_says_is_supported(answer, source):
    result = check_answer(answer, source, proper_names([answer])[0])
    assert result.missing == ()
    assert result.grounded == 1


@pytest.mark.parametrize(
    ("answer", "source", "missing"),
    [
        ("25일", SOURCE, ("25일",)),
        ("12일", SOURCE, ("12일",)),
        ("김철수 과장", SOURCE, ("김철수",)),
        ("SAP에서 낸다", SOURCE, ("sap",)),
        ("15일, 25일", SOURCE, ("25일",)),
        ("They ask Marcus Reyes.", ENGLISH, ("marcus",)),
    ],
)
def test_invented_numbers_and_names_are_named(answer, source, missing):
    result = check_answer(answer, source, proper_names([answer])[0])
    assert result.missing == missing
    assert result.grounded < 1


def test_the_shares_of_facts_and_of_words_are_given():
    assert check_answer("15일, 25일", SOURCE).grounded == 0.5
    assert check_answer("회계 담당 임원", SOURCE).words == 0
    assert check_answer("유급휴가 담당 임원", SOURCE).words == pytest.approx(1 / 3)
    assert check_answer("연 15일", SOURCE).words == 1


def test_evidence_is_located_with_or_without_its_spaces():
    text = "가나다 라마바\n사아자 차카타파하"
    assert locate("라마바 사아자", text) == (4, 11)
    assert locate("라마바사아", text) == (4, 10)
    start, end = locate("사아자 차가타파하", text)
    assert text[start:end].startswith("사아자")
    assert locate("", text) is None
    assert locate("아무 말", "") is None
    assert locate(text * 2, text) == (0, len(text))


def test_support_of_nothing_is_nothing():
    assert support("", SOURCE) == support("말", "") == 0
