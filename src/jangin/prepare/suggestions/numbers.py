"""Remedies for answers that are numbers: written for people, or mixed with cells that hold none."""

from typing import TYPE_CHECKING, Any

from jangin.prepare.engine.build import COMPLETION
from jangin.prepare.suggestions.suggestion import Look, Numbers, Offers, Remedy, with_step
from jangin.prepare.transforms.columns import Number, as_text
from jangin.prepare.transforms.numbers import counts_of, is_number, number_of

if TYPE_CHECKING:
    import polars as pl

NEARLY_ALL = 0.9
MANY = 0.5
_PLAIN = r"^\s*[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\s*$"


def number_counts() -> "dict[str, pl.Expr]":
    """What `numbers_of` is told, to be counted in some pass over all rows."""
    import polars as pl

    text = pl.col(COMPLETION)
    number = is_number(text)
    return {
        "rows": number.sum(),
        "written": (number & ~text.str.contains(_PLAIN)).sum(),
        "other": (~number).sum(),
        "example": text.filter(~number).first(),
    }


def numbers_of(look: Look, rows: int, written: int, other: int, example: str) -> Numbers | None:
    """Numbers where nearly all answers are one, and they are one column."""
    column = look.single(look.plan.completion)
    together = rows + other
    if not rows or not column or look.plan.format == "preference":
        return None
    if rows >= NEARLY_ALL * together:
        return Numbers(column, rows, written, other)
    if rows >= MANY * together:
        _say_others(look, rows, other, example)
    return None


def _say_others(look: Look, rows: int, other: int, example: str) -> None:
    """It takes somebody to say what `3/4` among numbers is, and what half a column of words is."""
    look.say(
        f"{rows:,} of {rows + other:,} answers are numbers, {other:,} are none, such as "
        f"{example.strip()!r}; they stay. If numbers are what is to be learned, correct the others "
        "in the file or take them out, and prepare it again"
    )


def _effect(look: Look, column: str) -> dict[str, Any]:
    """What the step of both remedies does to the rows: {gone, other, changed, before, after}."""
    import polars as pl

    text, value = pl.col("text"), pl.col("value")
    gone = ~is_number(text) | value.is_null() | (pl.col("several") > 1)
    changed = ~gone & as_text(value).ne(text)
    signs = changed & ~text.str.contains(_PLAIN)
    shown = pl.when(signs.any()).then(signs).otherwise(changed)
    cells = look.frame().select(text=column, value=number_of(column), several=counts_of(column))
    counts = cells.select(
        gone=gone.sum(),
        other=text.filter(gone).first(),
        changed=changed.sum(),
        before=text.filter(shown).first(),
        after=as_text(value.filter(shown).first()),
    )
    return counts.collect(engine="streaming").row(0, named=True)


def _step(column: str) -> Number:
    return Number(type="number", column=column, only=True)


def written_numbers(look: Look) -> Offers:
    """Sums as people write them: without signs and separators one number is one text."""
    found = look.numbers
    if found is None or not found.written:
        return look.plan
    effect = _effect(look, found.column)
    gone, changed = effect["gone"], effect["changed"]
    if not changed:
        return look.plan
    aside = f"; {gone:,} are not one number, such as {effect['other'].strip()!r}" if gone else ""
    look.plan = yield Remedy(
        name="numbers",
        level="recommended",
        finding=f"{changed:,} answers are numbers with signs, separators, units or zeros at the "
        f"end, such as {effect['before'].strip()!r}{aside}",
        question=f"write them like {effect['after']}"
        + (", and set rows without one number aside" if gone else ""),
        rows=gone + changed,
        change=lambda plan: with_step(plan, _step(found.column)),
    )
    return look.plan


def mixed_numbers(look: Look) -> Offers:
    """Free answers that are plain numbers but for some without any digit, such as `ask us`."""
    import polars as pl

    found = look.numbers
    if found is None or found.written or not found.other:
        return look.plan
    text = pl.col(COMPLETION)
    odd = ~is_number(text) & text.str.contains("[0-9]")
    counted = look.count(digits=odd.any(), first=text.filter(odd).first())
    if counted["digits"]:
        _say_others(look, found.rows, found.other, counted["first"])
        return look.plan
    effect = _effect(look, found.column)
    gone, changed = effect["gone"], effect["changed"]
    shorter = f"{effect['before']!r} as {effect['after']!r}" if changed else ""
    look.plan = yield Remedy(
        name="numbers",
        level="recommended",
        finding=f"{found.rows:,} answers are numbers, and {found.other:,} hold none, such as "
        f"{effect['other'].strip()!r}",
        question="set rows without a number aside"
        + (f", and write {changed:,} numbers shorter, such as {shorter}" if changed else ""),
        rows=gone + changed,
        change=lambda plan: with_step(plan, _step(found.column)),
    )
    return look.plan
