"""`jangin serve` as users start it: a process of its own, on a free port of loopback."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

SETTINGS = """\
private_webhooks: true
python_grader: true
models:
  gpt-4.1-nano-2025-04-14: &tiny
    base: {type: starter, size: 0.5M, vocabulary_size: 400, context_length: 2048}
  gpt-4o-mini-2024-07-18: *tiny
  babbage-002:
    base: {type: starter, size: 0.5M, vocabulary_size: 400, context_length: 512}
    kind: completion
"""


class ServerProcess:
    """A running server; `url` ends in `/v1`."""

    def __init__(self, folder: Path, settings: str = SETTINGS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.yaml").write_text(settings, "utf-8")
        self.log = folder / "server.log"
        words = ["serve", "--folder", folder / "data", "--port", "0"]
        words += ["--models", folder / "server.yaml"] if settings else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jangin.cli", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                text=True,
            )
        self.url = self._url()

    def _url(self) -> str:
        shown = ""
        for line in self.process.stdout:
            shown += line
            if match := re.search(r"http://\S+/v1", line):
                return match[0]
        raise RuntimeError(f"the server did not start:\n{shown}\n{self.log.read_text()}")

    def environment(self) -> dict[str, str]:
        """What a client's process needs."""
        mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**mine, "OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": "sk-any"}

    def is_healthy(self) -> bool:
        url = self.url.removesuffix("/v1") + "/healthz"
        try:
            with urllib.request.urlopen(url, timeout=100) as reply:
                return reply.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(100)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.process.stdout.close()
