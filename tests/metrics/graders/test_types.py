import pytest

from jangin.metrics.graders.types import InvalidGraderError, parse_grader

CHECK = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.gold}}",
    "operation": "eq",
}
MESSAGES = [{"role": "user", "content": "Grade: {{sample.output_text}}"}]
LABEL = {
    "type": "label_model",
    "name": "label",
    "model": "m",
    "input": MESSAGES,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
MULTI = {"type": "multi", "name": "all", "graders": {"exact": CHECK}, "calculate_output": "exact"}


@pytest.mark.parametrize(
    "data",
    [
        CHECK,
        LABEL,
        MULTI,
        {**MULTI, "graders": CHECK},
        {"type": "score_model", "name": "s", "model": "m", "input": MESSAGES, "range": [1, 5]},
        {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1"},
        {
            **{key: CHECK[key] for key in ("name", "input", "reference")},
            "type": "text_similarity",
            "evaluation_metric": "rouge_l",
        },
        {**LABEL, "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
    ],
)
def test_a_valid_grader_is_read(data):
    assert parse_grader(data).type == data["type"]


@pytest.mark.parametrize(
    ("data", "param", "code"),
    [
        ({}, "grader.type", "invalid_value"),
        ({**CHECK, "type": "magic"}, "grader.type", "invalid_value"),
        ({**CHECK, "operation": "is"}, "grader.operation", "invalid_value"),
        ({**CHECK, "input": "{{env.HOME}}"}, "grader.input", "invalid_value"),
        ({**CHECK, "extra": 1}, "grader.extra", "unknown_parameter"),
        (
            {key: value for key, value in CHECK.items() if key != "reference"},
            "grader.reference",
            "missing_required_parameter",
        ),
        ({**LABEL, "passing_labels": ["fine"]}, "grader", "invalid_value"),
        ({**MULTI, "calculate_output": "other"}, "grader", "invalid_value"),
        (
            {**MULTI, "graders": {"exact": {**CHECK, "operation": 1}}},
            "grader.graders.exact.operation",
            "invalid_value",
        ),
        ({**MULTI, "graders": {"inner": MULTI}}, "grader.graders.inner", "invalid_value"),
        ({"type": "python", "name": "p", "source": "def"}, "grader", "invalid_value"),
        (["no", "object"], "grader", "invalid_value"),
    ],
)
def test_an_invalid_grader_names_the_wrong_value(data, param, code):
    with pytest.raises(InvalidGraderError) as error:
        parse_grader(data)
    assert (error.value.param, error.value.code) == (param, code)
