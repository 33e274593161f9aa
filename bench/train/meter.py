"""CPU seconds, wall seconds and memory of one stretch of work. Standard library only.

Every engine's process times its own training with it, and prints one line of JSON.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

PREFIX = "RESULT "


class Meter:
    """`with Meter() as meter:` around the work; imports and loading stay outside."""

    cpu_s = wall_s = peak_mb = 0.0

    def __enter__(self) -> "Meter":
        """Start the clocks."""
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self.cpu_s = _cpu_seconds() - self._cpu
        self.wall_s = time.perf_counter() - self._wall
        self.peak_mb = peak_mb()

    def figures(self) -> dict[str, float]:
        """What goes into the report."""
        return {"cpu_s": self.cpu_s, "wall_s": self.wall_s, "peak_mb": self.peak_mb}


def _cpu_seconds() -> float:
    """Of this process and of the children it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def peak_mb() -> float:
    """Highest resident memory of this process; ru_maxrss would begin at the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def report(**facts: Any) -> None:
    """The one line the parent reads. Some trainers take over stdout, so it goes by descriptor."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stream:
        stream.write(f"\n{PREFIX}{json.dumps(facts)}\n")
