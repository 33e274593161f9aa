"""Parse numbers as people write them: separators, signs, Korean and English units of scale.

`5억 3천만원` is 530,000,000, `$1.2k` is 1,200, `1.299,00 €` is 1,299 and `minus 5` is -5. A number
is read whole or not at all: what looks like one and is not understood, such as a date, a fraction
or `12,50` without a hint that its comma is a decimal one, is a `NumberInText` without a value.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from jangin.text.normalize import nfc

DecimalMark = Literal["point", "comma"]

NUMBER = r"\d+(?:[.,]\d+)*"
"""Source of a pattern: digits with any separators inside, as written."""
_WRITTEN = re.compile(NUMBER)
_SPACE = "\u00a0\u202f\u2009"
"""Spaces that occur within numbers only."""
_RUN = re.compile(rf"\d(?:[.,:/'’·{_SPACE}]?\d)*|(?<!\d)\.\d+")
"""Digits with anything between them that may belong to one number, date, time or fraction."""
_PLAIN = re.compile(r"\d*\.\d+|\d+")
_GROUPED = re.compile(rf"[1-9]\d{{0,2}}(?:,\d{{2,3}})*,\d{{3}}(?:\.\d+)?"
                      rf"|[1-9]\d{{0,2}}(?:['’{_SPACE}]\d{{3}})+(?:\.\d+)?")  # fmt: skip
_EUROPEAN = re.compile(rf"[1-9]\d{{0,2}}(?:\.\d{{3}}){{2,}}|[1-9]\d{{0,2}}(?:\.\d{{3}})+,\d{{1,2}}"
                       rf"|[1-9]\d{{0,2}}(?:['’{_SPACE}]\d{{3}})+,\d{{1,2}}")  # fmt: skip
"""Separators that leave no other reading than points or spaces for thousands."""
_COMMA = re.compile(r"\d+,\d+|\d+|[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
_MARKED = {"point": _PLAIN, "comma": re.compile(r"\d+\.\d{1,2}")}
_EURO_COMMA = re.compile(r"\d+,\d{1,2}")
_EXPONENT = re.compile(r"[eE][-+]?\d{1,3}(?![\w.])")
_SPACED = re.compile(r"\s*(?:[-+−]?\s?[$₩€£¥]?\s?)([1-9]\d{0,2}(?: \d{3})+)([.,]\d{1,2})?"
                     r"\s?(?:[$₩€£¥원]|[A-Za-z]{3})?\s*")  # fmt: skip
"""A text that is nothing but a number with blanks for thousands."""
_NOT_ONE = re.compile(r"\s?[\^×*]\s?\d|\s+\d+/\d|\s?[¼-¾⅐-⅞↉]|\s?x\s?\d")
"""After a number: powers, products, fractions."""

_BIG = {"조": 10**12, "억": 10**8, "만": 10**4}
_SMALL = {"천": 1000, "백": 100, "십": 10}
_AMOUNT = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_UNIT = re.compile(
    r"\s?(?P<unit>조|억(?!양|제|울)|만(?!큼|약|기|족|화|들|남|엔진)|천(?!안|연|막|문)|백(?!화점|신|업|팩|분)"
    r"|십(?!자))(?:여(?=\s?[가-힣]))?"
)
"""A unit of scale, not the beginning of a word: no `3만큼`, no `3천안역`, no `3만엔진`."""
_BEFORE_UNIT = re.compile(rf"\s?({_AMOUNT})(?=\s?[조억만천백십])")
_TRILLION = re.compile(
    r"조여?(?=\s?(?:원|달러|유로|엔|won|\d[\d,]*\s?[천백십]?\s?(?:\d+\s?[백십])?억))"
)
"""조 is also an article of a law: it is a unit before a currency or 억 only, or in a cell."""
_REST = re.compile(
    r"\s?(?P<digits>\d{1,3}(?:,\d{3})+|\d{3,}|\d{1,2}(?=\s?(?:원|달러|유로|엔|명|개|won)|\s*$))"
    r"(?![\d.]*\s?[조억만천백십])"
)
_MIXED = re.compile(r"\s?[일이삼사오육륙칠팔구][천백십만원]")
"""After an amount in digits: the rest of it in words, as in `3만오천원`."""
_DIGIT_WORDS = dict(zip("일이삼사오육륙칠팔구", (1, 2, 3, 4, 5, 6, 6, 7, 8, 9), strict=True))
_IN_WORDS = re.compile(
    r"\s*([일이삼사오육륙칠팔구십백천만억조 ]+?)\s*(?:원|달러|유로)(?:정|입니다)?[.\s]*"
)
"""A text that is nothing but an amount written in Hangul."""
_ENGLISH = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "mil": 10**6, "mn": 10**6, "bn": 10**9, "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
_ENGLISH_SCALE = re.compile(rf"[\s-]?(?P<word>{'|'.join(_ENGLISH)})s?(?![a-z])", re.IGNORECASE)
_LETTER = re.compile(r"(?P<letter>[kKMBT])(?![\w/])")
_MONEY_LETTER = re.compile(r"\s?(?P<letter>[kmbt])(?![\w/])", re.IGNORECASE)
_LETTERS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}

_CURRENCY = r"(?:US\$|[$₩€£¥]|USD|KRW|EUR|GBP|JPY)"
_BEFORE = re.compile(
    rf"(?P<word>(?:\b(?:minus|negative)|마이너스|영하)\s*)?(?P<outer>(?<![\w)\]])[-+−–▲△])?"
    rf"(?P<money>{_CURRENCY})?\s?(?P<inner>(?<![\w)\]])[-+−])?$",
    re.IGNORECASE,
)
_EURO_AFTER = re.compile(r"\s?(?:€|EUR|euros?\b|유로)", re.IGNORECASE)
_RANGE = re.compile(
    r"\s?(?:원|달러|유로|엔|won|dollars?|euros?|USD|KRW|EUR|[$₩€£¥%])?\s?"
    r"(?:[-−–—~∼〜～]+|to|or|에서|부터|내지|또는|혹은|이상|초과)\s?" + rf"{_CURRENCY}?\s?",
    re.IGNORECASE,
)
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0xFFE6: "₩", 0xFFE5: "¥"}


@dataclass(frozen=True, slots=True)
class NumberInText:
    """A number in a text, or what looks like one."""

    value: Decimal | None
    """None where it is not understood."""
    start: int
    """Where its sign, currency or first digit is in `folded` text ..."""
    end: int
    """... and where its last digit or unit of scale ends."""
    digits: int
    """Where its digits begin."""


def written_numbers(text: str) -> list[str]:
    """The runs of digits with their separators, as written: texts with other ones differ."""
    return _WRITTEN.findall(text)


def dollars(usd: float) -> str:
    """US dollars, with as many digits as small sums need."""
    return f"${usd:,.2f}" if usd >= 0.1 or not usd else f"${usd:.4f}"


def read_number(answer: str, decimal: DecimalMark = "point") -> float | None:
    r"""The first number of an answer; None without one, or if it is not understood or a range.

    Plain numbers are read as in the price recipe's evaluator: after `$` and thousands separators,
    `[-+]?\d*\.\d+|\d+`. What is not finite is no number.
    """
    matches = numbers(answer, decimal)
    return None if is_range(answer, matches) else value_of(matches)


def value_of(matches: Sequence[NumberInText]) -> float | None:
    """The first of the numbers of a text; None if there is none or it is not understood."""
    if not matches or matches[0].value is None:
        return None
    value = float(matches[0].value)
    return value if math.isfinite(value) else None


def count_numbers(text: str, decimal: DecimalMark = "point") -> int:
    """The number of numbers in a text: `3만 5천원` is one, `$12.99 - $45.00` are two."""
    return len(numbers(text, decimal))


def is_range(text: str, matches: Sequence[NumberInText]) -> bool:
    """True if the first two numbers of a text are the ends of a range, or alternatives."""
    if len(matches) < 2:
        return False
    text, (first, second) = folded(text), matches[:2]
    between = text[first.end : second.digits]
    if _RANGE.fullmatch(between):
        money = re.compile(_CURRENCY)
        # `iPhone 12 - $799` is no range: only the second number is an amount of money.
        return bool(money.search(text[first.start : first.digits]) or not money.search(between))
    return between.strip() == "and" and text[: first.start].rstrip().endswith("between")


def folded(text: str) -> str:
    """NFC, with half-width forms of full-width digits, letters and signs; of the same length."""
    return nfc(text).translate(_HALF_WIDTH)


def numbers(text: str, decimal: DecimalMark = "point") -> list[NumberInText]:
    """Every number of a text, in order."""
    text = folded(text)
    whole = _whole(text)
    if whole is not None:
        return [whole]
    matches: list[NumberInText] = []
    position = 0
    while (run := _RUN.search(text, position)) is not None:
        number = _number(text, run, position, decimal)
        matches.append(number)
        position = number.end
    return matches


def _whole(text: str) -> NumberInText | None:
    """A text that is one amount in Hangul, with blanks for thousands, or in parentheses."""
    if (words := _IN_WORDS.fullmatch(text)) is not None:
        value = _in_words(words[1].replace(" ", ""))
        return NumberInText(value, words.start(1), words.end(1), words.start(1))
    if (spaced := _SPACED.fullmatch(text)) is not None:
        digits = spaced[1].replace(" ", "") + (spaced[2] or "").replace(",", ".")
        sign = -1 if re.match(r"\s*[-−]", text) else 1
        return NumberInText(
            sign * Decimal(digits), 0, spaced.end(2 if spaced[2] else 1), spaced.start(1)
        )
    alone = re.fullmatch(rf"\s*\(\s?{_CURRENCY}?\s?{_AMOUNT}\s?\)\s*", text)
    if alone is not None:  # a negative amount to an accountant, a note to others
        return NumberInText(None, 0, len(text), 0)
    jo = re.fullmatch(rf"\s*({_AMOUNT})\s?조\s*", text)
    if jo is not None:
        value = Decimal(jo[1].replace(",", "")) * _BIG["조"]
        return NumberInText(value, jo.start(1), len(text.rstrip()), jo.start(1))
    return None


def _in_words(text: str) -> Decimal | None:
    """`삼만오천` as 35000; None for digits without a unit between them."""
    total, section, digit = 0, 0, 0
    for letter in text:
        if letter in _DIGIT_WORDS:
            if digit:
                return None
            digit = _DIGIT_WORDS[letter]
        elif letter in _SMALL:
            section, digit = section + (digit or 1) * _SMALL[letter], 0
        else:
            total, section, digit = total + (section + digit or 1) * _BIG[letter], 0, 0
    return Decimal(total + section + digit) if len(text) > 1 or total + section else None


def _number(text: str, run: re.Match[str], position: int, decimal: DecimalMark) -> NumberInText:
    """The number whose digits begin at a run."""
    window = text[max(position, run.start() - 20) : run.start()]
    before = _BEFORE.search(window)
    money = before["money"] if before else ""
    start = run.start() - (len(before[0].lstrip()) if before else 0)
    value, end = _digits(text, run, decimal, money or "")
    if value is not None:
        value, end = _scaled(text, run, value, end, bool(money))
    if _NOT_ONE.match(text, end):
        value = None
    signs = {before[name] for name in ("outer", "inner")} if before else set()
    if re.fullmatch(rf"\s*[-−]\s{_CURRENCY}?\s?", text[: run.start()]):
        signs.add("-")  # a text that begins with `- 5`
    if signs & {"▲", "△"}:  # a loss in accounts, a rise on the stock market
        value = None
    if value is not None and before and (before["word"] or signs & {"-", "−", "–"}):
        value = -value
    return NumberInText(value, start, end, run.start())


def _digits(
    text: str, run: re.Match[str], decimal: DecimalMark, money: str
) -> tuple[Decimal | None, int]:
    """(value of a run of digits and separators, where it ends)."""
    written, end = run[0], run.end()
    digits = re.sub(rf"['’{_SPACE}]", "", written)
    euro = "€" in money or money.upper() == "EUR" or _EURO_AFTER.match(text, end)
    comma = decimal == "comma" and _COMMA.fullmatch(digits)
    if comma or _EUROPEAN.fullmatch(written) or (euro and _EURO_COMMA.fullmatch(written)):
        value = Decimal(digits.replace(".", "").replace(",", "."))
    elif _MARKED[decimal].fullmatch(written) or _GROUPED.fullmatch(written):
        value = Decimal(digits.replace(",", ""))
    else:
        return None, end
    exponent = _EXPONENT.match(text, end)
    if exponent is not None:
        value, end = value.scaleb(int(exponent[0][1:])), exponent.end()
    return value, end


def _scaled(
    text: str, run: re.Match[str], value: Decimal, end: int, money: bool
) -> tuple[Decimal | None, int]:
    """(value, end) with the units of scale that follow the digits."""
    korean = korean_amount(text, value, end)
    if korean is not None:
        value, end = korean
        mixed = _MIXED.match(text, end)
        if mixed is not None:
            return None, mixed.end()
        if not text[end:].strip() and re.search(r"[억만천]\s?\d$", text[:end]):
            return None, end  # `3만5`: 30,005 or, as it is said, 35,000
        return value, end
    total, factor = Decimal(0), Decimal(1)
    while (scale := _ENGLISH_SCALE.match(text, end)) is not None:
        factor, end = factor * _ENGLISH[scale["word"].lower()], scale.end()
    if factor == 1:
        letter = _LETTER.match(text, end) or (_MONEY_LETTER.match(text, end) if money else None)
        if letter is not None:
            return value * _LETTERS[letter["letter"].lower()], letter.end()
        return value, end
    total = value * factor
    more = re.compile(rf"\s(?:and\s)?({_AMOUNT})").match(text, end)
    if more is not None and _ENGLISH_SCALE.match(text, more.end()):
        rest, last = _scaled(text, run, Decimal(more[1].replace(",", "")), more.end(), False)
        if rest is not None and rest < factor:
            return total + rest, last
    return total, end


def korean_amount(text: str, value: Decimal, end: int) -> tuple[Decimal, int] | None:
    """(value, end) of an amount whose first digits end at `end`: `5`, `억 3천만` -> 530,000,000.

    Sections of 천, 백 and 십 are multiplied by the 만, 억 or 조 after them, and added up. None if
    no unit of scale follows.
    """
    total, section, digits = Decimal(0), Decimal(0), value
    big, small, last, position = 10**16, 10**4, 0, end
    while (unit := _UNIT.match(text, position)) is not None:
        name = unit["unit"]
        scale = _SMALL.get(name) or _BIG[name]
        in_order = scale < small if name in _SMALL else scale < big and (section or digits)
        if not in_order or (name == "조" and not _TRILLION.match(text, unit.start("unit"))):
            break
        if name in _SMALL:
            section, small = section + (digits or 1) * scale, scale
        else:
            total, section, big, small = (
                total + (section + digits) * scale,
                Decimal(0),
                scale,
                10**4,
            )
        last = position = unit.end()
        more = _BEFORE_UNIT.match(text, position)
        digits = Decimal(more[1].replace(",", "")) if more else Decimal(0)
        position = more.end() if more else position
    if not last:
        return None
    rest = _REST.match(text, last)
    if rest is None or Decimal(rest[1].replace(",", "")) >= (small if section else big):
        return total + section, last
    return total + section + Decimal(rest[1].replace(",", "")), rest.end()


_AFTER_ALONE = re.compile(
    rf"\s*(?:원|달러|유로|엔|won|dollars?|euros?|yen|{_CURRENCY})?정?\s*", re.IGNORECASE
)
LONGEST_ALONE = 40
"""Characters of a text that is one number alone; a longer one is none."""


def is_number_alone(text: str, decimal: DecimalMark = "point") -> bool:
    """True for one number with at most its sign, currency or units of scale.

    False for a range, for `3층` and for `00123`, which is a name made of digits.
    """
    if len(text) > LONGEST_ALONE:
        return False
    matches = numbers(text, decimal)
    if len(matches) != 1 or matches[0].value is None:
        return False
    text, number = folded(text), matches[0]
    if re.match(r"0\d", text[number.digits :]) or text[: number.start].strip():
        return False
    return _AFTER_ALONE.fullmatch(text[number.end :]) is not None
