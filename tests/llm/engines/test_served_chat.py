"""A vLLM server from the first request to the last: started, asked, and stopped in every case."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jangin.core.errors import ChatError, ConfigError, MachineError
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.evaluation.systems.local import ask_requests
from jangin.llm.ask import ask_all
from jangin.llm.served_chat import EngineModel, open_engine
from jangin.llm.server import EndpointEngine, ModelToServe, VllmEngine
from jangin.models.starter import make_starter
from tests.forked import is_alive, wait_until_ended
from tests.llm.engines.stand_in import make_python

QUESTIONS = ("연차휴가는 며칠인가요?", "병가는 며칠인가요?", "출장비는 얼마인가요?")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    make_starter(
        folder, list(QUESTIONS), size="0.5M", vocabulary_size=300, context_length=128, seed=0
    )
    return folder


@pytest.fixture
def opened(tmp_path, ledger, weights):
    """(a model behind the stand-in, its notes): `opened(digest, --arguments...)`."""

    def make(*arguments, digest="0" * 64, python=None, **settings):
        python = python or tmp_path / "venv" / "python"
        if not python.exists():
            python.parent.mkdir(exist_ok=True)
            make_python(python.parent)
        arguments = (*arguments, "--stand-in-says", "열다섯 날")
        engine = VllmEngine(type="vllm", python=python, arguments=arguments, **settings)
        served = ModelToServe(str(weights), str(weights))
        notes = []
        model = EngineModel("tuned", digest, lambda: notes.append("prepared") or served)
        return open_engine(engine, model, tmp_path, ledger, notify=notes.append), notes

    return make


def requests_of(chat, questions, max_tokens=4):
    return [
        ChatRequest(
            model=chat.model,
            messages=(Message(role="user", content=question),),
            max_tokens=max_tokens,
        )
        for question in questions
    ]


def ask(chat, questions=QUESTIONS, max_tokens=4, concurrency=4):
    replies = {}
    requests = requests_of(chat, questions, max_tokens)
    ask_all(chat, requests, concurrency, replies.__setitem__)
    return replies


def wait_until(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_is_started_for_what_is_not_known_and_ends_with_the_last_question(
    opened, tmp_path
):
    pids = tmp_path / "pids"
    chat, notes = opened("--stand-in-child", str(pids))
    replies = ask(chat)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    assert all(reply.prompt_tokens for reply in replies.values())
    assert notes.count("prepared") == 1
    wait_until_ended(pids.read_text().split())
    again, silent = opened("--stand-in-child", str(pids))
    assert ask(again) == replies
    assert silent == []
    trained_again, notes = opened(digest="1" * 64)
    ask(trained_again, QUESTIONS[:1])
    assert "prepared" in notes


def test_the_cache_key_holds_the_weights_and_the_arguments_and_no_port_or_path(opened):
    sources = [
        opened(*arguments, digest=digest)[0].source
        for digest in ("a" * 64, "b" * 64)
        for arguments in ((), ("--quantization", "fp8"))
    ]
    assert len(set(sources)) == 4
    assert sources[0] == opened(digest="a" * 64, start_seconds=5.0, concurrency=2)[0].source


@pytest.mark.slow
def test_a_server_that_does_not_start_is_one_error_with_the_end_of_its_log(opened):
    chat, _ = opened("--stand-in-fails")
    replies = ask(chat)
    assert all(isinstance(reply, ChatError) for reply in replies.values())
    text = str(replies[0])
    assert "ended before it was ready" in text
    assert "no available memory for the cache blocks" in text
    assert "status 1" in text
    assert ".log" in text


@pytest.mark.slow
def test_a_server_that_is_too_slow_is_stopped_at_its_deadline(opened, tmp_path):
    pids = tmp_path / "pids"
    slow = ("--stand-in-start-seconds", "60", "--stand-in-child", str(pids))
    for seconds in (2, 8, 32):  # a busy machine may need more until it starts at all
        chat, _ = opened(*slow, start_seconds=float(seconds))
        replies = ask(chat, QUESTIONS[:1])
        assert f"not ready after {seconds} s" in str(replies[0])
        assert "start_seconds" in str(replies[0])
        if pids.exists():
            break
    wait_until_ended(pids.read_text().split())


@pytest.mark.slow
def test_answers_before_a_server_died_are_kept_and_the_error_shows_its_log(opened):
    chat, _ = opened("--stand-in-dies-after", "1")
    replies = ask(chat, concurrency=1)
    answered = [reply for reply in replies.values() if isinstance(reply, ChatReply)]
    assert len(answered) == 1
    failed = next(reply for reply in replies.values() if isinstance(reply, ChatError))
    assert "ended while it was asked" in str(failed)
    assert "status 7" in str(failed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_server_outlives_the_process_that_started_it(opened, tmp_path, weights, number):
    opened()  # makes the interpreter
    pids = tmp_path / "pids"
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from jangin.core.model_protocols import ChatRequest
        from jangin.core.ledger import Ledger
        from jangin.core.records import Message
        from jangin.llm.ask import ask_all
        from jangin.llm.server import VllmEngine
        from jangin.llm.served_chat import EngineModel, open_engine
        from jangin.llm.server import ModelToServe

        here = Path({str(tmp_path)!r})
        arguments = ("--stand-in-child", {str(pids)!r}, "--stand-in-start-seconds", "60")
        engine = VllmEngine(type="vllm", python=here / "venv" / "python", arguments=arguments)
        model = EngineModel("tuned", "0" * 64, lambda: ModelToServe({str(weights)!r}, ""))
        chat = open_engine(engine, model, here, Ledger(here / "other.sqlite"))
        message = Message(role="user", content="?")
        ask_all(chat, [ChatRequest(model=chat.model, messages=(message,))], 1, print)
        """)
    )
    process = subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL)
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    server, child = map(int, pids.read_text().split())
    assert is_alive(server)
    os.kill(process.pid, number)
    process.wait(100)
    wait_until_ended([server, child])


def test_where_vllm_is_not_installed_is_one_sentence_before_anything_starts(opened, tmp_path):
    with pytest.raises(MachineError, match=r"no interpreter at .*nowhere.*`engine: python`"):
        VllmEngine(type="vllm", python=Path("nowhere")).interpreter(tmp_path)
    (tmp_path / "bare").mkdir()
    bare = make_python(tmp_path / "bare", with_vllm=False)
    with pytest.raises(MachineError, match=r"not installed for .*bare/python.*pip install vllm"):
        opened(python=bare)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(MachineError, match=r"text does not run"):
        VllmEngine(type="vllm", python=Path("text")).interpreter(tmp_path)


def test_an_endpoint_needs_a_name_for_each_model_and_its_key_holds_url_and_weights(
    tmp_path, ledger
):
    def source(url, digest, **models):
        engine = EndpointEngine(type="endpoint", base_url=url, models=models)
        model = EngineModel("tuned", digest, lambda: pytest.fail("prepared"))
        return open_engine(engine, model, tmp_path, ledger).source

    url = "http://127.0.0.1:8000/v1"
    with pytest.raises(ConfigError, match=r"`engine: models`.*`tuned`"):
        source(url, "a" * 64, base="name")
    sources = {
        source(url, "a" * 64, tuned="name"), source(url, "b" * 64, tuned="name"),
        source("http://127.0.0.1:9000/v1", "a" * 64, tuned="name"),
    }  # fmt: skip
    assert len(sources) == 3


def test_an_endpoint_is_asked_for_its_model_with_the_further_fields_and_they_are_in_the_key(
    tmp_path, ledger
):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"content": "15", "reasoning_content": "Leave."}
            body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    thinks_not = {"chat_template_kwargs": {"enable_thinking": False}}

    def opened_with(**fields):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        engine = EndpointEngine(type="endpoint", base_url=url, models={"tuned": "mine"}, **fields)
        model = EngineModel("tuned", "a" * 64, lambda: pytest.fail("prepared"))
        return open_engine(engine, model, tmp_path, ledger, {"top_p": 0.9})

    chat = opened_with(parameters=thinks_not)
    replies = ask_requests(chat, requests_of(chat, QUESTIONS[:2]), 2, "tuned")
    assert [(reply.text, reply.reasoning) for reply in replies] == [("15", "Leave.")] * 2
    for body in asked:
        assert (body["model"], body["top_p"]) == ("mine", 0.9)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat.source != opened_with().source
    server.shutdown()
    server.server_close()
