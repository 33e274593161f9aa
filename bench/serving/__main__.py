"""Parallel chat requests to `jangin serve`, `transformers serve` and llama.cpp's server.

    python bench/serving [--requests 200] [--tokens 32] [--size 8M] [--llamacpp VENV/bin/python]

All serve one random starter, one after the other, on one thread each; meanwhile a job of
`jangin serve` trains on the other core. Every client asks once, all at the same moment, greedily,
for at most `--tokens` tokens. Shown are failures, the seconds after which half and 99 % of the
requests were answered, requests and tokens per second, and our server's ratio to each peer.
llama.cpp's server needs `pip install 'llama-cpp-python[server]'`, in any environment.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

SUBJECTS = ("연차휴가", "병가", "출장비", "회의실", "법인카드", "주차권", "노트북", "방문증")
QUESTIONS = [
    f"{name}는 {day}일 전에 누구에게 신청하나요?" for name in SUBJECTS for day in range(1, 26)
]
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
START_SECONDS = 180
KEY = {"authorization": "Bearer bench"}


@dataclass
class Result:
    """What the clients of one server saw."""

    name: str
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    failures: list[str] = field(default_factory=list)
    wall: float = 0.0

    def row(self) -> str:
        """One line of the table."""
        if not self.seconds:
            return f"{self.name:34} no answers; {self.failures[:1]}"
        ordered = sorted(self.seconds)
        last = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
        return (
            f"{self.name:34} failed {len(self.failures):3}  "
            f"p50 {statistics.median(ordered):7.2f} s  p99 {last:7.2f} s  "
            f"{len(ordered) / self.wall:7.2f} requests/s  {self.tokens / self.wall:8.1f} tokens/s"
        )


def write_model(folder: Path, size: str) -> Path:
    """A starter in a folder, and the same weights as a GGUF beside it."""
    from jangin.core.records import Message
    from jangin.models.starter import make_starter
    from jangin.training.export.export import export_model

    base = folder / "base"
    make_starter(
        base / "model", QUESTIONS * 4, size=size, vocabulary_size=2048, context_length=512, seed=0
    )
    canaries = [(Message(role="user", content=question),) for question in QUESTIONS[:2]]
    record = {"name": "bench", "base": "starter", "data": {}, "training": {}, "evaluation": []}
    export_model(base, base, folder / "gguf", "gguf", {**record, "limits": []}, canaries)
    return base


@contextmanager
def process(command: Sequence[object], url: str, log: Path) -> Iterator[None]:
    """A server, from its first reply until the end of the block."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            env={**os.environ, **QUIET},
        )
    try:
        if not asyncio.run(until_up(url, running)):
            sys.exit(f"{url} did not start:\n{log.read_text()[-2000:]}")
        yield
    finally:
        running.terminate()
        try:
            running.wait(40)
        except subprocess.TimeoutExpired:
            running.kill()


async def until_up(url: str, running: Any) -> bool:
    """Whether the server answers before it ends, and in time."""
    end = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end and running.poll() is None:
            try:
                async with session.get(f"{url}/models", headers=KEY):
                    return True
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
    return False


async def ask_all(name: str, url: str, model: str, count: int, tokens: int) -> Result:
    """Every request at once, after one that loads the model."""
    result = Result(name)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=1200)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(question: str) -> None:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": tokens,
            }
            start = time.perf_counter()
            try:
                async with session.post(f"{url}/chat/completions", json=body, headers=KEY) as reply:
                    value = await reply.json(content_type=None)
                    value["choices"][0]["message"]["content"]
            except (aiohttp.ClientError, KeyError, ValueError, TimeoutError) as error:
                result.failures.append(repr(error)[:120])
                return
            result.seconds.append(time.perf_counter() - start)
            result.tokens += value["usage"]["completion_tokens"]

        await ask(QUESTIONS[0])
        result.seconds, result.tokens = [], 0
        start = time.perf_counter()
        await asyncio.gather(*(ask(QUESTIONS[n % len(QUESTIONS)]) for n in range(count)))
        result.wall = time.perf_counter() - start
    return result


async def start_job(url: str) -> None:
    """A job that trains until the bench has ended."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"{number}번 창구에 신청합니다."},
            ]
        }
        for number, question in enumerate(QUESTIONS)
    ]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    async with aiohttp.ClientSession(headers=KEY) as session:
        form = aiohttp.FormData({"purpose": "fine-tune"})
        form.add_field("file", content, filename="train.jsonl")
        async with session.post(f"{url}/files", data=form) as reply:
            file = await reply.json()
        settings = {"n_epochs": 50, "batch_size": 4}
        body = {"model": "tiny", "training_file": file["id"], "hyperparameters": settings}
        async with session.post(f"{url}/fine_tuning/jobs", json=body) as reply:
            job = await reply.json()
        for _ in range(600):
            async with session.get(f"{url}/fine_tuning/jobs/{job['id']}") as reply:
                status = (await reply.json())["status"]
            if status not in ("validating_files", "queued"):
                break
            await asyncio.sleep(0.5)
        print(f"the job is {status}", flush=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--size", default="8M")
    parser.add_argument("--llamacpp", type=Path, help="python with llama-cpp-python[server]")
    arguments = parser.parse_args()
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = write_model(folder, arguments.size)
        entry = {"base": {"type": "local", "path": str(base / "model")}}
        (folder / "server.yaml").write_text(yaml.safe_dump({"models": {"tiny": entry}}))
        port = free_port()
        ours = f"http://127.0.0.1:{port}/v1"
        serve = [sys.executable, "-m", "jangin.cli", "serve", "--folder", folder / "server"]
        serve += ["--port", port, "--models", folder / "server.yaml"]
        with process(serve, ours, folder / "ours.log"):
            asyncio.run(start_job(ours))
            results = [ask_ours(ours, arguments)]
            print(results[0].row(), flush=True)
            for peer, command, url, model in peers(folder, base, arguments.llamacpp):
                with process(command, url, folder / "peer.log"):
                    asked = ask_all(peer, url, model, arguments.requests, arguments.tokens)
                    results.append(asyncio.run(asked))
                print(results[-1].row(), flush=True)
        for peer in results[1:]:
            if peer.wall and results[0].wall:
                ratio = (results[0].tokens / results[0].wall) / (peer.tokens / peer.wall or 1)
                print(f"ours / {peer.name}: {ratio:.2f} times the tokens per second")


def ask_ours(url: str, arguments: argparse.Namespace) -> Result:
    return asyncio.run(ask_all("jangin serve", url, "tiny", arguments.requests, arguments.tokens))


def peers(
    folder: Path, base: Path, llamacpp: Path | None
) -> Iterator[tuple[str, list[object], str, str]]:
    """(name, command, URL, model) of each server beside ours."""
    script = Path(sys.executable).with_name("transformers")
    model = str(base / "model")
    for name, options in (
        ("transformers serve", []),
        ("transformers serve, continuous", ["--continuous-batching"]),
    ):
        port = free_port()
        command = [script, "serve", model, "--host", "127.0.0.1", "--port", port]
        yield name, [*command, "--device", "cpu", *options], f"http://127.0.0.1:{port}/v1", model
    if llamacpp is not None:
        port = free_port()
        (gguf,) = (folder / "gguf").glob("*.gguf")
        command = [llamacpp, "-m", "llama_cpp.server", "--model", gguf, "--port", port]
        command += ["--n_ctx", 512, "--n_threads", 1, "--verbose", "false"]
        yield "llama-cpp-python's server", command, f"http://127.0.0.1:{port}/v1", "any"


if __name__ == "__main__":
    main()
