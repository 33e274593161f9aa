"""Time and memory of one contestant as a line of JSON, measured in its own process."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@contextmanager
def measured() -> Iterator[None]:
    """Measure the block, which follows the imports, and print the figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(
        json.dumps(
            {
                "wall_s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
                "peak_bytes": peak_bytes(),
            }
        )
    )
