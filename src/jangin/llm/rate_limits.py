"""Requests per minute, tokens per minute and adaptive concurrency of an endpoint."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MAX_CONCURRENCY = 1024
SLOW = 0.5
"""Increase after a round with some 429 replies, so that the limit can always recover."""
BLOCK = 40
"""Replies after which a share of 429 is precise enough to compare."""
FEW, HALF = 0.1, 0.5
"""Shares of 429 between which a test for random refusals is worth its requests."""
FEWER = 0.75
"""Factor on the concurrency during that test."""
TRUST, DOUBT = 20, 3
"""Blocks until the test is repeated, after a positive and after a negative result: it costs
nothing at an endpoint's limit."""


@dataclass(slots=True)
class RateLimit:
    """A token bucket of one second's capacity, so that no minute exceeds its limit by much.

    Taking more than the level leaves a debt, and the taker waits until time has repaid it: first
    come, first served, and an amount larger than the bucket is no special case.
    """

    per_minute: float
    clock: Callable[[], float] = time.monotonic
    _level: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        """Start with a full bucket."""
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
        """Return the unused amount; a negative one was used in addition."""
        self._level += amount


@dataclass(slots=True)
class _Share:
    """Counts replies, and those with status 429 among them."""

    replies: int = 0
    refused: int = 0

    def add(self, refused: bool) -> None:
        self.replies += 1
        self.refused += refused

    def take(self) -> float:
        """Share of replies with status 429 since the last call; resets the counters."""
        share = self.refused / self.replies
        self.replies = self.refused = 0
        return share


@dataclass(slots=True)
class Concurrency:
    """Finds how many requests an endpoint takes at once, from its 429 replies.

    Additive increase, one more after a round of replies without a 429; multiplicative decrease
    otherwise, once a round, by half the square of the share of 429. (DCTCP, RFC 8257, section 3.3,
    takes the share itself.) If all replies are 429 it is halved.

    An overloaded endpoint refuses fewer requests at a lower concurrency, one that refuses at
    random does not. So now and then a block of requests is sent at a lower concurrency: if the
    share of 429 does not fall, that share is ignored and only the excess over it counts.
    """

    most: int = MAX_CONCURRENCY
    limit: float = field(init=False)
    inside: int = 0
    _round: _Share = field(default_factory=_Share, repr=False)
    _block: _Share = field(default_factory=_Share, repr=False)
    _most_inside: int = 0
    _before: tuple[float, float] | None = None
    """During the test for random refusals: limit and share of 429 before it."""
    _skipped: int = 0
    """Outstanding replies to requests that were sent before the test."""
    _trusted: int = 0
    """Blocks for which the last test result remains valid."""
    _chance: float = 0.0
    """Share of 429 that does not depend on the load, as far as known."""
    _waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        """Start at the maximum."""
        self.limit = self.most

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots, first come, first served."""
        while self.inside >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # pass on a slot that was offered to the cancelled waiter
                raise
        self.inside += 1
        self._most_inside = max(self._most_inside, self.inside)
        try:
            yield
        finally:
            self.inside -= 1
            self._wake()

    def record(self, *, refused: bool) -> None:
        """Adapt to a reply; `refused` means that it was a 429."""
        if self._skipped:
            self._skipped -= 1
            return
        self._round.add(refused)
        self._block.add(refused)
        used = min(self.limit, max(self._most_inside, 1))
        if self._block.replies >= max(BLOCK, used):
            self._compare(self._block.take(), used)
        if self._round.replies >= used and self._before is None:
            self._adjust(max(self._round.take() - self._chance, 0.0), used)

    def _compare(self, share: float, used: float) -> None:
        """Test whether 429 come at random, by lowering the concurrency."""
        self._trusted -= 1
        if self._before is not None:
            limit, earlier = self._before
            self._before = None
            at_random = earlier / 2 < share < earlier * 3 / 2
            self._trusted = TRUST if at_random else DOUBT
            self._chance = (earlier + share) / 2 if at_random else 0.0
            # Earlier decreases were in vain as well, so increase faster than it decreased.
            self.limit = min(2 * limit, self.most) if at_random else self.limit
            self._round = _Share()
        elif self._trusted <= 0 and FEW < share <= HALF:
            self._before = self.limit, share
            self.limit = max(used * FEWER, 1.0)
            self._skipped = self.inside

    def _adjust(self, share: float, used: float) -> None:
        """Change the limit after a round; `share` is the excess share of 429."""
        if share:
            # The unused part of the limit was not tested, so decrease from what was used.
            self.limit = used * (1 - share**2 / 2)
        more = 1.0 if not share else SLOW if share < 1 else 0.0
        self.limit = min(max(self.limit, 1.0) + more, self.most)
        self._most_inside = self.inside

    def _wake(self) -> None:
        free = int(self.limit) - self.inside
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def forget_waiters(self) -> None:
        """Drop all waiters: their event loop has ended."""
        self._waiting.clear()
        self.inside = self._skipped = 0
