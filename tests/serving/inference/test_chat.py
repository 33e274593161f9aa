import asyncio
import json
import re
import time

import openai
import pytest

from jangin.core.records import Message
from jangin.inference.generate import generate
from jangin.inference.taught_form import TaughtForm
from jangin.serving.inference.service import Inference
from tests.serving.inference.conftest import CONTEXT, FOREIGN, FULL, TUNED

QUESTION = "연차휴가는 언제 신청하나요?"
MESSAGES = [{"role": "user", "content": QUESTION}]


def expected(weights, name, limit):
    model, tokenizer = weights[name]
    (answer,) = generate(model, tokenizer, [[Message(role="user", content=QUESTION)]], limit)
    return answer


def ask(client, model="tiny", **options):
    options = {"temperature": 0, "max_tokens": 16, "messages": MESSAGES, **options}
    return client.chat.completions.create(model=model, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", TUNED, FULL])
def test_base_adapter_and_full_model_answer_as_evaluation_asks_them(client, weights, name):
    reply = ask(client, name)
    answer = expected(weights, name, 16)
    (choice,) = reply.choices
    assert choice.message.content == answer.text
    assert choice.finish_reason == ("stop" if answer.finished else "length")
    assert reply.usage.completion_tokens == len(answer.token_ids)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + len(answer.token_ids)
    assert reply.model == name
    assert reply.id.startswith("chatcmpl-")
    assert reply.choices[0].message.refusal is None


def test_a_stream_joins_to_the_whole_answer_and_ends_with_its_usage(client):
    whole = ask(client, TUNED)
    chunks = list(ask(client, TUNED, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_sampled_choices_differ_and_a_seed_repeats_them(client):
    first, again = (ask(client, n=3, temperature=1.0, seed=7, max_tokens=8) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.message.content for choice in again.choices] == texts
    assert len(set(texts)) > 1
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def test_logprobs_hold_every_token_with_the_most_likely_ones(client):
    reply = ask(client, logprobs=True, top_logprobs=3)
    content = reply.choices[0].logprobs.content
    stopped = reply.choices[0].finish_reason == "stop"
    assert len(content) == reply.usage.completion_tokens - stopped
    assert all(len(token.top_logprobs) == 3 for token in content)
    assert all(token.logprob == token.top_logprobs[0].logprob for token in content)  # greedy
    streamed = [
        token
        for chunk in ask(client, logprobs=True, top_logprobs=3, stream=True)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else ())
    ]
    assert [token.bytes for token in streamed] == [token.bytes for token in content]
    spoken = b"".join(bytes(token.bytes) for token in content).decode(errors="replace")
    assert spoken.strip() == reply.choices[0].message.content


def test_logprobs_leave_the_stop_token_out(client, weights):
    bias = {str(weights["tiny"][1].eos_token_id): 100}
    options = {"logprobs": True, "top_logprobs": 1, "logit_bias": bias}
    reply = ask(client, **options)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].logprobs.content == []
    assert reply.usage.completion_tokens == 1
    assert not any(chunk.choices[0].logprobs for chunk in ask(client, stream=True, **options))


def test_a_stop_string_ends_the_answer_before_it(client):
    text = ask(client).choices[0].message.content
    stop = text[len(text) // 2]
    reply = ask(client, stop=[stop])
    assert reply.choices[0].message.content == text.partition(stop)[0].strip()
    assert reply.choices[0].finish_reason == "stop"


def written(reply):
    return [token.token for token in reply.choices[0].logprobs.content]


@pytest.mark.slow
def test_logit_bias_and_penalties_change_the_answer(client, weights):
    first = expected(weights, "tiny", 16).token_ids[0]
    plain = written(ask(client, logprobs=True, max_tokens=60))
    assert written(ask(client, logprobs=True, logit_bias={str(first): -100}))[0] != plain[0]
    varied = written(
        ask(client, logprobs=True, max_tokens=60, frequency_penalty=2, presence_penalty=2)
    )
    assert len(set(varied)) / len(varied) > len(set(plain)) / len(plain)


def test_a_schema_makes_a_random_model_write_valid_json(client):
    schema = {
        "type": "object",
        "properties": {"부서": {"enum": ["인사", "총무"]}, "급": {"type": "boolean"}},
        "required": ["부서", "급"],
        "additionalProperties": False,
    }
    reply = ask(
        client,
        max_tokens=100,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": True},
        },
    )
    value = json.loads(reply.choices[0].message.content)
    assert value["부서"] in ("인사", "총무")
    assert isinstance(value["급"], bool)
    assert reply.choices[0].finish_reason == "stop"


REQUIRED = {"required": ["text"], "additionalProperties": False}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "휴가 일수",
            "parameters": {
                "type": "object",
                "properties": {"n": {"enum": [1, 2]}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("days", "hours")
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "hours"}}, "stop"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_required_tool_is_called_with_valid_arguments(client, choice, reason, stream):
    reply = ask(client, max_tokens=100, tools=TOOLS, tool_choice=choice, stream=stream)
    if stream:
        chunks = [chunk.choices[0] for chunk in reply]
        (call,) = [c for chunk in chunks for c in chunk.delta.tool_calls or ()]
        ended = chunks[-1].finish_reason
    else:
        (call,) = reply.choices[0].message.tool_calls
        ended = reply.choices[0].finish_reason
        assert reply.choices[0].message.content is None
    assert ended == reason
    assert call.function.name in (("hours",) if reason == "stop" else ("days", "hours"))
    assert json.loads(call.function.arguments)["n"] in (1, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(client, stream):
    long = {"type": "object", "properties": {"text": {"type": "string", "minLength": 400}}}
    tools = [{"type": "function", "function": {"name": "note", "parameters": long | REQUIRED}}]
    reply = ask(client, max_tokens=60, tools=tools, tool_choice="required", stream=stream)
    if stream:
        chunks = [chunk.choices[0] for chunk in reply]
        (call,) = [c for chunk in chunks for c in chunk.delta.tool_calls or ()]
        assert not any(chunk.delta.content for chunk in chunks)
    else:
        chunks = reply.choices
        (call,) = chunks[0].message.tool_calls
        assert chunks[0].message.content is None
    assert chunks[-1].finish_reason == "length"
    assert call.function.name == "note"
    assert re.match(r'\{\s*"text"\s*:\s*"', call.function.arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_tools(client, stream):
    functions = [tool["function"] for tool in TOOLS]
    options = {"functions": functions, "max_tokens": 300, "stream": stream}
    reply = ask(client, function_call={"name": "hours"}, **options)
    if stream:
        chunks = [chunk.choices[0] for chunk in reply]
        (call,) = [c.delta.function_call for c in chunks if c.delta.function_call]
        assert chunks[-1].finish_reason == "stop"
    else:
        call = reply.choices[0].message.function_call
        assert reply.choices[0].message.tool_calls is None
        assert reply.choices[0].finish_reason == "stop"
    assert (call.name, json.loads(call.arguments)["n"] in (1, 2)) == ("hours", True)
    assert ask(client, function_call="auto", **options)


def test_calls_and_results_of_functions_are_taken_back_as_those_of_tools(client):
    called = {"name": "add", "arguments": '{"a": 7, "b": 8}'}
    tool = {"id": "call_add", "type": "function", "function": called}
    old, new = (
        ask(client, messages=[*MESSAGES, {"role": "assistant", "content": None, **call}, result])
        for call, result in (
            ({"function_call": called}, {"role": "function", "name": "add", "content": "15"}),
            ({"tool_calls": [tool]}, {"role": "tool", "tool_call_id": "call_add", "content": "15"}),
        )
    )
    assert old.choices[0].message == new.choices[0].message
    assert old.usage == new.usage


def test_calls_and_results_of_tools_are_taken_back(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "days", "arguments": "{}"}}
    reply = ask(
        client,
        tools=TOOLS,
        tool_choice="none",
        messages=[
            *MESSAGES,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "15"},
        ],
    )
    assert reply.choices[0].message.tool_calls is None
    assert reply.usage.prompt_tokens > ask(client).usage.prompt_tokens


def refused(client, model="tiny", **options):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model, **options)
    return caught.value


def test_a_prompt_beyond_the_context_is_refused_in_openais_words(client):
    error = refused(client, messages=[{"role": "user", "content": QUESTION * 900}])
    assert (error.status_code, error.code, error.param) == (
        400,
        "context_length_exceeded",
        "messages",
    )
    assert f"maximum context length is {CONTEXT} tokens" in error.message


@pytest.mark.parametrize("name", ["gpt-5", "ft:tiny:local:gone:00000000", FOREIGN])
def test_a_model_that_the_caller_may_not_use_does_not_exist(client, name):
    error = refused(client, name)
    assert (error.status_code, error.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"functions": [TOOLS[0]["function"]], "tools": TOOLS}, "functions"),
        ({"web_search_options": {}, "audio": {"voice": "a", "format": "mp3"}}, "audio"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "thing"}},
                }
            },
            "response_format",
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(client, options, param):
    error = refused(client, **options)
    assert (error.status_code, error.param) == (400, param)


def test_unknown_fields_change_nothing_and_are_named(client):
    plain = ask(client).choices[0].message.content
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=MESSAGES, temperature=0, max_tokens=16, user="u",
        metadata={"k": "v"}, service_tier="auto", modalities=["text"], verbosity="low",
        extra_body={"top_k": 5, "a b": 1},
    )  # fmt: skip
    assert raw.parse().choices[0].message.content == plain
    assert raw.headers["x-jangin-ignored"] == "verbosity, top_k"


def test_control_tokens_in_a_message_are_text(client, weights):
    _, tokenizer = weights["tiny"]
    plain = ask(client).usage.prompt_tokens
    reply = ask(client, messages=[{"role": "user", "content": QUESTION + "<|assistant|>"}])
    assert reply.usage.prompt_tokens > plain + 1
    assert tokenizer.convert_tokens_to_ids("<|assistant|>") is not None


def test_a_client_that_leaves_stops_its_answer(running, client):
    stream = ask(client, stream=True, max_tokens=480, logit_bias={2: -100})
    next(iter(stream))
    stream.close()
    pool = running.server.get(Inference)._pool
    deadline = time.monotonic() + 100
    while any(state.running for state in pool.states().values()):
        assert time.monotonic() < deadline, "the answer is still being generated"
        time.sleep(0.02)
    assert sum(state.generated_tokens for state in pool.states().values()) > 0


@pytest.mark.slow
def test_sixty_four_requests_at_once_answer_as_one_alone(running, client):
    alone = ask(client, TUNED).choices[0].message.content
    other = ask(client).choices[0].message.content

    async def all_of():
        async with openai.AsyncOpenAI(base_url=running.url, api_key="any") as many:
            return await asyncio.gather(
                *(
                    many.chat.completions.create(
                        model=(TUNED, "tiny")[n % 2],
                        messages=MESSAGES,
                        temperature=0,
                        max_tokens=16,
                    )
                    for n in range(64)
                )
            )

    texts = [reply.choices[0].message.content for reply in asyncio.run(all_of())]
    assert texts == [alone, other] * 32


def test_metrics_tell_what_the_engines_do(running, client):
    ask(client)
    text = client._client.get(f"{running.root}/metrics").text
    tokens = [line for line in text.splitlines() if "engine_generated_tokens_total{" in line]
    assert tokens
    assert all(float(line.rsplit(" ", 1)[1]) > 0 for line in tokens)
    assert "jangin_engine_running" in text


def test_a_conversation_unlike_the_training_is_answered_whole_with_a_line_in_the_log(
    client, artifacts, caplog
):
    turns = [*MESSAGES, {"role": "assistant", "content": "15일"}, *MESSAGES]
    whole = ask(client, FULL, messages=[{"role": "system", "content": "x"}, *turns])
    runtime = artifacts[FULL] / "runtime"
    runtime.mkdir()
    TaughtForm.of([[Message(role="user", content=QUESTION)]]).write(runtime / "taught.json")
    with caplog.at_level("INFO", "jangin.serving"):
        ask(client, FULL)
        assert FULL not in caplog.text
        again = ask(client, FULL, messages=[{"role": "system", "content": "x"}, *turns])
    assert again.choices[0].message.content == whole.choices[0].message.content
    assert again.usage == whole.usage
    assert f"{FULL} was taught on single questions" in caplog.text
    assert f"{FULL} never saw the system message" in caplog.text
