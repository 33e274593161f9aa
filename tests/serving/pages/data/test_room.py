"""How values are shown."""

import pytest

from jangin.report.i18n.translate import Words, cell_text, column_name, value_text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("page", 12345, "12,345"),
        ("score", 0.123456, "0.1235"),
        ("right", True, "예"),
        ("kind", "paraphrase", "다른 표현"),
        ("split", "train", "학습 행"),
        ("operation", "paraphrase", "다른 표현"),
        ("anything", None, ""),
        ("anything", "그대로", "그대로"),
    ],
)
def test_values_are_in_the_language_of_the_page(column, value, text):
    assert value_text(Words("ko"), column, value) == text


def test_long_values_are_cut_and_columns_have_names():
    assert cell_text(Words("ko"), "text", "가\n나 " * 200).endswith("…")
    assert column_name(Words("ko"), "question") == "질문"
    assert column_name(Words("en"), "some_new_column") == "some new column"


def test_reasons_name_no_ids():
    reason = "same prompt and answer as 4142f6dbbc4edad0"
    assert Words("ko").reason_without_ids(reason) == "질문과 답이 다른 예제와 같음"
    assert Words("en").reason_without_ids(reason) == "same prompt and answer as another example"
