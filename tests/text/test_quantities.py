from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.text.quantities import quantities, readings


def values_and_units(text):
    return [(str(q.value.normalize().quantize(Decimal(1))), q.unit) for q in quantities(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("35,000원", [("35000", "won")]),
        ("3만 5천 원", [("35000", "won")]),
        ("3만5,000원", [("35000", "won")]),
        ("1억 2,000만 원", [("120000000", "won")]),
        ("5천만 원", [("50000000", "won")]),
        ("1조 원", [("1000000000000", "won")]),
        ("5억 3천만 원", [("530000000", "won")]),
        ("1조 2천억원", [("1200000000000", "won")]),
        ("3천5백만원", [("35000000", "won")]),
        ("2천66만원", [("20660000", "won")]),
        ("15만 2,112회", [("152112", "times")]),
        ("$1.2k", [("1200", "dollar")]),
        ("제1조 1항", [("1", "article"), ("1", "clause")]),
        ("3 million won", [("3000000", "won")]),
        ("$1,200", [("1200", "dollar")]),
        ("80퍼센트 또는 80%", [("80", "percent"), ("80", "percent")]),
        ("2025년 3월 1일", [("2025", "year"), ("3", "month"), ("1", "day")]),
        ("2025-03-01", [("2025", "year"), ("3", "month"), ("1", "day")]),
        ("2025. 3. 1.", [("2025", ""), ("3", ""), ("1", "")]),
        ("오후 2시", [("14", "clock")]),
        ("14:30", [("14", "clock"), ("30", "minute")]),
        ("5,6월", [("5", ""), ("6", "month")]),
        ("① 15일", [("15", "day")]),
        ("없음", []),
    ],
)
def test_numbers_are_read_with_their_units(text, expected):
    assert values_and_units(text) == expected


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("3만 5천 원", "하루 35,000원을 준다"),
        ("22,000원", "하루 22.000원의 일비를"),
        ("5억 3천만원", "보증금 530,000,000원"),
        ("80%", "80퍼센트 이상"),
        ("2회", "한 해에 두 번"),
        ("12일", "within twelve days"),
        ("오후 2시", "14:00부터"),
        ("2025년 3월 1일", "2025-03-01 시행"),
        ("3월 5일", "on March 5"),
        ("80,000원", "숙박비 80,000"),
        ("1.5배", "1.50배"),
    ],
)
def test_one_amount_in_two_spellings_agrees(answer, source):
    known = readings(source)
    assert all(any(q.agrees(other) for other in known) for q in quantities(answer))


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("15일", "제15조(연차휴가)"),
        ("3개월", "3년"),
        ("16일", "15일"),
        ("5만 원", "5,000원"),
        ("22원", "22.5원"),
        ("56월", "5,6월"),
    ],
)
def test_other_amounts_and_other_units_do_not_agree(answer, source):
    known = readings(source)
    assert not any(q.agrees(other) for q in quantities(answer) for other in known)


@given(st.text(alphabet="0123456789,.만천억조원일 %-:제월", max_size=20))
def test_every_text_is_read_without_an_error_and_agrees_with_itself(text):
    known = readings(text)
    assert all(any(q.agrees(other) for other in known) for q in quantities(text))
