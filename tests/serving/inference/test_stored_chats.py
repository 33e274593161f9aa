import json

import openai
import pytest

from jangin.serving.security.keys import add_key
from tests.serving.inference.test_chat import MESSAGES, TOOLS, ask

TAG = {"task": "leave"}


@pytest.fixture(scope="module")
def stored(client):
    """Three kept completions: whole, cut off at its limit, and a call of a tool."""
    forced = {"type": "function", "function": {"name": "days"}}
    whole = {"max_tokens": 300, "logit_bias": {}}
    replies = [
        ask(client, store=True, metadata=TAG, **whole),
        ask(client, store=True, metadata=TAG, max_tokens=2),
        ask(client, store=True, metadata={"task": "other"}, tools=TOOLS, tool_choice=forced,
            max_tokens=100),
    ]  # fmt: skip
    ask(client, metadata=TAG)
    assert [r.choices[0].finish_reason for r in replies] == ["stop", "length", "stop"]
    return replies


def test_what_asked_to_be_kept_is_listed(client, stored):
    whole, cut, call = (reply.id for reply in stored)
    completions = client.chat.completions
    assert [each.id for each in completions.list()] == [whole, cut, call]
    assert [each.id for each in completions.list(metadata=TAG, order="desc")] == [cut, whole]
    assert [each.id for each in completions.list(model="other")] == []
    assert completions.list(limit=1).next_page_info() is not None
    assert completions.retrieve(whole).choices == stored[0].choices
    (message,) = completions.messages.list(whole)
    assert (message.role, message.content) == ("user", MESSAGES[0]["content"])


def test_a_streamed_answer_is_kept_as_a_whole(client):
    chunks = list(ask(client, store=True, stream=True, metadata={"task": "stream"}))
    (kept,) = client.chat.completions.list(metadata={"task": "stream"})
    assert kept.id == chunks[0].id
    assert kept.object == "chat.completion"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert kept.choices[0].message.content == text
    client.chat.completions.delete(kept.id)


def test_metadata_is_changed_and_a_completion_deleted(client):
    name = ask(client, store=True, metadata={"task": "a"}).id
    completions = client.chat.completions
    assert completions.update(name, metadata={"task": "b"}).metadata == {"task": "b"}
    assert [each.id for each in completions.list(metadata={"task": "b"})] == [name]
    assert completions.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        completions.retrieve(name)


@pytest.mark.usefixtures("stored")
def test_kept_completions_become_rows_that_a_job_takes(client, stored):
    made = client.post("/x/rows", cast_to=object, body={"metadata": TAG})
    assert made["rows"] == 1
    assert [each["id"] for each in made["left_out"]] == [stored[1].id]
    (row,) = map(json.loads, client.files.content(made["file"]).text.splitlines())
    assert row["messages"][-1]["content"] == stored[0].choices[0].message.content
    every = client.post("/x/rows", cast_to=object, body={})
    lines = client.files.content(every["file"]).text.splitlines()
    assert json.loads(lines[1])["messages"][-1]["tool_calls"][0]["function"]["name"] == "days"
    report = client.get(f"/files/{every['file']}/report", cast_to=object)
    assert report["errors"] == []
    with pytest.raises(openai.BadRequestError):
        client.post("/x/rows", cast_to=object, body={"model": "none"})


def test_a_key_that_only_asks_does_not_read_them(running):
    with running.server.database.write() as session:
        _, key = add_key(session, name="x", project="a", scopes=["inference"], now=1)
    with pytest.raises(openai.PermissionDeniedError):
        running.client(key).chat.completions.list()
