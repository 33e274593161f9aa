"""Ports of this machine for what a test starts a moment later."""

import random
import socket
from contextlib import contextmanager, suppress

FIRST, AFTER_LAST = 10_000, 32_768
"""Linux gives the ports above to whoever wants any, and so to other tests at the same time."""


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
