"""Graders by the official client."""

import httpx2
import openai
import pytest

from tests.metrics.graders.test_types import CHECK, MULTI

PYTHON = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1"}


def test_a_grader_is_validated_and_echoed(client):
    assert client.fine_tuning.alpha.graders.validate(grader=CHECK).grader.to_dict() == CHECK


def test_a_grader_is_run(client):
    result = client.fine_tuning.alpha.graders.run(
        grader=MULTI, item={"gold": "서울"}, model_sample="서울"
    )
    assert (result.reward, result.sub_rewards) == (1, {"exact": 1})
    assert result.metadata.errors.api_model_grader_parse_error is False
    assert result.metadata.errors.python_grader_runtime_error_details is None


def test_a_model_that_does_not_exist_is_an_error_of_the_result(client):
    grader = {
        "type": "score_model",
        "name": "s",
        "model": "no-such-model",
        "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    }
    result = client.fine_tuning.alpha.graders.run(grader=grader, item={}, model_sample="a")
    assert result.reward == 0
    assert result.metadata.errors.api_model_grader_server_error is True
    assert result.metadata.errors.api_model_grader_server_error_details


def test_an_invalid_grader_is_a_400_that_names_the_value(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.alpha.graders.validate(grader={**CHECK, "operation": "is"})
    assert error.value.param == "grader.operation"


def test_python_is_off_by_default(client):
    graders = client.fine_tuning.alpha.graders
    for call in (
        lambda: graders.validate(grader=PYTHON),
        lambda: graders.run(grader={**MULTI, "graders": {"exact": PYTHON}}, model_sample="a"),
    ):
        with pytest.raises(openai.BadRequestError, match="python_grader"):
            call()


def test_an_unknown_field_is_refused(running):
    reply = httpx2.post(
        f"{running.url}/fine_tuning/alpha/graders/run",
        json={"grader": CHECK, "model_sample": "a", "itme": {}},
        headers={"Authorization": "Bearer x"},
    )
    assert reply.json()["error"]["code"] == "unknown_parameter"
