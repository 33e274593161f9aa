"""What a run would do and cost: the steps of a plan and their requests, made once for all pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.stage import Calls
from jangin.llm.budget import SpendingLimit
from jangin.project.plan import PlannedStage, shared_steps

SLOW = frozenset(("load", "sft", "pretrain", "dpo", "evaluate"))
"""Stages that may take minutes without calling a teacher."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A step that one or several variants share."""

    variants: str
    """Names, or `all`."""
    step: PlannedStage
    """Its calls are an upper bound."""
    likely: Calls
    """Usual requests; the upper bound where they are not known."""

    @property
    def seconds(self) -> float:
        """What the step took the last time, else an estimate of what it will take; 0 if unknown."""
        step = self.step
        return step.seconds or (0.0 if step.state == "cached" else step.cost.seconds)


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """A plan in figures."""

    rows: tuple[PlanRow, ...]
    likely: Calls
    """Usual requests of all rows; the upper bound where they are not known."""
    most: Calls
    """Upper bound."""
    is_forecast: bool
    """Whether the usual requests are known."""
    spent_usd: float
    limit_usd: float | None
    unpriced: int
    """Paid calls of unknown price."""

    @property
    def open_rows(self) -> tuple[PlanRow, ...]:
        """The steps that are not up to date."""
        return tuple(row for row in self.rows if row.step.state != "cached")

    @property
    def waiting(self) -> tuple[str, ...]:
        """Stages that wait for others."""
        return tuple(dict.fromkeys(r.step.stage.name for r in self.rows if r.step.state == "waits"))

    @property
    def seconds_left(self) -> float:
        """Time of the open steps; of some it may not be known."""
        return sum(row.seconds for row in self.open_rows)

    @property
    def untimed(self) -> tuple[str, ...]:
        """Open stages that may take long, and of which it is not known how long."""
        return tuple(
            dict.fromkeys(
                row.step.stage.name
                for row in self.open_rows
                if not row.seconds and (row.step.calls.count or row.step.stage.name in SLOW)
            )
        )

    @property
    def left_usd(self) -> float | None:
        """What is left of the budget, below 0 where more was spent; None without a budget."""
        return None if self.limit_usd is None else self.limit_usd - self.spent_usd

    @property
    def would_stop(self) -> bool:
        """True if the budget does likely not suffice."""
        return self.left_usd is not None and self.likely.usd > self.left_usd

    @property
    def affordable(self) -> int:
        """About how many calls the budget suffices for, where it likely does not for all."""
        each = self.likely.usd / max(self.likely.count, 1)
        reserve = self.most.usd / max(self.most.count, 1)
        return max(0, int(((self.left_usd or 0.0) - reserve) / each)) if each else 0


def plan_figures(
    steps: Sequence[PlannedStage],
    budget: SpendingLimit,
    likely: Sequence[Calls] = (),
    unpriced: int = 0,
) -> PlanFigures:
    """The figures of the steps of all variants; `likely`: the usual requests of each step."""
    usual = {id(step): calls for step, calls in zip(steps, likely, strict=False)}
    rows = tuple(
        PlanRow(variants, step, usual.get(id(step), step.calls))
        for variants, step in shared_steps(steps)
    )
    most, all_likely = Calls(), Calls()
    for row in rows:
        most.add(row.step.calls)
        all_likely.add(row.likely)
    return PlanFigures(
        rows, all_likely, most, bool(likely), budget.spent_usd, budget.limit_usd, unpriced
    )
