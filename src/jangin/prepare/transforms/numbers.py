"""Numbers in the cells of a column: whether a cell is one, how many it holds, which comes first."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jangin.text.numbers import count_numbers, read_number

if TYPE_CHECKING:
    import polars as pl

_SLOW_NUMBER = r"[억만천]|[\p{Nd}--0-9]"
_PLAIN_NUMBER = r"[-+]?(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+)"
_DIGITS = r"(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]+)?"
_SIGN = "[$₩￦€£¥]"
_WORD = r"(?:US\$|USD|KRW|EUR|GBP|JPY)"
_UNIT = rf"(?:원|달러|유로|엔|won|dollars?|euros?|yen|{_SIGN}|{_WORD})"
_BEFORE = rf"(?:[-+]?{_SIGN}?|{_SIGN}\s*[-+]?|{_WORD}\s*[-+]?)"
_ONLY_A_NUMBER = rf"(?i)^\s*{_BEFORE}{_DIGITS}(?:\s*[억만천](?:\s*{_DIGITS})?)*\s*{_UNIT}?\s*$"


def is_number(text: "pl.Expr") -> "pl.Expr":
    """True for a sum and nothing else: no range, no `3층`, no `00123`, a name made of digits.

    A minus stands before the digits or their sign at once, as `read_number` reads it.
    """
    return text.str.contains(_ONLY_A_NUMBER)


def number_of(column: str) -> "pl.Expr":
    """`read_number` of a text column: Arrow regular expressions, and Python where units stand."""
    import polars as pl

    text = _without_signs(column)
    plain = text.str.extract(f"({_PLAIN_NUMBER})").cast(pl.Float64)
    plain = pl.when(plain.is_finite()).then(plain)
    return _where_plain(text, plain, read_number)


def counts_of(column: str) -> "pl.Expr":
    """`count_numbers` of a text column, as floats."""
    import polars as pl

    text = _without_signs(column)
    return _where_plain(text, text.str.count_matches(_PLAIN_NUMBER).cast(pl.Float64), count_numbers)


def _without_signs(column: str) -> "pl.Expr":
    import polars as pl

    return pl.col(column).fill_null("").str.normalize("NFC").str.replace_all(r"[,$₩￦€£¥]", "")


def _where_plain(
    text: "pl.Expr", plain: "pl.Expr", read: "Callable[[str], float | None]"
) -> "pl.Expr":
    """`plain`, and `read` of each different text with a unit or with other digits."""
    import polars as pl

    def read_each(texts: "pl.Series") -> "pl.Series":
        mask = texts.str.contains(_SLOW_NUMBER)
        if not mask.any():
            return pl.Series(texts.name, [None] * len(texts), dtype=pl.Float64)
        different = texts.filter(mask).unique()
        values = pl.Series([read(text) for text in different], dtype=pl.Float64)
        return texts.replace_strict(different, values, default=None, return_dtype=pl.Float64)

    with_units = text.map_batches(read_each, return_dtype=pl.Float64, is_elementwise=True)
    return pl.when(text.str.contains(_SLOW_NUMBER)).then(with_units).otherwise(plain)
