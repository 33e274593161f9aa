"""Several servers of one model: each request goes to the one with the fewest in flight."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_REST_SECONDS = 10.0


class Addresses:
    """URLs of servers that answer alike, with their requests in flight."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self._in_flight = dict.fromkeys(urls, 0)
        self._rests_until = dict.fromkeys(urls, 0.0)

    @contextmanager
    def lease(self) -> Iterator[str]:
        """The URL for one request, which is in flight inside the block."""
        now = time.monotonic()
        url = min(
            self._in_flight, key=lambda url: (self._rests_until[url] > now, self._in_flight[url])
        )
        self._in_flight[url] += 1
        try:
            yield url
        finally:
            self._in_flight[url] -= 1

    def rest(self, url: str) -> None:
        """Avoid this server for some seconds, because it cannot be reached."""
        self._rests_until[url] = time.monotonic() + _REST_SECONDS
