import pytest

from jangin.metrics.graders.types import TemplateError, Values, check_template, fill

ITEM = {"gold": "서울", "answers": [{"text": "Seoul"}], "n": 3, "tags": ["a", "나"]}


def test_variables_are_filled_from_the_row_and_the_answer():
    values = Values(ITEM, '{"city": "서울", "score": 0.5}')
    text = "{{item.gold}}/{{ item.answers[0].text }}/{{item.n}}/{{item.tags}}"
    text += "/{{sample.output_json.city}}"
    assert fill(text, values) == '서울/Seoul/3/["a", "나"]/서울'
    assert fill("{{sample.output_text}}", Values({}, "{{item.gold}}")) == "{{item.gold}}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{{item.missing}}", "invalid_variable_error"),
        ("{{item.answers[7].text}}", "invalid_variable_error"),
        ("{{sample.output_json.x}}", "sample_parse_error"),
    ],
)
def test_a_variable_without_value_is_an_error_of_its_kind(text, key):
    with pytest.raises(TemplateError) as error:
        fill(text, Values(ITEM, "no JSON"))
    assert error.value.key == key


@pytest.mark.parametrize(
    "text", ["{{gold}}", "{{}}", "{{item.}}", "{{os.environ}}", "{{item.a b}}"]
)
def test_a_template_with_another_namespace_is_refused_without_values(text):
    with pytest.raises(TemplateError):
        check_template(text)
