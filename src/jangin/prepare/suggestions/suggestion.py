"""One suggested fix, and the profile of the rows that it is based on."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.engine.plan import Plan
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.deduplicate import ANSWER, PROMPT, NearDuplicates
from jangin.prepare.transforms.steps import (
    TABLE_STEPS,
    RowStep,
    TableStep,
    columns_in,
    key_of,
    match_mode,
    split_steps,
)

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of the plan, and the evidence for it."""

    name: str
    level: Literal["necessary", "recommended", "optional"]
    """`optional`: only the user can know whether it is right, so -y does not accept it."""
    finding: str
    """What is wrong, with figures; a sentence without its full stop."""
    action: str
    """What accepting it does, in the imperative."""
    rows: int
    """Rows that it changes or drops; 0 if it affects every row."""
    change: Callable[[Plan], Plan]


Suggestions = Generator[Suggestion, Plan, Plan]
"""Yields suggestions, receives the plan after each one, returns the last plan."""


@dataclass(frozen=True, slots=True)
class NumericAnswers:
    """Counts of a column of answers of which most are one number."""

    column: str
    rows: int
    """Answers that are one number."""
    formatted: int
    """Those of `rows` with a sign, separators or a unit."""
    other: int
    """Answers that are not one number."""


@dataclass(slots=True)
class Profile:
    """The rows under the current plan, and what is known about them."""

    transform: Callable[[Plan], "Columns"]
    """The table after the row steps of a plan."""
    plan: Plan
    notify: Callable[[str], None]
    """Shows a line to the user."""
    labels: list[int] = field(default_factory=list)
    """Number of rows of each label; empty if the answers are not labels."""
    numbers: NumericAnswers | None = None
    """Set if the answers are one column and nearly all of them are numbers."""
    near: "pl.Series | None" = None
    """Drop reasons of the accepted step `near_duplicates`, kept because it is slow."""

    def frame(self) -> "pl.LazyFrame":
        """The rows that the row steps keep, with prompt and answer."""
        import polars as pl

        return self.transform(self.plan).frame.filter(pl.col(REASON).is_null())

    def count(self, **measures: "pl.Expr") -> dict[str, Any]:
        """Aggregates over the rows that the row steps keep; one pass over the file."""
        return self.frame().select(**measures).collect(engine="streaming").row(0, named=True)

    def kept(self, *names: str) -> "pl.DataFrame":
        """`KEY`, `ANSWER` and the columns `names` of the rows that all steps keep.

        `names` must include `PROMPT` if the plan has `near_duplicates` and `near` is not set.
        """
        import polars as pl

        key = key_of(PROMPT, match_mode(self.plan.steps))
        answer = pl.col(COMPLETION).str.strip_chars().hash(13).alias(ANSWER)
        rows = self.frame().select(key, answer, *names).collect(engine="streaming")
        for step in split_steps(self.plan.steps)[1]:
            known = self.near if isinstance(step, NearDuplicates) else None
            rows = rows.filter((step.drop_reasons(rows) if known is None else known).is_null())
        return rows

    def recount(self, rows: "pl.DataFrame") -> None:
        """Update `labels` from the kept rows."""
        if self.labels:
            self.labels = rows[ANSWER].value_counts()["count"].to_list()

    def single(self, template: str) -> str:
        """The column if a template is nothing but one column, else an empty string."""
        names = columns_in(template)
        return names[0] if len(names) == 1 and template == f"{{{names[0]}}}" else ""

    def columns(self) -> tuple[str, ...]:
        """All columns that are used by a template, once each."""
        plan = self.plan
        templates = (plan.prompt, plan.completion, plan.rejected, plan.system)
        turns = () if plan.source == "columns" else ("history",)
        names = (name for text in templates for name in columns_in(text))
        return tuple(dict.fromkeys((*names, *turns)))


def with_step(plan: Plan, step: RowStep | TableStep) -> Plan:
    """The plan with one more step; table steps stay last."""
    table_steps = [old for old in plan.steps if isinstance(old, TABLE_STEPS)]
    row_steps = [old for old in plan.steps if not isinstance(old, TABLE_STEPS)]
    if isinstance(step, TABLE_STEPS):
        table_steps.append(step)
    else:
        row_steps.append(step)
    return plan.model_copy(update={"steps": (*row_steps, *table_steps)})
