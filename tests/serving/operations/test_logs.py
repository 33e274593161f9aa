"""The log: a line per request with who and what, and nothing of what was said."""

import asyncio
import io
import json
import logging
import socket
import time

import httpx2
import pytest

from jangin.serving.operations.logs import LOGGERS, PromptLog, configure
from tests.serving.running import ANY_KEY, run_server

KEY = {"authorization": f"Bearer {ANY_KEY}"}
SECRET = "비밀 문장"


@pytest.fixture
def log():
    """The lines that the server writes."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    stream = io.StringIO()
    configure("json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture
def own(tmp_path):
    with run_server(tmp_path / "data") as running:
        yield running


def test_a_request_is_a_line_without_its_contents(log, own):
    rows = json.dumps({"messages": [SECRET]}).encode()
    file = own.client().files.create(file=(f"{SECRET}.jsonl", rows), purpose="fine-tune")
    assert httpx2.get(f"{own.url}/files/{file.id}", headers=KEY).status_code == 200
    reply = httpx2.delete(f"{own.url}/files/{file.id}?note={SECRET}", headers=KEY)
    httpx2.post(f"{own.url}/chat/completions", headers=KEY, json={"messages": [SECRET]})
    httpx2.get(f"{own.root}/healthz")
    until = time.monotonic() + 100  # the line of a request follows its reply
    while len(lines := {line["request_id"]: line for line in log() if "request_id" in line}) < 3:
        assert time.monotonic() < until, lines
        time.sleep(0.01)
    line = lines[reply.headers["x-request-id"]]
    assert {**line, "time": 0, "ms": 0, "message": 0} == {
        "time": 0, "level": "info", "message": 0, "request_id": line["request_id"],
        "method": "DELETE", "path": f"/v1/files/{file.id}", "status": 200, "ms": 0,
        "client": "127.0.0.1", "project": "local", "key": "local",
    }  # fmt: skip
    assert len(lines) == 3, "successful reads are not logged"
    text = json.dumps(log(), ensure_ascii=False)
    assert SECRET not in text
    assert ANY_KEY not in text


def test_the_events_of_a_job_are_lines_without_its_warnings(log, own):
    rows = b'{"messages": [{"role": "x"}]}'
    client = own.client()
    file = client.files.create(file=("train.jsonl", rows), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="any", training_file=file.id)
    until = time.monotonic() + 100
    while not (lines := [line for line in log() if line.get("job") == job.id]) or (
        lines[-1]["level"] != "error"
    ):
        assert time.monotonic() < until, lines
        time.sleep(0.05)
    assert lines[0]["message"] == f"{job.id}: Created fine-tuning job: {job.id}"
    assert "has the role" in lines[-1]["message"]
    assert {line["level"] for line in lines} == {"info", "error"}


def test_a_failure_has_its_traceback_in_the_line(log, own):
    def clock():
        raise RuntimeError("broken clock")

    own.server._clock = clock
    reply = httpx2.get(f"{own.url}/files", headers=KEY)
    own.server._clock = lambda: 0
    assert reply.status_code == 500
    # The queue of jobs reads the clock as well, and may fail at the same moment.
    [failure] = [line for line in log() if reply.headers["x-request-id"] in line["message"]]
    assert failure["level"] == "error"
    assert "broken clock" in failure["traceback"]


def test_a_client_that_leaves_during_an_upload_is_a_line_and_no_failure(log, own):
    head = (
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\n"
        "content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000000\r\n\r\n"
        '--x\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", httpx2.URL(own.url).port)) as connection:
        connection.sendall(head.encode() + bytes(100_000))
    until = time.monotonic() + 100
    while not (lines := [line for line in log() if line.get("path") == "/v1/files"]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [(line["level"], line["status"]) for line in lines] == [("info", 499)]
    assert not any("traceback" in line for line in log())


@pytest.mark.parametrize(("path", "is_logged"), [("/v1/responses", True), ("/v1/files", False)])
def test_prompts_are_logged_where_that_is_asked_for(log, path, is_logged):
    async def answer(_scope, receive, send):
        text = (await receive())["body"] + (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text[::-1]})

    pieces = [{"type": "http.request", "body": b"ab"}, {"type": "http.request", "body": b"cd"}]
    sent = []

    async def receive():
        return pieces.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "state": {"request_id": "req_1"}}
    asyncio.run(PromptLog(answer)(scope, receive, send))
    assert sent[1]["body"] == b"dcba"
    lines = [(line["request_id"], line["request"], line["reply"]) for line in log()]
    assert lines == ([("req_1", "abcd", "dcba")] if is_logged else [])


@pytest.mark.usefixtures("log")
def test_a_terminal_gets_text():
    stream = io.StringIO()
    configure("text", stream)
    logging.getLogger("jangin.serving").info("hello")
    configure("auto", stream)
    logging.getLogger("jangin.serving").info("hello")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("info: hello")
    assert json.loads(second)["message"] == "hello"


@pytest.mark.usefixtures("log")
def test_a_path_makes_no_line_of_its_own_and_gives_a_terminal_no_orders(own):
    stream = io.StringIO()
    configure("text", stream)
    path = "foo%0A12:00:00%20info:%20fake%1B[31m%C2%9B%E2%80%A8end"
    assert httpx2.get(f"{own.url}/{path}", headers=KEY).status_code == 404
    until = time.monotonic() + 100
    while "GET /v1/foo" not in stream.getvalue():
        assert time.monotonic() < until
        time.sleep(0.01)
    [line] = stream.getvalue().splitlines()
    assert r"GET /v1/foo\n12:00:00 info: fake\x1b[31m\x9b\u2028end 404" in line
