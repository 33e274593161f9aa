"""Parse numeric cells: is it a number, how many numbers does it hold, which is the first."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jangin.text.numbers import (
    LONGEST_ALONE,
    DecimalMark,
    count_numbers,
    is_number_alone,
    numbers,
    value_of,
)

if TYPE_CHECKING:
    import polars as pl

_SIGNS = r"[-+]?[$₩￦€£¥]?\s*"
_POINT = (
    rf"^\s*{_SIGNS}((?:[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+|[0-9]{{1,15}})(?:\.[0-9]{{1,15}})?)\s*$"
)
"""A plain number, which needs no Python code."""
_WHOLE = rf"^\s*{_SIGNS}([0-9]{{1,15}})\s*$"
_NAME = rf"^\s*{_SIGNS}0[0-9]"
_MAYBE = r"\p{Nd}|[십백천만억조].*(?:원|달러|유로)"
"""Every text in which a number can be read."""


def is_number(text: "pl.Expr", decimal: DecimalMark = "point") -> "pl.Expr":
    """Boolean expression: the text is one number with at most its currency or 억, 만, 천.

    False for a range, for `3층` and for `00123`, which is a name made of digits.
    """
    import polars as pl

    plain = text.str.contains(_plain(decimal))
    maybe = ~plain & (text.str.len_chars() <= LONGEST_ALONE) & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: float(is_number_alone(one, decimal))) == 1
    return pl.when(plain).then(~text.str.contains(_NAME)).otherwise(others.fill_null(value=False))


def number_of(column: str, decimal: DecimalMark = "point") -> "pl.Expr":
    """The first number of a text column as Float64, null if there is none or it is not understood.

    Python code runs for cells that are more than a plain number only.
    """
    import polars as pl

    text = pl.col(column).fill_null("")
    digits = text.str.extract(_plain(decimal)).str.replace_all(",", "", literal=True)
    value = digits.cast(pl.Float64)
    value = pl.when(text.str.starts_with("-") | text.str.contains(r"^\s+-")).then(-value)
    value = value.otherwise(digits.cast(pl.Float64))
    maybe = digits.is_null() & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: value_of(numbers(one, decimal)))
    return pl.when(digits.is_not_null()).then(value).otherwise(others).alias(column)


def counts_of(column: str, decimal: DecimalMark = "point") -> "pl.Expr":
    """`count_numbers` of a text column as Float64."""
    import polars as pl

    text = pl.col(column).fill_null("")
    plain = text.str.contains(_plain(decimal))
    maybe = ~plain & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: float(count_numbers(one, decimal)))
    return pl.when(plain).then(1.0).otherwise(others.fill_null(0.0)).alias(column)


def _plain(decimal: DecimalMark) -> str:
    return _POINT if decimal == "point" else _WHOLE


def _of_each(
    text: "pl.Expr", chosen: "pl.Expr", read: "Callable[[str], float | None]"
) -> "pl.Expr":
    """`read` applied once per distinct selected text; Float64, null for other rows."""
    import polars as pl

    def read_each(texts: "pl.Series") -> "pl.Series":
        distinct = texts.drop_nulls().unique()
        if not len(distinct):
            return pl.Series(texts.name, [None] * len(texts), dtype=pl.Float64)
        values = pl.Series([read(one) for one in distinct], dtype=pl.Float64)
        return texts.replace_strict(distinct, values, default=None, return_dtype=pl.Float64)

    few = pl.when(chosen).then(text)
    return few.map_batches(read_each, return_dtype=pl.Float64, is_elementwise=True)
