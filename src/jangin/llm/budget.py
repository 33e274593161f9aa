"""What calls cost: counted per teacher, and kept below a budget before anything is sent."""

import asyncio
from dataclasses import dataclass, field

from jangin.core.errors import BudgetError
from jangin.llm.prices import Price
from jangin.llm.token_estimates import TOKENS_PER_OTHER_CHARACTER


@dataclass(slots=True)
class SpendingLimit:
    """US dollars that all teachers of a store may spend together, ever.

    A call is reserved at its worst before it is sent and settled when it is back, so that the
    limit holds whatever the replies are. Two runs at once on one store each count their own.
    """

    limit_usd: float | None = None
    """None counts without a limit."""
    spent_usd: float = 0.0
    """With the worst case of calls whose end nobody saw."""
    _reserved: float = field(default=0.0, repr=False)
    _under_way: int = field(default=0, repr=False)
    _waiting: "list[asyncio.Future[None]]" = field(default_factory=list, repr=False)

    async def reserve(self, usd: float) -> None:
        """Hold the worst case of a call; raises `BudgetError` when it is not there.

        While other calls are under way it waits for them, as most cost less than they might.
        """
        while self.limit_usd is not None and self._total + usd > self.limit_usd:
            if not self._under_way:
                raise BudgetError(
                    f"the budget of ${self.limit_usd:,.2f} would be exceeded: "
                    f"${self.spent_usd:,.4f} is spent and the next request may cost ${usd:,.4f}. "
                    "Raise `budget: usd:` in the project file and run again; what is done is kept."
                )
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self._reserved += usd
        self._under_way += 1

    def commit(self, reserved: float, spent: float) -> None:
        """Let go of what was reserved and count what was spent."""
        self._reserved -= reserved
        self._under_way -= 1
        self.spent_usd += spent
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    @property
    def _total(self) -> float:
        return self.spent_usd + self._reserved


@dataclass(slots=True)
class Budget:
    """Whose calls they are, what they cost and out of which budget they are paid."""

    teacher: str
    """Name in the project file."""
    price: Price | None = None
    """None where nobody knows it: tokens are counted, dollars are not."""
    limit: SpendingLimit = field(default_factory=SpendingLimit)
    tokens_per_character: float = TOKENS_PER_OTHER_CHARACTER

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What a call costs; 0 where the price is not known."""
        return 0.0 if self.price is None else self.price.usd(prompt_tokens, completion_tokens)
