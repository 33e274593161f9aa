import json

import pytest

from jangin.core.errors import DataError
from jangin.inference.constraints import Adjustments
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.engine.requests import EngineRequest
from jangin.inference.engine.tools import ToolFormat
from jangin.models.tokens.chat_template import render_prompts

SCHEMA = {
    "type": "object",
    "properties": {
        "부서": {"enum": ["인사", "총무"]},
        "일수": {"type": "integer", "minimum": 1, "maximum": 31},
    },
    "required": ["부서", "일수"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("first", "second")
]


@pytest.fixture(scope="module")
def prompt(tokenizer, conversations):
    return render_prompts(tokenizer, [conversations[0][:-1]])[0]


def texts(engine, prompt, grammar, seeds=range(4)):
    requests = [
        GenerationRequest(
            prompt, 120, temperature=1.0, seed=seed, adjustments=Adjustments(grammar=grammar)
        )
        for seed in seeds
    ]
    answers = engine.answers([EngineRequest(request) for request in requests])
    assert all(answer.finish_reason == "stop" for answer in answers)
    return [answer.generation.text for answer in answers]


def test_a_random_model_answers_with_json_that_is_valid_for_the_schema(engine, prompt):
    grammar = engine.wording(None).grammars.json_schema(SCHEMA)
    for text in texts(engine, prompt, grammar):
        value = json.loads(text)
        assert set(value) == {"부서", "일수"}
        assert value["부서"] in ("인사", "총무")
        assert 1 <= value["일수"] <= 31


def test_a_schema_that_cannot_be_enforced_is_refused_with_its_reason(engine):
    with pytest.raises(DataError, match="cannot be enforced"):
        engine.wording(None).grammars.json_schema({"type": "nothing"})


@pytest.mark.slow
@pytest.mark.parametrize("family", ["hermes", "llama", "mistral", "plain"])
def test_constrained_calls_are_read_back_in_every_format(engine, prompt, family):
    calls = ToolFormat(family, None)
    grammar = engine.wording(None).grammars.lark(calls.grammar(TOOLS, parallel=False))
    for text in texts(engine, prompt, grammar, range(2)):
        content, (call,) = calls.read(text)
        assert content == ""
        assert call.name in ("first", "second")
        assert 0 <= json.loads(call.arguments)["n"] <= 9
