"""How long a client may take to send a request, and how many connections there may be.

uvicorn waits without end for the rest of a request. Here its head has to be complete after
`limits.stalled_seconds`, and its body has to bring at least `LEAST_BYTES` in each such time; a
reply that nobody reads ends the connection alike.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from jangin.serving.state.settings import Limits

LEAST_BYTES = 1_000
"""Of a body, in `limits.stalled_seconds`."""
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Connection(H11Protocol):
    """One connection of a client; `limited` gives it its limits."""

    limits = Limits()

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = self._unread = 0
        if len(self.connections) > self.limits.connections:
            transport.write(TOO_MANY)
            transport.close()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; the time begins again with its first byte and its body."""
        before, was_idle = self.conn.their_state, self.timeout_keep_alive_task is not None
        self._bytes += len(data)
        super().data_received(data)
        if self._timer is None or was_idle or before is not self.conn.their_state:
            self._watch()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._before = self._bytes
        self._timer = self.loop.call_later(self.limits.stalled_seconds, self._look)

    def _look(self) -> None:
        """Close a connection whose client owes bytes or reads none; else look again later."""
        self._timer = None
        if self.transport.is_closing():
            return
        unread = self.transport.get_write_buffer_size()
        if self._is_stalled() or (self.flow.write_paused and unread == self._unread):
            self.transport.abort()
            return
        self._unread = unread
        is_idle = self.timeout_keep_alive_task is not None  # uvicorn ends it soon
        if not is_idle:
            self._watch()

    def _is_stalled(self) -> bool:
        if self.conn.their_state is h11.IDLE:
            return self.timeout_keep_alive_task is None
        if self.conn.their_state is not h11.SEND_BODY or self.flow.read_paused:
            return False
        waits_for_us = self.cycle.waiting_for_100_continue
        return not waits_for_us and self._bytes - self._before < LEAST_BYTES


def limited(limits: Limits) -> type[Connection]:
    """The class of the connections of a server."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
