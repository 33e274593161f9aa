"""Spending per teacher and the hard budget limit, checked before a request is sent."""

import asyncio
from dataclasses import dataclass, field

from jangin.core.errors import BudgetError
from jangin.core.model_protocols import ChatReply
from jangin.llm.prices import Price
from jangin.llm.token_estimates import TOKENS_PER_OTHER_CHARACTER


@dataclass(slots=True)
class SpendingLimit:
    """US dollars that all teachers of a store may spend together over all runs.

    The highest possible cost of a call is reserved before it is sent and its real cost committed
    afterwards, so the limit holds for replies of any length. Two simultaneous runs on one store
    each count their own.
    """

    limit_usd: float | None = None
    """None: count without a limit."""
    spent_usd: float = 0.0
    """Includes the highest possible cost of calls without a known end."""
    _reserved: float = field(default=0.0, repr=False)
    _in_flight: int = field(default=0, repr=False)
    _waiting: "list[asyncio.Future[None]]" = field(default_factory=list, repr=False)

    async def reserve(self, usd: float) -> None:
        """Reserve the highest possible cost of a call.

        Waits while other calls are in flight, as most cost less than was reserved for them.

        Raises:
            BudgetError: The limit does not allow it and no call is in flight.

        """
        while self.limit_usd is not None and self._total + usd > self.limit_usd:
            if not self._in_flight:
                digits = 2 if self.limit_usd >= 0.01 else 4
                raise BudgetError(
                    f"the budget of ${self.limit_usd:,.{digits}f} would be exceeded: "
                    f"${self.spent_usd:,.4f} is spent and the next request may cost ${usd:,.4f}. "
                    "Raise `budget: usd:` in the project file and run again; finished work is kept."
                )
            released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(released)
            await released
        self._reserved += usd
        self._in_flight += 1

    def commit(self, reserved: float, spent: float) -> None:
        """Release a reservation and count what was spent."""
        self._reserved -= reserved
        self._in_flight -= 1
        self.spent_usd += spent
        waiting, self._waiting = self._waiting, []
        for released in waiting:
            if not released.done():
                released.set_result(None)

    @property
    def _total(self) -> float:
        return self.spent_usd + self._reserved


@dataclass(slots=True)
class Budget:
    """Price and spending limit of one teacher."""

    teacher: str
    """Name in the project file."""
    price: Price | None = None
    """None if unknown: tokens are counted, dollars are not."""
    limit: SpendingLimit = field(default_factory=SpendingLimit)
    tokens_per_character: float = TOKENS_PER_OTHER_CHARACTER

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of a call; 0 without a price."""
        return 0.0 if self.price is None else self.price.usd(prompt_tokens, completion_tokens)

    def most_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Highest cost of a call, all of whose prompt may be written to a cache."""
        if self.price is None:
            return 0.0
        usual = self.price.usd(prompt_tokens, completion_tokens)
        return max(usual, self.price.usd(prompt_tokens, completion_tokens, 0, prompt_tokens))

    def usd_of(self, reply: ChatReply) -> float:
        """Cost of the call that a reply answers, by its tokens; 0 without a price."""
        if self.price is None:
            return 0.0
        return self.price.usd(
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.cached_tokens,
            reply.cache_write_tokens,
        )
