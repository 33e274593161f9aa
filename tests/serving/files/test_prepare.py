"""`/v1/x/prepare`, called as an unmodified client can: `client.post`."""

import io
import json

import openai
import pyarrow
import pytest
from pyarrow.parquet import write_table
from xlsxwriter import Workbook

from jangin.serving.files import check_process
from tests.serving.running import run_server

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


def spreadsheet(rows):
    """An XLSX whose sheet is some 100 bytes a row, packed to almost nothing."""
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for row, cells in enumerate([("question", "answer"), *[("x" * 50, "y" * 50)] * rows]):
            sheet.write_row(row, 0, cells)
    return out.getvalue()


def parquet(rows):
    """Some thousand bytes with rows of 40 kB."""
    texts = pyarrow.DictionaryArray.from_arrays([0] * rows, ["x" * 20_000])
    out = io.BytesIO()
    write_table(pyarrow.table({"question": texts, "answer": texts}), out, compression="zstd")
    return out.getvalue()


@pytest.mark.parametrize(("name", "make"), [("a.xlsx", spreadsheet), ("a.parquet", parquet)])
def test_a_table_that_is_far_larger_inside_is_refused(tmp_path, name, make):
    with run_server(tmp_path / "data", limits={"file_mb": 2}) as running:
        client = running.client()
        data = make(30_000)
        assert len(data) < 1_500_000
        file = client.files.create(file=(name, data), purpose="user_data").id
        with pytest.raises(openai.BadRequestError, match=f"{name} has more than 2 MB inside"):
            prepare(client, file=file)


def test_a_table_that_takes_too_much_memory_ends_its_process_only(client, monkeypatch):
    monkeypatch.setattr(check_process, "MEMORY", 10 << 20)
    monkeypatch.setattr(check_process, "_TICK_SECONDS", 0.01)
    with pytest.raises(openai.BadRequestError, match="Split it"):
        prepare(client, file=upload(client))
    monkeypatch.undo()
    assert prepare(client, file=upload(client), write=False)["files"] == {}
