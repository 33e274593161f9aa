"""The rows that everybody is given, and the server that answers about them."""

import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CONCURRENCY = 64


def code(number: int) -> str:
    """The fact that row `number` is about."""
    return hashlib.sha256(f"locker {number}".encode()).hexdigest()[:8]


def passage(number: int) -> str:
    """One row: a passage that no other row repeats."""
    return (
        f"The code of locker {number:06d} is {code(number)}. It stands on floor {number % 7 + 1} "
        f"of the east wing, is {30 + number % 40} centimetres wide and holds what visitors leave "
        "at the desk. Whoever forgets the code asks the porter and shows a badge."
    )


def instruction(number: int) -> str:
    """What a peer is asked about one row; ours comes from the stage's own prompt."""
    return (
        "You read documents and set exam questions. Reply with JSON only: "
        '{"pairs": [{"question": "...", "answer": "...", "evidence": "..."}]}\n\n'
        f"Passage:\n{passage(number)}\n\nWrite at most 1 question with its answer."
    )


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint."""

    port: int
    process: int

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def totals(self) -> dict[str, Any]:
        """What the endpoint counted."""
        return self._get("count")

    def resume(self) -> None:
        """End the pause after `--pause-after` answers."""
        self._get("resume")

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as response:
            return dict(json.load(response))


@contextmanager
def endpoint(*arguments: object) -> Iterator[Endpoint]:
    """An endpoint in a process of its own, with fresh books."""
    command = [sys.executable, str(HERE / "endpoint.py"), *map(str, arguments)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            sys.exit("the endpoint did not start")
        yield Endpoint(int(line), server.pid)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
