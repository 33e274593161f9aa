"""`jangin serve` as a process: it says where it listens, and a signal ends it."""

import signal
import subprocess
import sys

import httpx2
import pytest

from jangin.core.errors import MachineError
from jangin.serving.run import listen
from jangin.serving.state.settings import ServerSettings


@pytest.mark.slow
def test_the_command_serves_until_a_signal(tmp_path):
    command = [sys.executable, "-m", "jangin.cli.main", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--folder", tmp_path / "data"], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            name, _, url = process.stdout.readline().strip().partition("=")
            assert name == "OPENAI_BASE_URL"
            assert httpx2.get(url.removesuffix("/v1") + "/healthz").json()["status"] == "ok"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) in (0, -signal.SIGTERM)
        finally:
            process.kill()
    assert (tmp_path / "data" / "server.sqlite").exists()


def test_a_port_that_is_taken_is_named():
    with listen(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}"):
            listen(ServerSettings(port=port))
