"""Parse numbers as people write them: signs, separators, Korean units (억, 만, 천)."""

import math
import re
from collections.abc import Iterator

from jangin.text.normalize import nfc

NUMBER = r"\d+(?:[.,]\d+)*"
"""Source of a pattern: digits with any separators inside, as written."""
_WRITTEN = re.compile(NUMBER)
_NUMBER = re.compile(r"[-+]?(?:\d+\.\d+|\.\d+|\d+)")
_KOREAN = re.compile(
    r"(\d+(?:\.\d+)?)\s*(억|만|천)"
    # no `3만큼`, no `3천안역`, no `3만엔진`
    r"(?:(?![가-힣])|(?=[원억만천달이은는을의에]|으로|정도|입니다|유로|엔(?![가-힣])))"
)
_UNITS = {"억": 100_000_000, "만": 10_000, "천": 1_000}
_IGNORED = str.maketrans("", "", ",$₩￦€£¥")


def written_numbers(text: str) -> list[str]:
    """The runs of digits with their separators, as written: texts with other ones differ."""
    return _WRITTEN.findall(text)


def dollars(usd: float) -> str:
    """US dollars, with as many digits as small sums need."""
    return f"${usd:,.2f}" if usd >= 0.1 or not usd else f"${usd:.4f}"


def read_number(answer: str) -> float | None:
    r"""The first number of an answer, or None.

    Thousands separators and currency signs are left out first; 억, 만 and 천 multiply:
    `1,299.00`, `$ 12`, `3만 5천원` is 35,000. What is not finite is no number.
    Source of the pattern: the price recipe's evaluator, `[-+]?\d*\.\d+|\d+`.
    """
    first = next(_numbers(answer), None)
    return first if first is not None and math.isfinite(first) else None


def count_numbers(text: str) -> int:
    """The number of numbers in a text: `3만 5천원` is one, `$12.99 - $45.00` are two."""
    return sum(1 for _ in _numbers(text))


def _numbers(answer: str) -> Iterator[float]:
    text, start = nfc(answer).translate(_IGNORED), 0
    while (first := _NUMBER.search(text, start)) is not None:
        digits = _digits(text, first)
        if _KOREAN.match(text, digits):
            value, length = _korean_number(text[digits:])
            value = -value if first.group().startswith("-") else value
            start = digits + length
        else:
            value, start = float(first.group()), first.end()
        yield value


def _digits(text: str, match: re.Match[str]) -> int:
    """Where the digits of a number begin, after its sign."""
    return match.start() + (text[match.start()] in "+-")


def _korean_number(text: str) -> tuple[float, int]:
    """`1억 2500만`, `3만5천` or `2만 300`: parts of falling units, added up, and their length."""
    total, end, smallest = 0.0, 0, math.inf
    for part in _KOREAN.finditer(text):
        unit = _UNITS[part.group(2)]
        if text[end : part.start()].strip() or unit >= smallest:
            break
        total, end, smallest = total + float(part.group(1)) * unit, part.end(), unit
    rest = re.match(r"\s*(\d+(?:\.\d+)?)(?=\s*원|\s*$)", text[end:])
    if rest is not None and float(rest.group(1)) < smallest:
        total, end = total + float(rest.group(1)), end + rest.end()
    return total, end
