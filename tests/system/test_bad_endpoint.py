"""What a user reads, and which exit code comes, when a teacher's endpoint is not as it should."""

import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from jangin.cli.main import main
from jangin.core.ledger import Ledger
from tests.shared import silent_port

TEXT = "# 규정\n\n" + "\n\n".join(
    f"## 제{n}조(휴가 {n})\n\n직원은 해마다 {n + 10}일의 휴가 {n}을 쓴다. {n}일 전에 알린다."
    for n in range(1, 13)
)
HTML = "<html><body>Sign in to continue</body></html>"


def error(status, message, **fields):
    body = json.dumps({"error": {"message": message, **fields}})
    return status, "application/json", body


def reply(content):
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return 200, "application/json", json.dumps({"choices": [choice]})


def streamed(content):
    pieces = [content[at : at + 5] for at in range(0, len(content), 5)]
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return 200, "text/event-stream", "".join(lines) + "data: [DONE]\n\n"


NO_PAIRS = json.dumps({"pairs": []})


class Server(ThreadingHTTPServer):
    """Gives one answer to every request; holds it back until `go` is set."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked, self.go = answer, 0, threading.Event()
        self.lock = threading.Lock()
        self.go.set()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.asked += 1
        self.server.go.wait(100)
        status, kind, text = self.server.answer
        if self.path != "/v1/chat/completions":
            status, kind, text = 404, "text/html", "<h1>Not Found</h1>"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        server = Server(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.go.set()
        server.shutdown()
        server.server_close()


def project(folder: Path, url: str, **fields: object) -> Path:
    (folder / "documents").mkdir()
    (folder / "documents" / "규정.md").write_text(TEXT, encoding="utf-8")
    teacher = {"type": "endpoint", "model": "teacher-1", "base_url": url, "retries": 0, **fields}
    data = {
        "name": "bad",
        "teachers": {"writer": teacher},
        "documents": {"load": {"folder": "documents"}, "chunk": None},
        "examples": {"synthesize": {"teacher": "writer", "pairs_per_chunk": 1, "concurrency": 4}},
    }
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def url_of(server, path="/v1"):
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


@pytest.fixture
def jangin(monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        code: object = 0
        try:
            main()
        except SystemExit as leave:
            code = leave.code
        printed = capsys.readouterr()
        return int(str(code or 0)), printed.out + printed.err

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "code", "says", "most_asked"),
    [
        (error(401, "Incorrect API key provided"), 2, "the key is missing or wrong", 4),
        (error(403, "Project has no access"), 2, "the key may not use this model", 4),
        (error(404, "The model `teacher-1` does not exist"), 2, "`teacher-1` does not exist", 4),
        (error(402, "Pay first"), 2, "the account has no credit", 4),
        (
            error(429, "You exceeded your current quota", code="insufficient_quota"),
            2,
            "the account has no credit",
            4,
        ),
        (
            error(400, "maximum context length is 4096 tokens", code="context_length_exceeded"),
            2,
            "is longer than the context of model 'teacher-1'",
            99,
        ),
        (
            (200, "text/html", HTML),
            1,
            "is base_url right? '<html><body>Sign in",
            12,
        ),
        (error(500, "oops"), 1, "HTTP 500: oops", 12),
    ],
)
def test_a_bad_answer_is_one_sentence(serve, jangin, tmp_path, answer, code, says, most_asked):
    server = serve(answer)
    path = project(tmp_path, url_of(server))
    found, printed = jangin("run", "-p", path)
    assert found == code, printed
    assert printed.count("error:") == 1
    assert says in printed
    assert "Traceback" not in printed
    assert server.asked <= most_asked


@pytest.mark.slow
def test_a_base_url_without_its_path_is_one_sentence(serve, jangin, tmp_path):
    server = serve(reply(NO_PAIRS))
    code, printed = jangin("run", "-p", project(tmp_path, url_of(server, path="")))
    assert code == 2
    assert "the URL or the model does not exist" in printed


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_endpoint_that_cannot_be_reached_is_one_sentence(serve, jangin, tmp_path, scheme):
    with silent_port() as silent:
        port = silent if scheme == "http" else serve(reply(NO_PAIRS)).server_address[1]
        path = project(tmp_path, f"{scheme}://127.0.0.1:{port}/v1")
        code, printed = jangin("run", "-p", path)
    assert code == 1
    assert printed.count("error:") == 1
    assert ("is it running" if scheme == "http" else "is it http:// and not https://?") in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_a_key_that_is_not_set_is_told_before_any_work(serve, jangin, tmp_path, monkeypatch):
    server = serve(reply(NO_PAIRS))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    path = project(tmp_path, url_of(server), key_variable="NO_SUCH_KEY")
    code, printed = jangin("run", "-p", path)
    assert code == 2
    assert "environment variable NO_SUCH_KEY is not set" in printed
    assert server.asked == 0


@pytest.mark.slow
def test_an_endpoint_that_streams_unasked_is_read(serve, jangin, tmp_path):
    server = serve(streamed(NO_PAIRS))
    code, printed = jangin("run", "-p", project(tmp_path, url_of(server)))
    assert code == 1
    assert "not a chat completion" not in printed
    assert "12 of 12 replies hold no pair" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_the_replies_of_calls_in_flight(serve, fork, tmp_path, number):
    server = serve(reply(NO_PAIRS))
    server.go.clear()
    path = project(tmp_path, url_of(server))
    run = fork("tests.forked:run_command", ["run", "-p", path], output=tmp_path / "log.txt")
    while server.asked < 4 and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(number)
    while "waiting for" not in run.printed() and run.poll() is None:
        time.sleep(0.02)
    server.go.set()
    assert run.wait() == 130, run.printed()
    printed = run.printed()
    assert "waiting for 4 calls in flight; Ctrl-C again to drop them" in " ".join(printed.split())
    assert "Stopped." in printed
    assert server.asked == 4
    ledger = Ledger(tmp_path / "store" / "ledger.sqlite")
    assert ledger.count_calls().answered == 4
    ledger.close()
