"""`/v1/x/prepare`, called as an unmodified client can: `client.post`."""

import json

import openai
import pytest

DEEP = "[" * 100_000 + "]" * 100_000
HEADER = "question,answer,note\n"
TABLE = HEADER + "".join(f"What costs item {n}?, {n * 7} won ,x\n" for n in range(20))
TABLE += "What costs item 3?,21 won,x\n"


def prepare(client, **body):
    return client.post("/x/prepare", body=body, cast_to=dict)


def upload(client, content=TABLE, name="../한글 items.csv"):
    return client.files.create(file=(name, content.encode()), purpose="user_data").id


def test_a_table_becomes_files_that_a_job_takes(client, server):
    reply = prepare(client, file=upload(client), validation=0.2, seed=7)
    names = {each["name"]: each["taken"] for each in reply["suggestions"]}
    assert names["numbers"]
    assert names["duplicates"]
    assert not names["common beginning of every question"]
    assert sum(reply["rows"].values()) == 21
    assert {"train", "validation"} <= set(reply["files"])
    file = reply["files"]["train"]
    assert file["filename"] == "한글 items_prepared_train.jsonl"
    assert file["purpose"] == "fine-tune"
    rows = [json.loads(line) for line in client.files.content(file["id"]).text.splitlines()]
    assert rows[0]["messages"][0]["content"].startswith("What costs item")
    assert not rows[0]["messages"][1]["content"].endswith(" ")
    report = client.get(f"/files/{file['id']}/report", cast_to=dict)
    assert (report["valid"], report["examples"]) == (True, len(rows))
    assert "note" in " ".join(reply["notes"])
    assert not list(server.settings.folder.glob(".prepare-*"))


def test_looking_stores_nothing(client):
    file = upload(client)
    before = len(client.files.list().data)
    reply = prepare(client, file=file, write=False, remedies=[])
    assert reply["files"] == {}
    assert not any(each["taken"] for each in reply["suggestions"])
    assert len(client.files.list().data) == before


@pytest.mark.parametrize(
    ("name", "content", "body", "words"),
    [
        ("a.png", "x", {}, "'a.png' is no table"),
        ("a.csv", "question\nx\n", {}, "a.csv"),
        ("a.csv", TABLE, {"prompt": "{nothing}"}, "nothing"),
        ("a.json", "{", {}, "a.json"),
        ("a.json", "[" * 100_000, {}, "nested too deeply"),
        ("a.json", f'[{{"question": {DEEP}}}]', {}, "nested too deeply"),
        ("a.jsonl", f'{{"question": {DEEP}}}', {}, "a.jsonl:1"),
        ("a.csv", TABLE, {"validation": 0.6, "test": 0.6}, "below 1"),
    ],
)
def test_what_is_wrong_names_the_clients_file_and_no_path(
    client, server, name, content, body, words
):
    file = upload(client, content, name)
    with pytest.raises(openai.BadRequestError, match=words) as error:
        prepare(client, file=file, **body)
    assert str(server.settings.folder) not in str(error.value)
    assert "table.csv" not in str(error.value)
