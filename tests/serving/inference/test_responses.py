import json

import openai
import pytest

from tests.serving.inference.conftest import TUNED
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


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
    ],
)
def test_a_stored_state_is_refused(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "tiny", "input": QUESTION, **options})
    assert caught.value.param == param
