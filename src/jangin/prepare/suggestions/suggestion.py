"""One remedy for rows, and the look at the rows that it comes from."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.engine.plan import Plan
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.deduplicate import ANSWER, PROMPT, NearDuplicates
from jangin.prepare.transforms.steps import (
    WHOLE,
    RowStep,
    WholeStep,
    key_of,
    matching,
    named_in,
    split_steps,
)

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that should be done, and why."""

    name: str
    level: Literal["necessary", "recommended"]
    finding: str
    """What is wrong, with figures."""
    question: str
    """What would be done."""
    rows: int
    change: Callable[[Plan], Plan]


Offers = Generator[Remedy, Plan, Plan]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Answers that are one number each."""

    column: str
    rows: int
    written: int
    """Those with a sign, separators or a unit."""
    other: int
    """Answers that are none."""


@dataclass(slots=True)
class Look:
    """The rows as the plan leaves them so far."""

    draft: Callable[[Plan], "Columns"]
    plan: Plan
    say: Callable[[str], None]
    labels: list[int] = field(default_factory=list)
    """Rows of each label; empty where the answers are none."""
    numbers: "Numbers | None" = None
    """Where the answers are one column, and nearly all of them numbers."""
    near: "pl.Series | None" = None
    """What the step `near_duplicates` decided: looking again would take as long again."""

    def frame(self) -> "pl.LazyFrame":
        """Rows that are kept, with their prompt and answer."""
        import polars as pl

        return self.draft(self.plan).frame.filter(pl.col(REASON).is_null())

    def count(self, **measures: "pl.Expr") -> dict[str, Any]:
        """Figures over all rows that are kept."""
        return self.frame().select(**measures).collect(engine="streaming").row(0, named=True)

    def left(self, *names: str) -> "pl.DataFrame":
        """`KEY`, `ANSWER` and columns of the rows that stay after the steps over all rows, too.

        `near_duplicates` needs `PROMPT` among them where it has not decided yet.
        """
        import polars as pl

        key = key_of(PROMPT, matching(self.plan.steps))
        answer = pl.col(COMPLETION).str.strip_chars().hash(13).alias(ANSWER)
        rows = self.frame().select(key, answer, *names).collect(engine="streaming")
        for step in split_steps(self.plan.steps)[1]:
            known = self.near if isinstance(step, NearDuplicates) else None
            rows = rows.filter((step.decide(rows) if known is None else known).is_null())
        return rows

    def recount(self, rows: "pl.DataFrame") -> None:
        """The rows of each label among those that are left."""
        if self.labels:
            self.labels = rows[ANSWER].value_counts()["count"].to_list()

    def single(self, pattern: str) -> str:
        """The column that a pattern consists of; empty where there is more to it."""
        names = named_in(pattern)
        return names[0] if len(names) == 1 and pattern == f"{{{names[0]}}}" else ""

    def columns(self) -> tuple[str, ...]:
        """Every column that ends up in a file."""
        plan = self.plan
        patterns = (plan.prompt, plan.completion, plan.rejected, plan.system)
        return tuple(dict.fromkeys(name for text in patterns for name in named_in(text)))


def with_step(plan: Plan, step: RowStep | WholeStep) -> Plan:
    """The plan with one step more, steps over all rows last."""
    whole = [old for old in plan.steps if isinstance(old, WHOLE)]
    by_row = [old for old in plan.steps if not isinstance(old, WHOLE)]
    (whole if isinstance(step, WHOLE) else by_row).append(step)  # type: ignore[arg-type]  # told apart by WHOLE
    return plan.model_copy(update={"steps": (*by_row, *whole)})
