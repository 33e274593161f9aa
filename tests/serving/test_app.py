"""The server answers, and every failure has OpenAI's envelope and headers."""

import sys
import time

import httpx2
import openai
import pytest
from sqlalchemy import text

from jangin import __version__
from jangin.serving import app
from jangin.serving.state.settings import SQLITE_FILE
from tests.serving.running import run_server


def test_health_needs_no_key(running):
    reply = httpx2.get(f"{running.root}/healthz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok", "version": __version__})


def test_a_server_is_ready_while_database_disk_and_queue_work(tmp_path, monkeypatch):
    with run_server(tmp_path / "data") as running:
        reply = httpx2.get(f"{running.root}/readyz")
        checks = {"database": "ok", "disk": "ok", "scheduler": "ok"}
        assert reply.status_code == 200
        assert reply.json() == {"status": "ok", "checks": checks}
        monkeypatch.setattr(app, "LEAST_FREE", 1 << 62)
        reply = httpx2.get(f"{running.root}/readyz")
        assert (reply.status_code, reply.json()["checks"]) == (503, {**checks, "disk": "failed"})
        monkeypatch.undo()
        damaged = tmp_path / "data" / SQLITE_FILE
        with running.server.database.read() as session:
            session.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        running.server.database.close()
        damaged.write_bytes(damaged.read_bytes()[:100] + b"\x55" * 200_000)
        reply = httpx2.get(f"{running.root}/readyz")
        assert (reply.status_code, reply.json()["checks"]["database"]) == (503, "failed")
        assert str(tmp_path) not in reply.text
        assert httpx2.get(f"{running.root}/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/x", "/v1/x/", "/x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_has_an_envelope_and_the_headers(running, method, path):
    reply = httpx2.request(method, running.root + path)
    shown = path.rstrip("/")
    assert reply.status_code == 404
    assert reply.json() == {
        "error": {
            "message": f"Invalid URL ({method} {shown})",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["openai-version"] == "2020-10-01"
    assert int(reply.headers["openai-processing-ms"]) >= 0


def test_a_browser_is_told_where_pages_are_and_a_program_is_not(running):
    said = httpx2.get(running.root, headers={"accept": "text/html"}).json()["error"]["message"]
    assert "workbench: true" in said
    assert "jangin open" in said
    assert "workbench" not in httpx2.get(running.root).text


def test_the_endpoint_of_2023_names_its_successor(running):
    error = httpx2.get(f"{running.url}/fine-tunes").json()["error"]
    assert "/v1/fine_tuning/jobs" in error["message"]


def test_a_method_that_a_path_does_not_have_is_an_invalid_url(running):
    reply = httpx2.post(f"{running.root}/healthz")
    assert reply.status_code == 405
    assert reply.json()["error"]["message"] == "Invalid URL (POST /healthz)"


def test_the_official_client_understands_the_envelope(client):
    with pytest.raises(openai.NotFoundError, match="Invalid URL") as raised:
        client.get("/nothing", cast_to=object)
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id.startswith("req_")


def start_and_wait_for_libraries(folder, base):
    """A server in a process that has not imported the inference libraries."""
    for name in [name for name in sys.modules if name.startswith("jangin.inference")]:
        del sys.modules[name]
    models = {"m": {"base": {"type": "local", "path": base}}}
    with run_server(folder, models=models, warm_up=True):
        deadline = time.monotonic() + 90
        while "jangin.inference.engine.prompts" not in sys.modules:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_server_with_a_model_loads_its_libraries_after_the_start(tmp_path, fork):
    process = fork(
        f"{__name__}:start_and_wait_for_libraries",
        [tmp_path / "data", tmp_path],
        output=tmp_path / "log.txt",
    )
    assert process.wait() == 0, process.printed()
