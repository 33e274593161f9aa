"""Every fault of an endpoint at once and kill -9: nothing lost, no finished call made again."""

import runpy
import sys
from pathlib import Path

import pytest

from tests import forked

BENCH = Path(__file__).parents[2] / "bench" / "teacher"
FAULTS = ("429", "500", "silence", "half a body", "malformed")


class Run(forked.Process):
    """`jangin run` as a fork, waited for as `subprocess.Popen` does."""

    def __init__(self, project: Path) -> None:
        super().__init__(
            forked.fork_server(),
            "tests.forked:run_command",
            ["run", "--project", project],
            output=project.parent / "log.txt",
        )


def run_bench(*arguments: str) -> None:
    """In a process with the imports of the tests; so are the runs that it starts and kills."""
    forked.start_server()
    sys.path.insert(0, str(BENCH))
    import ours

    ours.start = Run
    sys.argv = [str(BENCH), *arguments]
    try:
        runpy.run_path(str(BENCH / "__main__.py"), run_name="__main__")
    finally:
        forked.stop_server()


@pytest.mark.long
def test_a_breaking_endpoint_and_a_kill_lose_no_row_and_pay_for_none_twice(fork, tmp_path) -> None:
    arguments = ["--chaos", "--quick", "--rows", "100", "--seed", "1"]
    done = fork(f"{__name__}:run_bench", arguments, output=tmp_path / "log.txt")
    assert done.wait(280) == 0, done.printed()
    assert "finished calls repeated: 0; result the same" in done.printed()
    assert all(f"'{fault}': " in done.printed() for fault in FAULTS), done.printed()
