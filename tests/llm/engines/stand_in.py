"""A stand-in for vLLM: its command line and API in a process of its own, over transformers.

`make_python` writes an interpreter whose `vllm` is this module. What a test wants, such as a
slow start, is set by an argument `--stand-in-...`, which vLLM does not have.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock


def make_python(folder, *, with_vllm=True):
    """Path of an interpreter that has this stand-in as vLLM, or has none."""
    package = folder / "site" / "vllm" / "entrypoints" / "openai"
    if with_vllm:
        package.mkdir(parents=True)
        for part in (package, package.parent, package.parent.parent):
            (part / "__init__.py").write_text("")
        root = Path(__file__).parents[3]
        (package / "api_server.py").write_text(
            f"import sys\nsys.path.insert(0, {str(root)!r})\n"
            "from tests.llm.engines.stand_in import main\nmain()\n"
        )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "site"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def main():
    """Serve one model until it is killed."""
    parser = argparse.ArgumentParser()
    for name in ("model", "tokenizer", "served-model-name", "host", "generation-config"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--revision")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--stand-in-start-seconds", type=float, default=0)
    parser.add_argument("--stand-in-fails", action="store_true")
    parser.add_argument("--stand-in-dies-after", type=int, default=0)
    parser.add_argument("--stand-in-child", type=Path)
    parser.add_argument("--stand-in-says", help="every answer, without loading the model")
    options = parser.parse_args()
    print("loading", options.model, flush=True)  # noqa: T201  a log
    if options.stand_in_child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        options.stand_in_child.write_text(f"{os.getpid()} {child.pid}")
    if options.stand_in_fails:
        raise ValueError("no available memory for the cache blocks")
    time.sleep(options.stand_in_start_seconds)
    serve(options)


def load(options):
    """`answer(messages, max_tokens)`: text, tokens of the prompt, tokens of the answer. Greedy."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)

    def answer(messages, max_tokens):
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        with torch.inference_mode():
            out = model.generate(ids, max_new_tokens=max_tokens, do_sample=False)
        new = out[0, ids.shape[1] :].tolist()
        return tokenizer.decode(new, skip_special_tokens=True), ids.shape[1], len(new)

    return answer


def serve(options):
    """Answer `/health`, `/v1/models` and `/v1/chat/completions`."""
    said = options.stand_in_says
    answer = load(options) if said is None else lambda _messages, _max_tokens: (said, 9, 1)
    lock, answered = Lock(), []
    key = os.environ.get("VLLM_API_KEY")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, body, status=200):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def is_guarded(self):
            """As vLLM, which asks for the key below /v1 only."""
            given = self.headers.get("Authorization")
            return bool(key) and self.path.startswith("/v1") and given != f"Bearer {key}"

        def do_GET(self):
            if self.is_guarded():
                self.reply({"error": "Unauthorized"}, 401)
                return
            self.reply({"data": [{"id": options.served_model_name}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.is_guarded():
                self.reply({"error": "Unauthorized"}, 401)
                return
            print("asked", flush=True)  # noqa: T201  a log
            with lock:
                answered.append(body)
                if options.stand_in_dies_after and len(answered) > options.stand_in_dies_after:
                    os._exit(7)
                text, asked, new = answer(body["messages"], body["max_tokens"])
            reason = "length" if new == body["max_tokens"] else "stop"
            usage = {"prompt_tokens": asked, "completion_tokens": new}
            message = {"role": "assistant", "content": text}
            self.reply({"choices": [{"message": message, "finish_reason": reason}], "usage": usage})

        def log_message(self, *_arguments):
            pass

    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
