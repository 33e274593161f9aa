"""Remedies for answers that are numbers: written for people, or mixed with cells that hold none."""

from typing import TYPE_CHECKING

from jangin.examples.columns import Number, as_text, counts_of, number_of
from jangin.examples.prepare import COMPLETION
from jangin.pipeline.remedy import Look, Numbers, Offers, Remedy, with_step

if TYPE_CHECKING:
    import polars as pl

NEARLY_ALL = 0.9
_PLAIN = r"^\s*[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\s*$"
_DIGITS = r"(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]+)?"
_SIGN = "[$₩￦€£¥]"
_WORD = r"(?:US\$|USD|KRW|EUR|GBP|JPY)"
_UNIT = rf"(?:원|달러|유로|엔|won|dollars?|euros?|yen|{_SIGN}|{_WORD})"
_BEFORE = rf"(?:[-+]?{_SIGN}?|{_SIGN}\s*[-+]?|{_WORD}\s*[-+]?)"
_NUMBER = rf"(?i)^\s*{_BEFORE}{_DIGITS}(?:\s*[억만천](?:\s*{_DIGITS})?)*\s*{_UNIT}?\s*$"
"""A sum and nothing else: no range, no `3층`, and no `00123`, which is a name made of digits. A
minus stands before the digits or their sign at once, as `Number` reads it."""


def number_counts() -> "dict[str, pl.Expr]":
    """What `numbers_of` is told, to be counted in some pass over all rows."""
    import polars as pl

    text = pl.col(COMPLETION)
    number = text.str.contains(_NUMBER)
    return {
        "rows": number.sum(),
        "written": (number & ~text.str.contains(_PLAIN)).sum(),
        "other": (~number).sum(),
    }


def numbers_of(look: Look, rows: int, written: int, other: int) -> Numbers | None:
    """Numbers where nearly all answers are one, and they are one column."""
    column = look.single(look.plan.completion)
    if not column or look.plan.format == "preference" or rows < NEARLY_ALL * (rows + other):
        return None
    return Numbers(column, rows, written, other) if rows else None


def written_numbers(look: Look) -> Offers:
    """Sums as people write them: without signs and separators one number is one text."""
    import polars as pl

    found = look.numbers
    if found is None or not found.written:
        return look.plan
    text, value = pl.col("text"), pl.col("value")
    gone = value.is_null() | (pl.col("several") > 1)
    changed = ~gone & as_text(value).ne(text)
    cells = look.frame().select(
        text=found.column, value=number_of(found.column), several=counts_of(found.column)
    )
    counts = cells.select(
        gone=gone.sum(),
        changed=changed.sum(),
        before=text.filter(changed).first(),
        after=as_text(value.filter(changed).first()),
    )
    counted = counts.collect(engine="streaming").row(0, named=True)
    none, before = counted["gone"], counted["before"]
    if before is None:
        return look.plan
    aside = f"; {none:,} answers hold no number, or several" if none else ""
    look.plan = yield Remedy(
        name="numbers",
        level="recommended",
        finding=f"{found.written:,} answers are numbers with signs, separators or units, such as "
        f"{before.strip()!r}{aside}",
        question=f"write them like {counted['after']}"
        + (", and set rows without one number aside" if none else ""),
        rows=none + counted["changed"],
        change=lambda plan: with_step(plan, Number(type="number", column=found.column)),
    )
    return look.plan


def mixed_numbers(look: Look) -> Offers:
    """Free answers that are plain numbers but for some without any digit, such as `ask us`."""
    import polars as pl

    found = look.numbers
    if found is None or found.written or not found.other:
        return look.plan
    text = pl.col(COMPLETION)
    other = ~text.str.contains(_NUMBER)
    counted = look.count(
        digits=(other & text.str.contains("[0-9]")).any(), first=text.filter(other).first()
    )
    if counted["digits"]:
        return look.plan  # it takes somebody to say what `3/4` among numbers is
    look.plan = yield Remedy(
        name="numbers",
        level="recommended",
        finding=f"{found.rows:,} answers are numbers, and {found.other:,} hold none, such as "
        f"{counted['first'].strip()!r}",
        question="set rows without a number aside",
        rows=found.other,
        change=lambda plan: with_step(plan, Number(type="number", column=found.column)),
    )
    return look.plan
