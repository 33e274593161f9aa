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
_VERSION = re.compile(r"(?:\bv(?:er(?:sion)?)?|버전|릴리스|release|build)[.:\s]*$", re.IGNORECASE)


def found_in(text: "pl.Expr", kind: str) -> "pl.Expr":
    """The first string in each text that looks like data of a kind, or null."""
    pattern = PERSONAL_DATA[kind]
    if kind not in _CHECKED:
        return text.str.extract(f"({pattern})")

    def first(one: str) -> str | None:
        return next((match[0] for match in _checked(one, kind)), None)

    return _of_few(text, pattern, first, rest=False)


def masked(text: "pl.Expr", kind: str) -> "pl.Expr":
    """Texts with `[email]` and so on in place of the data of a kind."""
    pattern = PERSONAL_DATA[kind]
    if kind not in _CHECKED:
        return text.str.replace_all(pattern, f"[{kind}]")
    return _of_few(text, pattern, lambda one: _without(one, kind), rest=True)


def kinds_in(text: str) -> list[str]:
    """Kinds of personal data that a single text seems to hold."""
    kinds = ["email"] if "@" in text and _EMAIL.search(text) else []
    if not _DIGITS.search(text):
        return kinds
    if _PHONE.search(text):
        kinds.append("phone")
    return [*kinds, *(kind for kind in _CHECKED if next(_checked(text, kind), None) is not None)]


def _of_few(
    text: "pl.Expr", pattern: str, change: Callable[[str], str | None], *, rest: bool
) -> "pl.Expr":
    """`change` applied to texts that match; the others unchanged (with `rest`) or null."""
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


def _without(text: str, kind: str) -> str:
    end, parts = 0, []
    for match in _checked(text, kind):
        parts += [text[end : match.start()], f"[{kind}]"]
        end = match.end()
    return "".join((*parts, text[end:]))


def _checked(text: str, kind: str) -> Iterator[re.Match[str]]:
    """The strings of a kind that pass its check; one in ten digit strings does by chance."""
    pattern, check = _CHECKED[kind]
    start = 0
    while (match := pattern.search(text, start)) is not None:
        good = check(match)
        start = match.end() if good else match.start() + 1
        if good:
            yield match


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's check, ISO/IEC 7812-1."""
    digits = match[0]
    values = [int(digit) for digit in digits if digit.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in values[-2::-2])
    return (sum(values[::-2]) + sum(doubled)) % 10 == 0


_BORN_FROM_2000 = (3, 4, 7, 8)
"""Seventh digits of people born from 2000 on ..."""
_YEARS = 40
"""... of whom none was born in 2040."""


def _is_resident_number(match: re.Match[str]) -> bool:
    """True with a hyphen, or with its check digit and not that of a barcode (EAN-13).

    Numbers issued from October 2020 on have no check digit, so a hyphen is enough.
    """
    if "-" in match[0]:
        return True
    digits = [int(digit) for digit in match[0]]
    if digits[6] in _BORN_FROM_2000 and 10 * digits[0] + digits[1] >= _YEARS:
        return False
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(digit * weight for digit, weight in zip(digits, weights, strict=False))
    is_barcode = (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0
    return (11 - total % 11) % 10 == digits[-1] and not is_barcode


def _is_ip_address(match: re.Match[str]) -> bool:
    """False for versions and for section numbers, such as 1.2.3.4."""
    text = match.string
    before, after = text[max(0, match.start() - 10) : match.start()], text[match.end() :]
    longer = re.match(r"\.\d", after) or re.search(r"\d\.$", before)
    return len(match[0]) > len("1.2.3.4") and not longer and not _VERSION.search(before)


_CHECKED: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]] = {
    # No decimals, such as those of 0.3333333333333333.
    "card": (re.compile(rf"(?<![0-9]\.)\b{_CARD}\b", re.ASCII), _is_card),
    "resident_number": (
        re.compile(PERSONAL_DATA["resident_number"].replace(_EDGE, r"\b"), re.ASCII),
        _is_resident_number,
    ),
    "ip_address": (
        re.compile(PERSONAL_DATA["ip_address"].replace(_EDGE, r"\b"), re.ASCII),
        _is_ip_address,
    ),
}
"""{kind: (pattern, check)} of the kinds that other numbers look like."""
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
"""With an upper bound: unlike that of polars, Python's engine would search long words again from
each of their characters."""
_PHONE = re.compile(PERSONAL_DATA["phone"].replace(_EDGE, r"\b"), re.ASCII)
_DIGITS = re.compile(r"[0-9][0-9.]{5}|[0-9]{2,4}[- ][0-9]{3}")
"""What every number below contains."""
