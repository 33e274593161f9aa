import json

import openai
import pytest
from sqlalchemy import select

from jangin.serving.files.uploads import FileKeeper
from jangin.serving.state.tables import KeptAnswer
from tests.serving.inference.conftest import CONTEXT, TUNED
from tests.serving.inference.test_chat import MESSAGES, QUESTION, ask


@pytest.mark.slow
def test_a_text_and_messages_are_answered_as_chat_completions_are(client):
    expected = ask(client, TUNED).choices[0].message.content
    options = {"model": TUNED, "temperature": 0, "max_output_tokens": 16}
    text = client.responses.create(input=QUESTION, **options)
    listed = client.responses.create(input=MESSAGES, **options)
    assert text.output_text == listed.output_text == expected
    assert text.usage.total_tokens == text.usage.input_tokens + text.usage.output_tokens
    told = client.responses.create(input=QUESTION, instructions="짧게", **options)
    assert told.usage.input_tokens > text.usage.input_tokens


def test_events_of_a_stream_join_to_the_whole_text(client):
    options = {"model": "tiny", "temperature": 0, "max_output_tokens": 16, "input": QUESTION}
    whole = client.responses.create(**options)
    events = list(client.responses.create(stream=True, **options))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == (
        whole.output_text
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == f"response.{whole.status}"
    assert events[-1].response.output_text == whole.output_text


def test_a_format_constrains_the_text(client):
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    reply = client.responses.create(
        model="tiny", input=QUESTION, max_output_tokens=60,
        text={"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert json.loads(reply.output_text) == {"a": "x"}
    assert reply.status == "completed"


WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["서울", "부산"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
PICTURE = [{"type": "input_image", "image_url": "data:image/png;base64,"}]
CALLING = {"model": "tiny", "input": QUESTION, "tools": [WEATHER], "max_output_tokens": 100}


def test_a_function_is_called_and_its_output_is_read(client):
    reply = client.responses.create(**CALLING, tool_choice="required")
    (call,) = reply.output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    assert json.loads(call.arguments)["city"] in ("서울", "부산")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "15 도"}
    history = [{"role": "user", "content": QUESTION}, call.model_dump(), output]
    options = {**CALLING, "tool_choice": "none", "temperature": 0, "max_output_tokens": 16}
    whole = client.responses.create(**options | {"input": history})
    assert whole.output[0].type == "message"
    linked = client.responses.create(**options | {"input": [output]}, previous_response_id=reply.id)
    assert linked.output_text == whole.output_text
    assert linked.usage.input_tokens == whole.usage.input_tokens


def test_a_call_that_is_cut_off_is_incomplete(client):
    text = {"type": "string", "minLength": 400}
    parameters = WEATHER["parameters"] | {"properties": {"city": text}}
    tools = [WEATHER | {"parameters": parameters}]
    reply = client.responses.create(**CALLING | {"tools": tools}, tool_choice="required")
    (call,) = reply.output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "incomplete")
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_events_of_a_call_hold_its_arguments(client):
    forced = {"type": "function", "name": "weather"}
    with client.responses.stream(**CALLING, tool_choice=forced) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[2:-1] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    (call,) = final.output
    assert events[3].delta == events[4].arguments == call.arguments
    assert {event.item_id for event in events[3:5]} == {call.id}
    assert client.responses.retrieve(final.id).output[0].arguments == call.arguments


def test_with_a_format_the_model_calls_or_answers_in_it(client):
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}}
    kinds = set()
    for temperature in (1, 2) * 6:
        reply = client.responses.create(**CALLING, text=text, temperature=temperature, store=False)
        (item,) = reply.output
        kinds.add(item.type)
        if item.type == "message":
            assert json.loads(reply.output_text) == {"a": "x"}
        else:
            assert json.loads(item.arguments)["city"] in ("서울", "부산")
    assert kinds <= {"message", "function_call"}


def test_a_response_is_kept_until_it_is_deleted(client):
    options = {"model": "tiny", "temperature": 0, "max_output_tokens": 8}
    first = client.responses.create(input="하나", metadata={"k": "v"}, **options)
    second = client.responses.create(input="둘", previous_response_id=first.id, **options)
    assert client.responses.retrieve(first.id) == first
    (item,) = client.responses.input_items.list(second.id)
    assert item.content == "둘"
    pointed = client.responses.create(
        input=[
            *({"type": "item_reference", "id": name} for name in (
                next(iter(client.responses.input_items.list(first.id))).id, first.output[0].id)),
            {"role": "user", "content": "둘"},
        ],
        **options,
    )  # fmt: skip
    assert pointed.output_text == second.output_text
    assert pointed.usage.input_tokens == second.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(input="셋", previous_response_id=second.id, **options)
    assert caught.value.code == "previous_response_not_found"
    assert first.id in str(caught.value)


def test_nothing_is_kept_that_was_not_to_be(client, running):
    reply = client.responses.create(model="tiny", input="a", max_output_tokens=4, store=False)
    assert reply.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(reply.id)
    old = client.responses.create(model="tiny", input="a", max_output_tokens=4)
    with running.server.database.write() as session:
        session.scalars(select(KeptAnswer).where(KeptAnswer.id == old.id)).one().expires_at = 1
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(old.id)
    running.server.get(FileKeeper).remove_expired()
    with running.server.database.read() as session:
        assert not session.scalars(select(KeptAnswer).where(KeptAnswer.id == old.id)).all()


def test_tokens_are_counted_as_they_are_read(client):
    given = {"model": "tiny", "input": QUESTION, "tools": [WEATHER], "instructions": "짧게"}
    counted = client.responses.input_tokens.count(**given)
    read = client.responses.create(**given, max_output_tokens=4, store=False).usage.input_tokens
    assert counted.input_tokens == read
    long = client.responses.input_tokens.count(model="tiny", input=QUESTION * 1000)
    assert long.input_tokens > CONTEXT


def test_what_changed_nothing_is_named_in_a_header(client):
    raw = client.responses.with_raw_response.create(
        model="tiny", input="a", max_output_tokens=4, reasoning={"effort": "low"}, user="me",
        truncation="auto", extra_body={"top_k": 5},
    )  # fmt: skip
    assert raw.headers["x-jangin-ignored"] == "reasoning, truncation, top_k"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.id"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input.0.type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": PICTURE}]}, "input.0.content.0.type"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input.0"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "x"}]}, "input.0.arguments"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "tiny", "input": QUESTION, **options})
    assert caught.value.param == param


def test_a_limit_beyond_the_room_that_is_left_is_the_room(client):
    given = {"model": "tiny", "input": QUESTION * 60, "temperature": 0, "store": False}
    reply = client.responses.create(**given, max_output_tokens=CONTEXT)
    assert reply.usage.total_tokens <= CONTEXT
    assert reply.status == ("incomplete" if reply.usage.total_tokens == CONTEXT else "completed")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(**given, max_output_tokens=CONTEXT + 1)
