"""How fast an endpoint may be asked: so many requests and tokens a minute, so many at once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MOST_AT_ONCE = 1024
SLOW = 0.5
"""Increase after a round in which some were refused, so that nothing is stuck below its due."""


@dataclass(slots=True)
class RateLimit:
    """A token bucket that holds one second's worth, so that no minute sees much over its limit.

    Whoever takes more than there is leaves a debt, and waits until time has paid it: first come,
    first served, and an amount larger than the bucket is no special case.
    """

    per_minute: float
    clock: Callable[[], float] = time.monotonic
    _level: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin with a full bucket."""
        self._level = self._most
        self._seen = self.clock()

    @property
    def _most(self) -> float:
        return max(self.per_minute / 60, 1.0)

    def take(self, amount: float) -> float:
        """Take an amount; returns the seconds to wait before it may be used."""
        now = self.clock()
        self._level = min(self._most, self._level + (now - self._seen) * self.per_minute / 60)
        self._seen = now
        self._level -= amount
        return max(-self._level, 0.0) * 60 / self.per_minute

    def give_back(self, amount: float) -> None:
        """Return what was not used; a negative amount was used on top."""
        self._level += amount


@dataclass(slots=True)
class Concurrency:
    """Finds how many requests an endpoint takes at once, from its 429 replies.

    Additive increase, one more after a round of replies without a 429; multiplicative decrease
    otherwise, once a round, by half the square of the share of 429. (DCTCP, RFC 8257, section 3.3,
    takes the share itself.) An endpoint that refuses everybody halves it; one that refuses a few at
    random, whatever is under way, costs little.
    """

    most: int = MOST_AT_ONCE
    limit: float = field(init=False)
    inside: int = 0
    _replies: int = 0
    _refused: int = 0
    _most_inside: int = 0
    _waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        """Begin with all that is allowed."""
        self.limit = self.most

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the places, first come, first served."""
        while self.inside >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # a place that was offered to the one who left
                raise
        self.inside += 1
        self._most_inside = max(self._most_inside, self.inside)
        try:
            yield
        finally:
            self.inside -= 1
            self._wake()

    def saw(self, *, refused: bool) -> None:
        """Learn from a reply; `refused` means that it was a 429."""
        self._replies += 1
        self._refused += refused
        if self._replies < min(self.limit, max(self._most_inside, 1)):
            return
        share = self._refused / self._replies
        if share:
            # What was never in use says nothing, so the decrease starts from what was.
            self.limit = min(self.limit, self._most_inside) * (1 - share**2 / 2)
        more = 1.0 if not share else SLOW if share < 1 else 0.0
        self.limit = min(max(self.limit, 1.0) + more, self.most)
        self._replies = self._refused = self._most_inside = 0

    def _wake(self) -> None:
        free = int(self.limit) - self.inside
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def leave_loop(self) -> None:
        """Forget who waits: the event loop they waited in is over."""
        self._waiting.clear()
        self.inside = 0
