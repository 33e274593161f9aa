"""Every fault of an endpoint at once and kill -9: nothing lost, no finished call made again."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = ("429", "500", "silence", "half a body", "malformed")


@pytest.mark.slow
def test_a_breaking_endpoint_and_a_kill_lose_no_row_and_pay_for_none_twice() -> None:
    bench = [sys.executable, str(ROOT / "bench" / "teacher"), "--chaos", "--quick"]
    done = subprocess.run(
        [*bench, "--rows", "100", "--seed", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished calls repeated: 0; result the same" in done.stdout
    assert all(f"'{fault}': " in done.stdout for fault in FAULTS), done.stdout
