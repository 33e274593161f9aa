"""Checks of large files in a process of their own: `python -m jangin.serving.files.check_process`.

Reading JSON holds Python's interpreter, for which the answers and streams of the server would wait.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jangin.core.errors import MachineError
from jangin.serving.files.lines import first_problem
from jangin.serving.files.validation import FileCheck, check_file

LARGE = 4_000_000
"""Bytes from which a process of its own is worth its start."""
_TICK_SECONDS = 1.0


def check_lines(path: Path) -> str | None:
    """`first_problem` of a file."""
    if path.stat().st_size < LARGE:
        with path.open("rb") as stream:
            return first_problem(stream)
    problem: str | None = _elsewhere({"path": str(path), "what": "lines"}, lambda: None)
    return problem


def check_rows(path: Path, min_examples: int, tick: Callable[[], None] = lambda: None) -> FileCheck:
    """`check_file` of a file; `tick` is called now and then, and what it raises ends the check."""
    if path.stat().st_size < LARGE:
        with path.open("rb") as stream:
            return check_file(stream, min_examples, tick=tick)
    request = {"path": str(path), "what": "rows", "min_examples": min_examples}
    check: FileCheck = _elsewhere(request, tick)
    return check


def _elsewhere(request: dict[str, Any], tick: Callable[[], None]) -> Any:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    given: bytes | None = json.dumps(request).encode()
    with subprocess.Popen(
        [sys.executable, "-m", "jangin.serving.files.check_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the server, which ends this process itself
    ) as process:
        try:
            while True:
                try:
                    answer, _ = process.communicate(given, timeout=_TICK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    given = None  # it has been sent
                    tick()
        finally:
            process.kill()
    if process.returncode:
        raise MachineError(
            f"the process that checks a file ended with {process.returncode}; see the server's log."
        )
    return pickle.loads(answer)  # noqa: S301  from our own process


def main() -> int:
    """Check the file that stdin names; the result goes to stdout."""
    request = json.loads(sys.stdin.read())
    with Path(request["path"]).open("rb") as stream:
        result = (
            first_problem(stream)
            if request["what"] == "lines"
            else check_file(stream, request["min_examples"])
        )
    sys.stdout.buffer.write(pickle.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
