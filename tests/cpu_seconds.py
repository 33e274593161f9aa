"""CPU-seconds of every test file: `python -m pytest -p tests.cpu_seconds [files]`, without xdist.

Counted are the test process, its ended children, and its fork server with the ended forks. Unlike
wall time they hardly depend on what else the machine does.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forked

SHOWN = 40
_seconds: Counter[str] = Counter()
_slow: Counter[str] = Counter()


def cpu_seconds() -> float:
    """Of this process and all that it has waited for, since its start."""
    times = os.times()
    ticks = 0
    for server in forked.running_servers():
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    own = times.user + times.system + times.children_user + times.children_system
    return own + ticks / os.sysconf("SC_CLK_TCK")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure a test with its fixtures."""
    before = cpu_seconds()
    result = yield
    file, seconds = item.nodeid.partition("::")[0], cpu_seconds() - before
    _seconds[file] += seconds
    if item.get_closest_marker("slow"):
        _slow[file] += seconds
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The files that take most, and what all take."""
    terminalreporter.section("CPU-seconds by file, of which marked slow")
    for file, seconds in _seconds.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:8.2f} {_slow[file]:8.2f} {file}")
    total, slow = _seconds.total(), _slow.total()
    terminalreporter.write_line(f"{total:8.2f} {slow:8.2f} all tests, {cpu_seconds():.2f} in all")
