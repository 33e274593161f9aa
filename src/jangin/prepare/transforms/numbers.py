"""Parse numeric cells: is it a number, how many numbers does it hold, which is the first."""

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
    """Boolean expression: the text is one number with at most its currency or 억, 만, 천.

    False for a range, for `3층` and for `00123`, which is a name made of digits. A minus sign is
    accepted directly before the digits or the currency, as in `read_number`.
    """
    return text.str.contains(_ONLY_A_NUMBER)


def number_of(column: str) -> "pl.Expr":
    """`read_number` of a text column as Float64; Python code runs for cells with units only."""
    import polars as pl

    text = _without_signs(column)
    plain = text.str.extract(f"({_PLAIN_NUMBER})").cast(pl.Float64)
    plain = pl.when(plain.is_finite()).then(plain)
    return _where_plain(text, plain, read_number)


def counts_of(column: str) -> "pl.Expr":
    """`count_numbers` of a text column as Float64."""
    import polars as pl

    text = _without_signs(column)
    return _where_plain(text, text.str.count_matches(_PLAIN_NUMBER).cast(pl.Float64), count_numbers)


def _without_signs(column: str) -> "pl.Expr":
    import polars as pl

    return pl.col(column).fill_null("").str.normalize("NFC").str.replace_all(r"[,$₩￦€£¥]", "")


def _where_plain(
    text: "pl.Expr", plain: "pl.Expr", read: "Callable[[str], float | None]"
) -> "pl.Expr":
    """`plain`, but `read` of each distinct text with a unit or with digits other than 0-9."""
    import polars as pl

    def read_each(texts: "pl.Series") -> "pl.Series":
        mask = texts.str.contains(_SLOW_NUMBER)
        if not mask.any():
            return pl.Series(texts.name, [None] * len(texts), dtype=pl.Float64)
        distinct = texts.filter(mask).unique()
        values = pl.Series([read(text) for text in distinct], dtype=pl.Float64)
        return texts.replace_strict(distinct, values, default=None, return_dtype=pl.Float64)

    with_units = text.map_batches(read_each, return_dtype=pl.Float64, is_elementwise=True)
    return pl.when(text.str.contains(_SLOW_NUMBER)).then(with_units).otherwise(plain)
