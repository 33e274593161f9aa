"""Find and mask personal data in columns of text."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_EDGE = r"(?-u:\b)"
"""Of ASCII words: a particle may follow at once, as in `901010-1234567은`. An edge of any letters
takes five times as long, too."""
_CARD = r"[3-6](?:[0-9]{15}|[0-9]{3}(?:[- ][0-9]{4}){3})"
PERSONAL_DATA = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "resident_number": _EDGE
    + r"[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])-?[1-8][0-9]{6}"
    + _EDGE,
    "phone": rf"(?:\+82[- ]?1|{_EDGE}01)[016789][-. ]?[0-9]{{3,4}}[-. ]?[0-9]{{4}}{_EDGE}",
    "card": f"{_EDGE}{_CARD}{_EDGE}",
    "ip_address": _EDGE
    + r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
    + _EDGE,
}
"""Patterns that suggest personal data; suggestions, not proof. Four years are no card: cards begin
with 3 to 6, and end in a check digit."""
_CHECKED = re.compile(rf"(?<![0-9]\.)\b{_CARD}\b", re.ASCII)
"""No decimals, such as those of 0.3333333333333333."""


def found_in(text: "pl.Expr", kind: str) -> "pl.Expr":
    """The first string in each text that looks like data of a kind, or null."""
    pattern = PERSONAL_DATA[kind]
    if kind != "card":
        return text.str.extract(f"({pattern})")
    return _of_few(text, pattern, lambda one: next((m[0] for m in _cards(one)), None), rest=False)


def masked(text: "pl.Expr", kind: str) -> "pl.Expr":
    """Texts with `[email]` and so on in place of the data of a kind."""
    pattern = PERSONAL_DATA[kind]
    if kind != "card":
        return text.str.replace_all(pattern, f"[{kind}]")
    return _of_few(text, pattern, _without_cards, rest=True)


def _of_few(
    text: "pl.Expr", pattern: str, change: Callable[[str], str | None], *, rest: bool
) -> "pl.Expr":
    """`change` of the texts that a pattern finds; the others as they are (`rest`), or null."""
    import polars as pl

    def change_few(texts: "pl.Series") -> "pl.Series":
        indices = texts.str.contains(pattern).fill_null(value=False).arg_true()
        others = (
            texts.clone()
            if rest
            else pl.Series(texts.name, [None], pl.String).new_from_index(0, len(texts))
        )
        if not len(indices):
            return others
        new = pl.Series([change(one) for one in texts.gather(indices)], dtype=pl.String)
        return others.scatter(indices, new)

    return text.map_batches(change_few, return_dtype=pl.String, is_elementwise=True)


def _without_cards(text: str) -> str:
    end, parts = 0, []
    for match in _cards(text):
        parts += [text[end : match.start()], "[card]"]
        end = match.end()
    return "".join((*parts, text[end:]))


def _cards(text: str) -> Iterator[re.Match[str]]:
    """Runs of digits that end in the check digit of a card, which one in ten does by chance."""
    start = 0
    while (match := _CHECKED.search(text, start)) is not None:
        good = _has_check_digit(match[0])
        start = match.end() if good else match.start() + 1
        if good:
            yield match


def _has_check_digit(digits: str) -> bool:
    """Luhn's check, ISO/IEC 7812-1."""
    values = [int(digit) for digit in digits if digit.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in values[-2::-2])
    return (sum(values[::-2]) + sum(doubled)) % 10 == 0
