"""kill -9 anywhere and run again: the same artifacts, and no reply that came is asked again."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.shared import free_port

BENCH = Path(__file__).parents[2] / "bench" / "kill"


def run_bench(*arguments: str) -> None:
    """In a process with the imports of the tests."""
    sys.argv = [str(BENCH), *arguments]
    runpy.run_path(str(BENCH / "__main__.py"), run_name="__main__")


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_like_an_undisturbed_one(fork, tmp_path) -> None:
    arguments = ["--small", "--preload", "--kills", "3", "--port", str(free_port())]
    process = fork(f"{__name__}:run_bench", arguments, output=tmp_path / "log.txt")
    assert process.wait(280) == 0, process.printed()
    assert "undisturbed" in process.printed()
    assert "digests equal" in process.printed()
