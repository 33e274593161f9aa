"""Runs `grade(sample, item)` of a Python grader in a process of its own, with limits.

The limits stop mistakes: endless loops, filled memory and disks. They are no sandbox: the code can
read what the server's user can read. So it runs only where the server's settings say so.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import PortableError

SECONDS = 120.0
MEMORY_BYTES = 2 * 1024**3
"""OpenAI's limits: two minutes and 2 GB."""
_RUNNER = Path(__file__).with_name("python_runner.py")


class PythonGraderError(PortableError):
    """A Python grader gave no reward.

    `kind` is empty for an error in its own code, else what its process did: `timeout`, `killed`.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class PythonLimits:
    """What a Python grader may use."""

    seconds: float = SECONDS
    memory_bytes: int = MEMORY_BYTES


def run_python(
    source: str, sample: Mapping[str, Any], item: Mapping[str, Any], limits: PythonLimits
) -> float:
    """The reward that `grade(sample, item)` of the source returns.

    Raises:
        PythonGraderError: It raised, returned no number, or exceeded a limit.

    """
    request = json.dumps({"source": source, "sample": sample, "item": item}).encode()
    command = [sys.executable, "-I", str(_RUNNER)]
    words = [*command, str(math.ceil(limits.seconds)), str(limits.memory_bytes)]
    with tempfile.TemporaryDirectory(prefix="jangin-grader-") as folder:
        process = subprocess.Popen(  # noqa: S603 - an interpreter of ours; its code is the point
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(request, timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            text = f"The grader took longer than {limits.seconds:g} seconds."
            raise PythonGraderError(text, "timeout") from None
        finally:
            _kill_group(process)
    return _reward(output, process.returncode)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End the process and those that it started; they share its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _reward(output: bytes, code: int) -> float:
    try:
        result = json.loads(output)
    except ValueError:
        raise PythonGraderError(f"The grader's process ended with {code}.", "killed") from None
    if not isinstance(result, dict) or "error" in result:
        raise PythonGraderError(str(result.get("error") if isinstance(result, dict) else result))
    reward = result["reward"]
    if not isinstance(reward, int | float) or not math.isfinite(reward):
        raise PythonGraderError(f"The grader returned {reward}, which is not a finite number.")
    return float(reward)
