"""Batches by the official client; a toy endpoint replaces the models."""

import json
import threading
import time

import openai
import pytest
from fastapi import APIRouter, Request
from sqlalchemy import select, update

from jangin.serving import app, batches
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.keys import add_key, remove_key
from jangin.serving.state.tables import File, RequestBatch, WebhookDelivery
from tests.serving.running import run_server

ENDPOINT = "/v1/toy"
gate = threading.Semaphore(0)
"""How many of the answers that wait may be sent."""
seen = []
toy = APIRouter()


@toy.post("/toy")
def answer(body: dict, request: Request):
    """Echoes; waits at the gate if told so; fails, or is busy once, if told so."""
    text = body["text"]
    seen.append((text, request.state.caller))
    if body.get("wait"):
        assert gate.acquire(timeout=100)
    if text == "wrong":
        raise ApiError(404, "no such text")
    if text == "busy" and [each for each, _ in seen].count("busy") == 1:
        raise ApiError(429, "later", kind="requests")
    return {"text": text, "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}}


@pytest.fixture(autouse=True)
def toy_endpoint(monkeypatch):
    for module in (batches, batches):
        monkeypatch.setattr(module, "ENDPOINTS", (ENDPOINT,))
    monkeypatch.setattr(app, "ROUTERS", (*app.ROUTERS, app.Routes(toy, "inference")))
    monkeypatch.setattr(batches, "HEARTBEAT_SECONDS", 0.05)
    seen.clear()
    while gate.acquire(blocking=False):
        pass
    yield
    gate.release(1000)


@pytest.fixture(params=["sqlite", "postgresql"])
def running(request, tmp_path):
    options = {}
    if request.param == "postgresql":
        options["database"] = request.getfixturevalue("postgresql").new_database()
    with run_server(tmp_path / "data", **options) as running:
        yield running


def store(server, texts, *, purpose="batch", wait=False):
    """A file of requests, as an upload would store it."""
    file_id = new_id("file-")
    lines = [
        {
            "custom_id": f"{number}-{text}",
            "method": "POST",
            "url": ENDPOINT,
            "body": {"model": "m", "text": text, "wait": wait},
        }
        for number, text in enumerate(texts)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with server.storage.writer(file_id) as stream:
        stream.write(data)
    row = File(
        id=file_id,
        created_at=server.now(),
        project="local",
        bytes=len(data),
        filename="in.jsonl",
        purpose=purpose,
        status="processed",
        sha256="",
        owner_key="local",
    )
    with server.database.write() as session:
        session.add(row)
    return file_id


def create(client, file_id, **more):
    return client.batches.create(
        input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h", **more
    )


def until(client, batch_id, *statuses, counts=0):
    end = time.monotonic() + 100
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status in statuses and batch.request_counts.completed >= counts:
            return batch
        assert time.monotonic() < end, batch
        time.sleep(0.02)


def release_all_when_stopped(server):
    """Requests in flight end while the server stops, and no other is sent."""
    server.get(batches.BatchRunner).stopping.wait(100)
    gate.release(1000)


def lines(server, file_id):
    with server.storage.reader(file_id) as stream:
        return {row["custom_id"]: row for row in map(json.loads, stream)}


@pytest.mark.slow
def test_a_batch_is_answered_and_its_failures_are_in_a_file_of_their_own(running):
    server, client = running.server, running.client()
    file_id = store(server, ["a", "busy", "wrong"])
    batch = create(
        client,
        file_id,
        metadata={"k": "v"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 24 * 3600
    batch = until(client, batch.id, "completed")
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    assert (batch.metadata, batch.model, batch.usage.total_tokens) == ({"k": "v"}, "m", 6)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    output, errors = lines(server, batch.output_file_id), lines(server, batch.error_file_id)
    assert set(output) == {"0-a", "1-busy"}
    assert output["0-a"]["response"]["status_code"] == 200
    assert output["0-a"]["response"]["request_id"].startswith("req_")
    assert output["0-a"]["response"]["body"]["text"] == "a"
    assert errors["2-wrong"]["response"]["status_code"] == 404
    with server.database.read() as session:
        row = session.scalars(select(File).where(File.id == batch.output_file_id)).one()
    assert (row.purpose, row.project) == ("batch_output", "local")
    assert row.expires_at == row.created_at + 3600
    assert {(caller.project, *caller.scopes) for _, caller in seen} == {("local", "inference")}
    deadline = time.monotonic() + 100  # its folder goes after the reply that it is done
    while (server.settings.folder / "batches" / batch.id).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_the_end_of_a_batch_is_an_event_for_webhooks(running):
    server, client = running.server, running.client()
    client.webhooks.create(
        name="mine", url="http://127.0.0.1:9/", event_types=["batch.completed", "batch.failed"]
    )
    batch = create(client, store(server, ["a"]))
    until(client, batch.id, "completed")
    with server.database.read() as session:
        (delivery,) = session.scalars(select(WebhookDelivery)).all()
    assert (delivery.type, delivery.payload["data"]) == ("batch.completed", {"id": batch.id})


@pytest.mark.slow
def test_a_restarted_server_continues_and_asks_nothing_twice(tmp_path):
    with run_server(tmp_path / "data") as running:
        client = running.client()
        batch = create(client, store(running.server, [f"t{n}" for n in range(40)], wait=True))
        gate.release(10)
        until(client, batch.id, "in_progress", counts=10)
        results = tmp_path / "data" / "batches" / batch.id / "output.jsonl"
        threading.Thread(target=release_all_when_stopped, args=(running.server,)).start()
    stored = results.read_text().splitlines()
    assert 10 <= len(stored) < 40
    answered = {json.loads(line)["response"]["body"]["text"] for line in stored}
    with run_server(tmp_path / "data") as running:
        done = until(running.client(), batch.id, "completed")
        assert done.request_counts.completed == 40
        assert len(lines(running.server, done.output_file_id)) == 40
    texts = [text for text, _ in seen]
    assert {text for text in answered if texts.count(text) > 1} == set()


@pytest.mark.slow
def test_a_cancelled_batch_keeps_its_results(running):
    server, client = running.server, running.client()
    batch = create(client, store(server, [f"t{n}" for n in range(40)], wait=True))
    until(client, batch.id, "in_progress")
    assert client.batches.cancel(batch.id).status == "cancelling"
    time.sleep(0.3)
    gate.release(1000)
    batch = until(client, batch.id, "cancelled")
    assert batch.request_counts.completed < 40
    assert batch.cancelled_at >= batch.cancelling_at
    with pytest.raises(openai.BadRequestError) as error:
        client.batches.cancel(batch.id)
    assert error.value.code == "invalid_state"


def test_an_expired_batch_lists_what_was_not_answered(running):
    server, client = running.server, running.client()
    batch = create(client, store(server, [f"t{n}" for n in range(20)], wait=True))
    until(client, batch.id, "in_progress")
    with server.database.write() as session:
        session.execute(update(RequestBatch).values(expires_at=server.now() - 10))
    time.sleep(0.3)
    gate.release(1000)
    batch = until(client, batch.id, "expired")
    counts = batch.request_counts
    assert counts.completed + counts.failed == 20
    errors = lines(server, batch.error_file_id).values()
    assert {row["error"]["code"] for row in errors} == {"batch_expired"}


def test_a_wrong_file_fails_the_batch_with_its_lines(running):
    server, client = running.server, running.client()
    file_id = store(server, ["a"])
    with server.storage.writer(file_id) as stream:
        stream.write(b"{}\nno json\n")
    batch = until(client, create(client, file_id).id, "failed")
    assert [error.line for error in batch.errors.data] == [1, 2]
    assert batch.failed_at is not None
    file_id = store(server, ["a"])
    server.storage.delete(file_id)
    batch = until(client, create(client, file_id).id, "failed")
    assert batch.errors.data[0].code == "file_not_found"


def test_wrong_requests_are_refused(running):
    server, client = running.server, running.client()
    file_id = store(server, ["a"])
    training = store(server, ["a"], purpose="fine-tune")
    for wrong, param in (
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": training}, "input_file_id"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
    ):
        request = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError) as error:
            client.batches.create(**(request | wrong))
        assert error.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    assert client.batches.list().data == []


@pytest.mark.slow
def test_what_is_left_of_a_batch_fails_once_its_key_is_removed(tmp_path):
    with run_server(tmp_path / "data", require_keys=True) as running:
        server = running.server
        file_id = store(server, [str(number) for number in range(40)], wait=True)
        with server.database.write() as session:
            now = server.now()
            key, text = add_key(
                session, name="", project="local", scopes=["batches", "files"], now=now
            )
        client = running.client(text)
        batch = create(client, file_id)
        gate.release(2)
        until(client, batch.id, "in_progress", counts=2)
        with server.database.write() as session:
            remove_key(session, key.id, server.now(), tmp_path)
            _, other = add_key(session, name="", project="local", scopes=["batches"], now=now)
        time.sleep(0.3)
        gate.release(100)
        batch = until(running.client(other), batch.id, "completed")
        errors = lines(server, batch.error_file_id)
    assert 2 <= batch.request_counts.completed <= 2 + batches.IN_FLIGHT
    assert len(errors) == 40 - batch.request_counts.completed
    (reply,) = {json.dumps(row["response"]["body"]) for row in errors.values()}
    assert json.loads(reply)["error"]["code"] == "invalid_api_key"
    assert {row["response"]["status_code"] for row in errors.values()} == {401}
