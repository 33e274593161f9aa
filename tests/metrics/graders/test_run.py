import json

import pytest

from jangin.metrics.graders.run import NO_ERRORS, GraderTools, PythonLimits, run_grader
from jangin.metrics.graders.types import parse_grader
from tests.metrics.graders.test_types import CHECK, LABEL, MESSAGES, MULTI

ITEM = {"gold": "세종대왕"}
SCORE = {"type": "score_model", "name": "s", "model": "m", "input": MESSAGES, "range": [0, 10]}


def answers(content=None, status=200, refusal=None):
    """A chat endpoint that replies with one content, and keeps what it was sent."""

    def complete(body):
        complete.body = body
        if status != 200:
            return status, {"error": {"message": "no such model"}}
        message = {"role": "assistant", "content": content, "refusal": refusal}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return 200, {"model": "m-local", "choices": [{"message": message}], "usage": usage}

    return complete


def run(data, text="세종대왕", complete=None, python=None):
    grader = parse_grader(data)
    result = run_grader(grader, ITEM, text, GraderTools(complete or answers(), python))
    return result.reply(grader)


def python(source, **limits):
    return run({"type": "python", "name": "p", "source": source}, python=PythonLimits(**limits))


@pytest.mark.parametrize(
    ("operation", "text", "reward"),
    [
        ("eq", "세종대왕", 1),
        ("eq", "세종", 0),
        ("ne", "세종", 1),
        ("like", "조선의 세종대왕이다", 1),
        ("like", "세종", 0),
    ],
)
def test_string_checks(operation, text, reward):
    reply = run({**CHECK, "operation": operation}, text)
    assert reply["reward"] == reward
    assert reply["metadata"]["errors"] == NO_ERRORS
    assert len(NO_ERRORS) == 14


def test_ilike_ignores_letter_case():
    assert run({**CHECK, "reference": "KING", "operation": "ilike"}, "the king")["reward"] == 1


def test_a_variable_without_value_is_reported_and_the_reward_is_0():
    reply = run({**CHECK, "reference": "{{item.missing}}"})
    assert reply["reward"] == 0
    assert reply["metadata"]["errors"]["invalid_variable_error"] is True


def test_text_similarity_and_multi_grader():
    similar = {
        **{key: CHECK[key] for key in ("input", "reference")},
        "type": "text_similarity",
        "name": "close",
        "evaluation_metric": "fuzzy_match",
    }
    graders = {"exact": {**CHECK, "name": "exact"}, "close": similar}
    multi = {**MULTI, "graders": graders, "calculate_output": "(exact + close) / 2"}
    reply = run(multi, "세종")
    assert reply["sub_rewards"] == {"exact": 0, "close": pytest.approx(2 / 3)}
    assert reply["reward"] == pytest.approx(1 / 3)
    assert run({**multi, "calculate_output": "close / exact"}, "세종")["metadata"]["errors"][
        "other_error"
    ]


def test_a_model_gives_a_score_in_a_schema_and_its_tokens_are_counted():
    complete = answers('{"result": 7.5}')
    reply = run(SCORE, complete=complete)
    assert reply["reward"] == 7.5
    assert reply["metadata"]["token_usage"] == 7
    assert reply["metadata"]["sampled_model_name"] == "m-local"
    assert reply["model_grader_token_usage_per_model"]["m-local"]["total_tokens"] == 7
    assert complete.body["messages"][0]["content"] == "Grade: 세종대왕"
    assert complete.body["response_format"]["json_schema"]["schema"]["required"] == ["result"]


@pytest.mark.parametrize(("label", "reward"), [("good", 1), ("bad", 0)])
def test_a_model_chooses_a_label(label, reward):
    assert run(LABEL, complete=answers(json.dumps({"result": label})))["reward"] == reward


@pytest.mark.parametrize(
    ("complete", "key"),
    [
        (answers("11"), "model_grader_parse_error"),
        (answers("very good"), "model_grader_parse_error"),
        (answers('{"result": "NaN"}'), "model_grader_parse_error"),
        (answers(None, refusal="no"), "model_grader_refusal_error"),
        (answers(status=404), "model_grader_server_error"),
    ],
)
def test_a_model_that_gives_no_grade_is_reported(complete, key):
    reply = run(SCORE, complete=complete)
    assert reply["reward"] == 0
    assert reply["metadata"]["errors"][key] is True


def test_python_graders_are_off_unless_the_settings_allow_them():
    errors = run({"type": "python", "name": "p", "source": "open('/tmp/x', 'w')"})["metadata"][
        "errors"
    ]
    assert errors["python_grader_server_error"] is True
    assert errors["python_grader_server_error_type"] == "disabled"


def test_a_python_grader_sees_row_and_answer_and_not_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    source = (
        "import os\nprint('noise')\n"
        "def grade(sample, item):\n"
        "    assert 'SECRET' not in os.environ\n"
        "    return 0.5 * (sample['output_text'] == item['gold'])\n"
    )
    assert python(source)["reward"] == 0.5


@pytest.mark.parametrize(
    ("body", "key", "detail"),
    [
        ("raise ValueError('bad row')", "python_grader_runtime_error", "bad row"),
        ("return float('nan')", "python_grader_runtime_error", "finite"),
        ("return [0] * 10 ** 10", "python_grader_runtime_error", "MemoryError"),
        (
            "import pathlib; pathlib.Path('big').write_text('x'); return 1",
            "python_grader_runtime_error",
            "OSError",
        ),
        ("import os; os.kill(os.getpid(), 9)", "python_grader_server_error", "killed"),
        ("import time; time.sleep(60)", "python_grader_server_error", "timeout"),
        ("\n    while True: pass", "python_grader_server_error", "timeout"),
    ],
)
def test_a_python_grader_that_fails_is_reported(body, key, detail):
    reply = python(
        f"def grade(sample, item):\n    {body}\n", seconds=0.8 if detail == "timeout" else 100
    )
    errors = reply["metadata"]["errors"]
    assert reply["reward"] == 0
    assert errors[key] is True
    assert detail in (
        (errors["python_grader_runtime_error_details"] or "")
        + (errors["python_grader_server_error_type"] or "")
    )


def test_a_python_source_without_grade_is_a_runtime_error():
    assert "grade" in python("x = 1")["metadata"]["errors"]["python_grader_runtime_error_details"]
