"""Suggestions for numeric answers: formatted for people, or mixed with other cells."""

from typing import TYPE_CHECKING, Any

from jangin.core.errors import counted, counted_of
from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.suggestions.suggestion import (
    NumericAnswers,
    Profile,
    Suggestion,
    Suggestions,
    with_step,
)
from jangin.prepare.transforms.columns import Number, as_text
from jangin.prepare.transforms.numbers import counts_of, is_number, number_of

if TYPE_CHECKING:
    import polars as pl

NEARLY_ALL = 0.9
MANY = 0.5
_PLAIN = r"^\s*[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\s*$"


def number_counts() -> "dict[str, pl.Expr]":
    """Aggregates that `numeric_answers` needs, to be computed in any pass over all rows."""
    import polars as pl

    text = pl.col(COMPLETION)
    number = is_number(text)
    return {
        "rows": number.sum(),
        "formatted": (number & ~text.str.contains(_PLAIN)).sum(),
        "other": (~number).sum(),
        "example": text.filter(~number).first(),
    }


def numeric_answers(
    profile: Profile, rows: int, formatted: int, other: int, example: str
) -> NumericAnswers | None:
    """The counts if nearly all answers are numbers and come from one column, else None."""
    column = profile.single(profile.plan.completion)
    total = rows + other
    if not rows or not column or profile.plan.format == "preference":
        return None
    if rows >= NEARLY_ALL * total:
        return NumericAnswers(column, rows, formatted, other)
    if rows >= MANY * total:
        _notify_mixed(profile, rows, other, example)
    return None


def _notify_mixed(profile: Profile, rows: int, other: int, example: str) -> None:
    """Show that answers are mixed: what `3/4` among numbers means, only the user can decide."""
    profile.notify(
        f"{counted_of(rows, rows + other, 'answer', 'is', 'are')} numbers, {other:,} are not, "
        "such as "
        f"{example.strip()!r}; they are kept. If the model should learn numbers, correct or remove "
        "the others in the file and run prepare again"
    )


def _effect(profile: Profile, column: str) -> dict[str, Any]:
    """Effect of the step of both suggestions: {dropped, other, changed, before, after}."""
    import polars as pl

    text, value = pl.col("text"), pl.col("value")
    dropped = ~is_number(text) | value.is_null() | (pl.col("several") > 1)
    changed = ~dropped & as_text(value).ne(text)
    signs = changed & ~text.str.contains(_PLAIN)
    shown = pl.when(signs.any()).then(signs).otherwise(changed)
    cells = profile.frame().select(text=column, value=number_of(column), several=counts_of(column))
    counts = cells.select(
        dropped=dropped.sum(),
        other=text.filter(dropped).first(),
        changed=changed.sum(),
        before=text.filter(shown).first(),
        after=as_text(value.filter(shown).first()),
    )
    return counts.collect(engine="streaming").row(0, named=True)


def _step(column: str) -> Number:
    return Number(type="number", column=column, only=True)


def formatted_numbers(profile: Profile) -> Suggestions:
    """Suggest plain numbers for formatted ones, so that equal numbers are equal texts."""
    numbers = profile.numbers
    if numbers is None or not numbers.formatted:
        return profile.plan
    effect = _effect(profile, numbers.column)
    dropped, changed = effect["dropped"], effect["changed"]
    if not changed:
        return profile.plan
    other = ""
    if dropped:
        other = f"; {dropped:,} are not one number, such as {effect['other'].strip()!r}"
    profile.plan = yield Suggestion(
        name="numbers",
        level="recommended",
        finding=f"{counted(changed, 'answer is', 'answers are')} numbers with signs, separators, "
        "units or trailing zeros, "
        f"such as {effect['before'].strip()!r}{other}",
        action=f"write them like {effect['after']}"
        + (", and drop the rows that are not one number" if dropped else ""),
        rows=dropped + changed,
        change=lambda plan: with_step(plan, _step(numbers.column)),
    )
    return profile.plan


def mixed_numbers(profile: Profile) -> Suggestions:
    """Suggest to drop the few answers without a digit, such as `ask us`, among plain numbers."""
    import polars as pl

    numbers = profile.numbers
    if numbers is None or numbers.formatted or not numbers.other:
        return profile.plan
    text = pl.col(COMPLETION)
    odd = ~is_number(text) & text.str.contains("[0-9]")
    counts = profile.count(digits=odd.any(), first=text.filter(odd).first())
    if counts["digits"]:
        _notify_mixed(profile, numbers.rows, numbers.other, counts["first"])
        return profile.plan
    effect = _effect(profile, numbers.column)
    dropped, changed = effect["dropped"], effect["changed"]
    shorter = f"{effect['before']!r} as {effect['after']!r}" if changed else ""
    profile.plan = yield Suggestion(
        name="numbers",
        level="recommended",
        finding=f"{counted(numbers.rows, 'answer is', 'answers are')} numbers, and "
        f"{numbers.other:,} hold none, such as "
        f"{effect['other'].strip()!r}",
        action="drop the rows without a number"
        + (f", and shorten {changed:,} numbers, such as {shorter}" if changed else ""),
        rows=dropped + changed,
        change=lambda plan: with_step(plan, _step(numbers.column)),
    )
    return profile.plan
