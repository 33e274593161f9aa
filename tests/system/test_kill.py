"""kill -9 anywhere and run again: the same artifacts, and no reply that came is asked again."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_like_an_undisturbed_one() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "kill"), "--small", "--preload", "--kills", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undisturbed" in done.stdout
    assert "digests equal" in done.stdout
