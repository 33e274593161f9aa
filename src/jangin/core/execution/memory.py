"""Memory that this machine has left."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CACHED = {"inactive_file", "active_file", "slab_reclaimable"}
"""Fields of memory.stat: used memory that the kernel gives back when it is needed."""


def available_bytes() -> int:
    """Bytes that new work can take: free on this machine, and below the limit of its container.

    Files that were read and written stay in memory until it is needed; they count as free in both.
    """
    limit = _CGROUP / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        used = int((_CGROUP / "memory.current").read_text())
        return min(max(0, int(most) - used + _cached_bytes()), _free_bytes())
    return _free_bytes()


def _cached_bytes() -> int:
    lines = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in _CACHED)


def _free_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(fields["MemAvailable"].split()[0]) * 1024
