"""Backends: a real llama.cpp server with a GGUF that jangin exported, and vLLM's adapter calls."""

import json
import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest
import yaml

from jangin.serving.state.tables import StoredModel
from jangin.training.export.export import export_model
from tests.serving.inference.conftest import TUNED
from tests.serving.inference.test_chat import MESSAGES, QUESTION
from tests.serving.running import run_server
from tests.shared import free_port
from tests.training.export.test_export import RECORD, folders

__all__ = ("folders",)

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("JANGIN_LLAMACPP", ROOT / ".venv" / "llamacpp")) / "bin" / "python"
needs_llama_cpp = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="llama-cpp-python's server is not installed: `make test-llamacpp` installs it",
)

VLLM = os.environ.get("JANGIN_VLLM", "")
LIMIT = 24


def serving(folder, base, backend):
    """Settings of a server whose alias `tiny` another server answers for."""
    folder.mkdir(exist_ok=True)
    entry = {"base": {"type": "local", "path": str(base / "model")}, "backend": backend}
    (folder / "server.yaml").write_text(yaml.safe_dump({"models": {"tiny": entry}}))
    return run_server(folder / "data", folder / "server.yaml")


@contextmanager
def started(command, port, log, seconds, **environment):
    """A server as a process of its own, once it accepts connections; its address."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, env=environment
        )
    until = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < until:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def llama_cpp_server(gguf, log):
    port = free_port()
    command = [PYTHON, "-m", "llama_cpp.server", "--model", gguf, "--port", port]
    command += ["--n_ctx", "128", "--n_threads", "1", "--verbose", "false"]
    return started(command, port, log, 60, PATH="")


def vllm_server(model, name, log):
    """vLLM's own server, on a CPU where there is no GPU."""
    port = free_port()
    command = [Path(VLLM).resolve() / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model, "--served-model-name", name, "--port", port]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "128"]
    command += ["--enforce-eager", "--enable-lora", "--max-lora-rank", "16", "--max-loras", "1"]
    settings = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return started(command, port, log, 1100, **{**os.environ, **settings, "PYTHONPATH": ""})


@pytest.mark.skipif(not VLLM, reason="JANGIN_VLLM names no environment with vLLM")
@pytest.mark.timeout(1500)  # vLLM imports for minutes on a busy machine
def test_vllm_itself_answers_with_our_adapter_as_we_do(folders, conversations, tmp_path):
    """The adapter is loaded while vLLM runs; chat and stream."""
    base, tuned = folders
    requests = requests_of(conversations)
    ours = our_answers(folders, requests, tmp_path / "own")
    with (
        vllm_server(base / "model", "tiny", tmp_path / "log") as url,
        serving(tmp_path / "other", base, {"type": "vllm", "url": url}) as proxied,
    ):
        add_adapter(proxied, base, tuned)
        assert [answer(proxied, TUNED, messages) for messages in requests] == ours
        assert streamed(proxied, TUNED, requests[0]) == ours[0][0]


@needs_llama_cpp
@pytest.mark.slow
def test_llama_cpp_answers_with_our_gguf_as_we_do(folders, conversations, tmp_path):
    base, tuned = folders
    canaries = [conversation[:1] for conversation in conversations[:2]]
    export_model(base, tuned, tmp_path / "tuned", "gguf", RECORD, canaries)
    (gguf,) = (tmp_path / "tuned").glob("*.gguf")
    requests = requests_of(conversations)
    ours = our_answers(folders, requests, tmp_path / "own")
    with (
        llama_cpp_server(gguf, tmp_path / "log") as url,
        serving(tmp_path / "other", base, {"type": "llamacpp", "url": url}) as proxied,
    ):
        assert [answer(proxied, "tiny", messages) for messages in requests] == ours
        assert streamed(proxied, "tiny", requests[0]) == ours[0][0]


def requests_of(conversations):
    """The messages of a request for each question."""
    return [[{"role": "user", "content": turns[0].content}] for turns in conversations]


def our_answers(folders, requests, folder):
    """What jangin answers itself: (text, tokens of the prompt) of each, mostly different texts."""
    base, tuned = folders
    with serving(folder, base, {"type": "local"}) as local:
        add_adapter(local, base, tuned)
        answers = [answer(local, TUNED, messages) for messages in requests]
    assert len({text for text, _ in answers}) > 4
    return answers


def streamed(server, model, messages):
    """The text of an answer that arrives in pieces, each with the name of the model."""
    chunks = list(
        server.client().chat.completions.create(
            model=model, messages=messages, temperature=0, max_tokens=LIMIT, stream=True
        )
    )
    assert {chunk.model for chunk in chunks} == {model}
    return "".join(
        chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
    ).strip()


def add_adapter(server, base, tuned):
    """Register a fine-tuned adapter with the server."""
    with server.server.database.write() as session:
        session.add(stored(base, tuned))


def stored(base, tuned):
    """The row of a fine-tuned adapter."""
    return StoredModel(
        name=TUNED, project="local", created_at=1, base=str(base), kind="adapter", path=str(tuned)
    )


def answer(server, model, messages):
    """(text, tokens of the prompt) of a greedy answer."""
    reply = server.client().chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=LIMIT
    )
    assert reply.model == model
    return reply.choices[0].message.content.strip(), reply.usage.prompt_tokens


class VllmCalls(BaseHTTPRequestHandler):
    """What vLLM documents of its runtime LoRA endpoints, and a reply that repeats the model."""

    received: list = []  # noqa: RUF012  one list for all requests
    adapters: set = set()  # noqa: RUF012  as above
    served = ("base",)
    refuses = False
    """Whether it knows no `stream_options`."""

    def do_GET(self):
        self.answer(json.dumps({"data": [{"id": name} for name in self.served]}).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.received.append((self.path, body))
        if self.path.endswith("load_lora_adapter"):
            self.adapters.add(body["lora_name"])
            self.answer(b"Success: LoRA adapter added.")
        elif "stream_options" in body and self.refuses:
            error = {"message": "Unrecognized request argument supplied: stream_options"}
            self.answer(json.dumps({"error": error}).encode(), 400)
        elif body["model"] not in {*self.served, *self.adapters}:
            error = {"message": "The model does not exist.", "type": "NotFoundError", "code": 404}
            self.answer(json.dumps({"error": error}).encode(), 404)
        else:
            message = {"role": "assistant", "content": "네"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            reply = json.dumps(
                {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                 "choices": [choice]}
            ).encode()  # fmt: skip
            self.answer(reply)

    def answer(self, reply, status=200):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def vllm():
    VllmCalls.received.clear()
    VllmCalls.adapters.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), VllmCalls) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/v1"
        http.shutdown()


def test_an_adapter_is_loaded_into_vllm_once_and_named_as_the_client_did(vllm, artifacts, tmp_path):
    base = artifacts["tiny"]
    with serving(tmp_path, base, {"type": "vllm", "url": vllm}) as proxied:
        add_adapter(proxied, base, artifacts[TUNED])
        client = proxied.client()
        for _ in range(2):
            reply = client.chat.completions.create(model=TUNED, messages=MESSAGES)
            assert (reply.model, reply.choices[0].message.content) == (TUNED, "네")
    paths = [path for path, _ in VllmCalls.received]
    assert paths == ["/v1/load_lora_adapter", *["/v1/chat/completions"] * 2]
    loaded, first, _ = (body for _, body in VllmCalls.received)
    assert loaded["lora_path"] == str(artifacts[TUNED] / "adapter")
    assert first["model"] == loaded["lora_name"]


def test_a_vllm_that_was_started_again_gets_the_adapter_again(vllm, artifacts, tmp_path):
    base = artifacts["tiny"]
    with serving(tmp_path, base, {"type": "vllm", "url": vllm}) as proxied:
        add_adapter(proxied, base, artifacts[TUNED])
        client = proxied.client()
        for _ in range(2):
            reply = client.chat.completions.create(model=TUNED, messages=MESSAGES)
            assert reply.choices[0].message.content == "네"
            VllmCalls.adapters.clear()
    calls = [path.rpartition("/")[2] for path, _ in VllmCalls.received]
    assert calls == ["load_lora_adapter", "completions", "completions", *calls[:2]]


def test_vllm_never_answers_by_its_base_for_a_model_with_weights_of_its_own(
    vllm, artifacts, tmp_path, monkeypatch
):
    base = artifacts["tiny"]
    with serving(tmp_path, base, {"type": "vllm", "url": vllm}) as proxied:
        with proxied.server.database.write() as session:
            full = stored(base, artifacts[TUNED])
            full.kind = "full"
            session.add(full)
        client = proxied.client()
        with pytest.raises(
            openai.InternalServerError, match=r"serves base\. Start a vLLM"
        ) as caught:
            client.chat.completions.create(model=TUNED, messages=MESSAGES)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert client.chat.completions.create(model="tiny", messages=MESSAGES).model == "tiny"
        monkeypatch.setattr(VllmCalls, "served", ("other", TUNED))
        client.chat.completions.create(model=TUNED, messages=MESSAGES)
    assert [body["model"] for _, body in VllmCalls.received] == ["base", TUNED]


def test_a_backend_that_refuses_stream_options_streams_without(
    vllm, artifacts, tmp_path, monkeypatch
):
    monkeypatch.setattr(VllmCalls, "refuses", True)
    with serving(tmp_path, artifacts["tiny"], {"type": "vllm", "url": vllm}) as proxied:
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        client = proxied.client()
        client.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES, **usage)
    first, second = (body for path, body in VllmCalls.received if path.endswith("completions"))
    assert "stream_options" in first
    assert second == {name: first[name] for name in first if name != "stream_options"}


def test_a_backend_that_does_not_answer_is_named(artifacts, tmp_path):
    backend = {"type": "llamacpp", "url": "http://127.0.0.1:9/v1"}
    with serving(tmp_path, artifacts["tiny"], backend) as proxied:
        with pytest.raises(openai.APIStatusError) as caught:
            proxied.client().completions.create(model="tiny", prompt=QUESTION)
        assert caught.value.status_code == 503
        assert "127.0.0.1:9" in caught.value.message
