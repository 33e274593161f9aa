"""Work on files in a process of its own: `python -m jangin.serving.files.check_process`.

Reading JSON holds Python's interpreter, for which the answers and streams of the server would wait;
and memory that a table needs is free again when the process ends.
"""

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jangin.core.errors import DataError, JanginError, MachineError
from jangin.serving.files.validation import FileCheck, check_file

# JSON Lines, read one by one: UTF-8, one object per line.


BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 64 << 20
"""Bytes of a line that is still read; a longer one is no row of text."""


def first_problem(stream: BinaryIO) -> str | None:
    """What is wrong with a JSON Lines file, with the number of the line; None if nothing is."""
    count = 0
    for number, line in _lines(stream):
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            return f"Line {number} is longer than {LONGEST_LINE >> 20} MB."
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            return f"Line {number} is not UTF-8 (byte {error.start} of the line)."
        except (ValueError, RecursionError) as error:
            return f"Line {number} is not valid JSON: {error}."
        if not isinstance(row, dict):
            return f"Line {number} is no JSON object."
        count += 1
    return None if count else "The file has no rows."


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line) from 1; no more than a bit over `LONGEST_LINE` is held."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        yield number, line.removeprefix(BOM) if number == 1 else line
        if len(line) > LONGEST_LINE:
            return


LARGE = 4_000_000
"""Bytes from which a process of its own is worth its start."""
MEMORY, SECONDS = 4 << 30, 600
"""Memory and computing time of a process with `limited` work."""
_TICK_SECONDS = 0.5


def check_lines(path: Path) -> str | None:
    """`first_problem` of a file."""
    if path.stat().st_size < LARGE:
        return _first_problem(path)
    problem: str | None = elsewhere(_first_problem, path)
    return problem


def check_rows(path: Path, min_examples: int, tick: Callable[[], None] = lambda: None) -> FileCheck:
    """`check_file` of a file; `tick` is called now and then, and what it raises ends the check."""
    if path.stat().st_size < LARGE:
        with path.open("rb") as stream:
            return check_file(stream, min_examples, tick=tick)
    check: FileCheck = elsewhere(_check_file, path, min_examples, tick=tick)
    return check


def _first_problem(path: Path) -> str | None:
    with path.open("rb") as stream:
        return first_problem(stream)


def _check_file(path: Path, min_examples: int) -> FileCheck:
    with path.open("rb") as stream:
        return check_file(stream, min_examples)


def elsewhere(
    work: Callable[..., Any],
    *given: object,
    limited: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Any:
    """What a function of a module returns in a process of its own; raises its `JanginError`.

    Raises:
        DataError: `limited` work took more than `MEMORY` or `SECONDS`.
        MachineError: the process ended otherwise.

    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    request: bytes | None = pickle.dumps((work, given, limited))
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
                    answer, _ = process.communicate(request, timeout=_TICK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    request = None  # it has been sent
                    tick()
                    if limited and _resident(process.pid) > MEMORY:
                        process.kill()
        finally:
            process.kill()
    if process.returncode and limited:
        raise DataError(
            f"the file takes more than {MEMORY >> 30} GB of memory or {SECONDS // 60} minutes to "
            "be read. Split it into smaller ones."
        )
    if process.returncode:
        raise MachineError(
            f"the process that checks a file ended with {process.returncode}; see the server's log."
        )
    done = pickle.loads(answer)  # noqa: S301  from our own process
    if isinstance(done, JanginError):
        raise done
    return done


def _resident(process: int) -> int:
    """Bytes of memory that a process uses; 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def main() -> int:
    """Do the work that stdin names; the result, or its `JanginError`, goes to stdout."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print
        work, given, limited = pickle.load(sys.stdin.buffer)  # noqa: S301  from our own server
        if limited:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            done = work(*given)
        except JanginError as error:
            done = error
        pickle.dump(done, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
