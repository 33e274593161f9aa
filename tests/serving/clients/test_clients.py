"""Clients of other projects, each with every call of the API, against a real server.

`make test-clients` runs these; `make test` does not, because they install packages.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.serving.clients import rows
from tests.serving.clients.environments import (
    ENVIRONMENTS,
    EVERY,
    TOOLS,
    chosen,
    node_folder,
    python_of,
)
from tests.serving.clients.server_process import ServerProcess

HERE = Path(__file__).parent
WANTED = os.environ.get("JANGIN_CLIENTS", "")
pytestmark = [
    pytest.mark.skipif(not WANTED, reason="`make test-clients` installs the clients"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    assert process.is_healthy()
    # uvicorn ends in order, and then by the signal that it was sent.
    assert process.stop() == -signal.SIGTERM, process.log.read_text()[-3000:]
    assert "Traceback" not in process.log.read_text()


def run(words, environment):
    """The lines of a script's checks; the assertion shows those that failed."""
    done = subprocess.run(words, env=environment, cwd=HERE, capture_output=True, text=True)
    print(done.stdout)
    failed = [line for line in done.stdout.splitlines() if "\tFAILED" in line]
    assert done.returncode == 0, "\n".join(failed) or done.stderr[-3000:]


NAMES = chosen(WANTED) if WANTED else list(EVERY)
MODEL = "gpt-4.1-nano-2025-04-14"


@pytest.mark.parametrize("name", [name for name in NAMES if name in ENVIRONMENTS])
def test_a_client_can_make_every_call(name, server, tmp_path):
    environment, client = server.environment(), ENVIRONMENTS[name]
    if name == "node":
        data = tmp_path / "train.jsonl"
        data.write_bytes(rows.chat())
        environment["NODE_CLIENT"] = str(node_folder())
        run(["node", HERE / client.script, data], environment)
    else:
        run([python_of(name, client.packages), HERE / client.script], environment)


def test_a_published_recipe_runs_unchanged(server, tmp_path):
    python = python_of("openai-newest", ENVIRONMENTS["openai-newest"].packages)
    done = subprocess.run(
        [python, HERE / "recipe_reviews.py", tmp_path, MODEL],
        env=server.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert (tmp_path / "loss.png").stat().st_size > 1000


@pytest.mark.parametrize("name", [name for name in NAMES if name in TOOLS])
def test_a_program_of_others_runs(name, server, tmp_path):
    tool = TOOLS[name]
    (tmp_path / "train.jsonl").write_bytes(rows.chat())
    python = python_of(name, tool.packages)
    settings = {key: value.format(folder=tmp_path) for key, value in tool.settings.items()}
    done = subprocess.run(
        [python, HERE / tool.script, tmp_path, MODEL],
        env=server.environment() | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
