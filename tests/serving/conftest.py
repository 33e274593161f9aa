"""A running server per module, and the newest official SDK as its client."""

import subprocess

import pytest

from tests.serving.postgresql import programs, run_postgresql
from tests.serving.running import run_server


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def server(running):
    """The `Server`, to look into its database and storage."""
    return running.server


@pytest.fixture(scope="module")
def client(running):
    """`openai.OpenAI` with any key: project `local`."""
    return running.client()


@pytest.fixture(scope="session")
def postgresql():
    """A real PostgreSQL."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with run_postgresql() as server:
        yield server


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program mount")
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
