"""What the processes of a test session share: folders made once, and the ports of this machine."""

import fcntl
import os
import random
import shutil
import socket
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FIRST, AFTER_LAST = 10_000, 32_768
"""Linux gives the ports above to whoever wants any, and so to other tests at the same time."""


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` has filled, in this process or in another of the same session.

    It is only read afterwards: other tests look at the same files.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder = session / f"shared-{name}"
    with (session / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = session / f"shared-{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a `make` that failed
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def free_port():
    """A port that nothing listens at."""
    numbers = random.SystemRandom()  # forks share the state of the usual one
    while True:
        port = numbers.randrange(FIRST, AFTER_LAST)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


@contextmanager
def silent_port():
    """A port that refuses connections as long as the block lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
