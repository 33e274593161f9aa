from pathlib import Path

import pytest

from jangin.text.numbers import count_numbers, is_number_alone, read_number


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("$1,299.00", 1299.0),
        ("Price is $ 12", 12.0),
        ("₩15,000원", 15000.0),
        ("-3.5 degrees", -3.5),
        (".5", 0.5),
        ("about 20, maybe 30", 20.0),
        ("3만 5천원", 35000.0),
        ("3만.", 30000.0),
        ("1억 2,500만원입니다", 125_000_000.0),
        ("2만 300원", 20300.0),
        ("1.5억", 150_000_000.0),
        ("3만큼", 3.0),
        ("3만엔진", 3.0),
        ("3만엔", 30000.0),
        ("3만유로", 30000.0),
        ("-3만 5천원", -35000.0),
        ("1만-3만", None),
        ("12개에 3만원", 12.0),
        ("１２원", 12.0),
        ("no idea", None),
        ("", None),
        ("NaN", None),
        ("inf", None),
        ("9" * 400, None),
    ],
)
def test_the_first_number_of_an_answer_is_read(answer, number):
    assert read_number(answer) == number


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("$1,299.00", 1),
        ("₩15,000원", 1),
        ("-3.5", 1),
        ("3만 5천원", 1),
        ("1억 2,500만원입니다", 1),
        ("2만 300원", 1),
        ("$12.99 - $45.00", 2),
        ("12.99-45", 2),
        ("3만~5만원", 2),
        ("만 5천원에서 2만 300원", 2),
        ("2 for $5", 2),
        ("１２~１５원", 2),
        ("call us", 0),
        ("", 0),
    ],
)
def test_the_numbers_of_a_text_are_counted_with_their_units(text, count):
    assert count_numbers(text) == count


def test_two_hundred_texts_are_read_as_a_person_reads_them_or_not_at_all():
    lines = (Path(__file__).parent / "number_cases.tsv").read_text(encoding="utf-8").splitlines()
    cases = [line.split("\t") for line in lines]
    wanted = {text: None if value == "-" else float(value) for text, value in cases}
    assert len(wanted) >= 200
    assert {text: read_number(text) for text in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12,50", 12.5), ("1.299", 1299.0), ("1.299,50 €", 1299.5), ("12.5", 12.5),
        ("1,299", 1.299), ("1.29.9", None), ("12", 12.0), ("1,5억원", 150_000_000.0),
    ],
)  # fmt: skip
def test_a_decimal_comma_is_read_where_it_is_set(text, value):
    assert read_number(text, "comma") == value


def test_a_number_alone_has_at_most_its_currency_and_units():
    alone = ["12", "₩1,299", "$1.2k", "5억 3천만원", "minus 5", "１２", "3만 5천원정", "12,50 €"]
    more = ["5%", "12,5", "from $5", "3층", "00123", "10-20", "제3조", "about 5", "", "9" * 41]
    assert [is_number_alone(text) for text in alone] == [True] * len(alone)
    assert [is_number_alone(text) for text in more] == [False] * len(more)
