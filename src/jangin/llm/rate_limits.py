"""How fast an endpoint may be asked: so many requests and tokens a minute, so many at once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MAX_CONCURRENCY = 1024
SLOW = 0.5
"""Increase after a round in which some were refused, so that nothing is stuck below its due."""
BLOCK = 40
"""Replies over which a share of 429 is known well enough to compare it with another."""
FEW, HALF = 0.1, 0.5
"""Shares of 429 between which it pays to ask whether they come at random."""
FEWER = 0.75
"""Of those at once, while that is asked."""
TRUST, DOUBT = 20, 3
"""Blocks after which it is asked again, where they do and where they seem not to: asking costs
an endpoint at its limit nothing."""


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
class _Share:
    """Replies, and those of them that were 429."""

    replies: int = 0
    refused: int = 0

    def add(self, refused: bool) -> None:
        self.replies += 1
        self.refused += refused

    def take(self) -> float:
        """The share, and begin anew."""
        share = self.refused / self.replies
        self.replies = self.refused = 0
        return share


@dataclass(slots=True)
class Concurrency:
    """Finds how many requests an endpoint takes at once, from its 429 replies.

    Additive increase, one more after a round of replies without a 429; multiplicative decrease
    otherwise, once a round, by half the square of the share of 429. (DCTCP, RFC 8257, section 3.3,
    takes the share itself.) An endpoint that refuses everybody halves it.

    An endpoint that is asked too much refuses fewer when it is asked less, one that refuses at
    random does not. So now and then a block of replies is asked for with fewer at once: where no
    smaller share is refused then, that share says nothing, and only what exceeds it counts.
    """

    most: int = MAX_CONCURRENCY
    limit: float = field(init=False)
    inside: int = 0
    _round: _Share = field(default_factory=_Share, repr=False)
    _block: _Share = field(default_factory=_Share, repr=False)
    _most_inside: int = 0
    _before: tuple[float, float] | None = None
    """While it is asked whether 429 come at random: the limit and their share until then."""
    _skipped: int = 0
    """Replies to come that were asked for before that."""
    _trusted: int = 0
    """Blocks for which the last answer holds."""
    _chance: float = 0.0
    """Share that is refused whatever is under way, as far as known."""
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

    def record(self, *, refused: bool) -> None:
        """Learn from a reply; `refused` means that it was a 429."""
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
        """Find out whether 429 come at random, by asking for less."""
        self._trusted -= 1
        if self._before is not None:
            limit, earlier = self._before
            self._before = None
            at_random = earlier / 2 < share < earlier * 3 / 2
            self._trusted = TRUST if at_random else DOUBT
            self._chance = (earlier + share) / 2 if at_random else 0.0
            # Earlier decreases were in vain as well, so it goes up faster than it came down.
            self.limit = min(2 * limit, self.most) if at_random else self.limit
            self._round = _Share()
        elif self._trusted <= 0 and FEW < share <= HALF:
            self._before = self.limit, share
            self.limit = max(used * FEWER, 1.0)
            self._skipped = self.inside

    def _adjust(self, share: float, used: float) -> None:
        """Allow more or fewer at once, after a round in which such a share was too much."""
        if share:
            # What was never in use says nothing, so the decrease starts from what was.
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
        """Forget who waits: the event loop they waited in is over."""
        self._waiting.clear()
        self.inside = self._skipped = 0
