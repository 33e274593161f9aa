"""Memory that this machine has left."""

import os
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")
_USED = Path("/sys/fs/cgroup/memory.current")


def available_bytes() -> int:
    """Bytes that new work can take: free on this machine, and below the limit of its container."""
    if _LIMIT.exists() and _LIMIT.read_text().strip().isdigit():
        return min(int(_LIMIT.read_text()) - int(_USED.read_text()), _free_bytes())
    return _free_bytes()


def _free_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(fields["MemAvailable"].split()[0]) * 1024
