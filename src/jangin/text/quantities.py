"""Quantities in a text: values with units, in Korean and English spellings.

"35,000원", "3만 5천 원" and "3만5000 원" are one quantity; so are "80%" and "80퍼센트", "오후 2시"
and "14:00", "2회" and "두 번", "March" and "3월". Two quantities agree when their values are equal
and their units are not known to differ: in a table the unit is in the heading of the column.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from jangin.text.numbers import korean_amount

_UNITS = {
    "percent": ("퍼센트", "프로", "%", "percent"),
    "won": ("원", "won", "krw"),
    "dollar": ("달러", "dollars", "dollar", "usd"),
    "hour": ("시간", "hours", "hour"),
    "minute": ("분", "minutes", "minute"),
    "clock": ("시", "o'clock", "a.m", "p.m", "am", "pm"),
    "week": ("주일", "주간", "주", "weeks", "week"),
    "months": ("개월", "달", "months"),
    "month": ("월", "month"),
    "year": ("년", "years", "year"),
    "day": ("일", "days", "day"),
    "times": ("회", "번", "차례", "times"),
    "person": ("명", "인", "사람", "people", "persons", "employees"),
    "article": ("조", "article", "articles"),
    "clause": ("항", "호", "절", "장"),
    "metre": ("킬로미터", "미터", "km", "m"),
    "gram": ("킬로그램", "그램", "kg", "g"),
    "degree": ("도", "°c", "℃", "degrees"),
    "page": ("쪽", "페이지", "pages", "page"),
    "age": ("세", "살"),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_UNIT = re.compile(
    r"[\s-]?(?P<unit>"
    + "|".join(
        re.escape(word) + (r"(?![a-z])" if word.isascii() and word.isalpha() else "")
        for word in sorted(_UNIT_OF, key=len, reverse=True)
    )
    + ")"
)
_AGREE = (
    {"month", "months"},
    {"times", "person", "page", "clause", "age"},
)
"""Units that texts interchange without a change of meaning: counters, above all."""

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_POINTED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3})+(?![\d.])")
"""Thousands with points, as half the world writes them and as OCR reads commas."""
_AMOUNT = re.compile(_DIGITS)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALE = re.compile(r"\s?(?P<scale>thousand|million|billion)")
_MONEY_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9}
_MONEY_SCALE = re.compile(r"\s?(?P<scale>[kmb])(?![a-z0-9])")
"""After an amount with a currency sign: `$1.2k`."""
_DATE = re.compile(r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_CLOCK = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?!\d)")
_AFTERNOON = re.compile(r"(?:오후|저녁|밤)\s?$")
_PM = re.compile(r"^\s?p\.?m")
_MONEY_SIGN = re.compile(r"[₩$]\s?$")
_LIST_SIGNS = re.compile("[\u2460-\u24ff\u2776-\u2793]")
_NATIVE = {
    "한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9,
    "열": 10, "스무": 20,
}  # fmt: skip
_NATIVE_COUNT = re.compile(
    rf"(?<![가-힣])(?P<word>{'|'.join(_NATIVE)})\s?"
    r"(?P<unit>번|차례|달|시간|시|사람|명|살|가지|개|곳|장|권|해|단계)"
)
_ENGLISH = {
    "once": 1, "one": 1, "twice": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
    "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15,
    "twenty": 20, "thirty": 30, "sixty": 60, "ninety": 90,
}  # fmt: skip
_ENGLISH_WORD = re.compile(rf"\b(?:{'|'.join(_ENGLISH)})\b")
_MONTHS = "january february march april may june july august september october november december"
_MONTH_OF = {name: month for month, name in enumerate(_MONTHS.split(), start=1)}
_MONTH = re.compile(rf"\b(?P<name>{'|'.join(_MONTH_OF)})\b(?=\s+\d)|(?<=\d )(?P<after>"
                    rf"{'|'.join(_MONTH_OF)})\b")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text."""

    value: Decimal
    unit: str
    """Name of a known unit; empty where none follows."""
    text: str
    """As written in the text, with its unit."""

    def agrees(self, other: "Quantity") -> bool:
        """True if both may mean the same amount."""
        if self.value != other.value:
            return False
        units = {self.unit, other.unit}
        return len(units) == 1 or "" in units or any(units <= alike for alike in _AGREE)


def quantities(text: str) -> list[Quantity]:
    """Every quantity written with digits, in order."""
    return _written(_folded(text))


def readings(text: str) -> list[Quantity]:
    """All that a quantity in another text may agree with: number words, too, and "22.000"."""
    folded = _folded(text)
    matches = _written(folded)
    pointed = _POINTED.sub(lambda match: match[0].replace(".", ","), folded)
    if pointed != folded:
        matches += _written(pointed)
    for match in _NATIVE_COUNT.finditer(folded):
        unit = _UNIT_OF.get(match["unit"], "")
        matches.append(Quantity(Decimal(_NATIVE[match["word"]]), unit, match[0]))
    for match in _ENGLISH_WORD.finditer(folded):
        unit = _unit_after(folded, match.end())[0]
        matches.append(Quantity(Decimal(_ENGLISH[match[0]]), unit, match[0]))
    return matches


def _folded(text: str) -> str:
    """NFKC and lower case; circled numbers, which count paragraphs, are gone."""
    return unicodedata.normalize("NFKC", _LIST_SIGNS.sub(" ", text)).lower()


def located(folded: str) -> list[tuple[int, int, Quantity]]:
    """(start, end, quantity) of all in a text in NFKC and lower case, in order; number words, too.

    The parts of a date or a time of day share its span. A span ends before the unit's particle.
    """
    matches = _positions(folded)
    spans = {range(start, start + len(quantity.text)) for start, quantity in matches}
    words = [
        (m, Decimal(_NATIVE[m["word"]]), m.start("unit")) for m in _NATIVE_COUNT.finditer(folded)
    ]
    words += [(m, Decimal(_ENGLISH[m[0]]), m.end()) for m in _ENGLISH_WORD.finditer(folded)]
    for match, value, unit_start in words:
        if not any(match.start() in span for span in spans):
            unit, end = _unit_after(folded, unit_start)
            text = folded[match.start() : max(end, unit_start)].strip()
            matches.append((match.start(), Quantity(value, unit, text)))
    ordered = sorted(matches, key=lambda item: item[0])
    return [(start, start + len(q.text), q) for start, q in ordered]


def _written(folded: str) -> list[Quantity]:
    """Quantities of a folded text, in order."""
    return [quantity for _, quantity in sorted(_positions(folded), key=lambda item: item[0])]


def _positions(folded: str) -> list[tuple[int, Quantity]]:
    """(start, quantity) of a folded text; dates and times of day are read first."""
    matches: list[tuple[int, Quantity]] = []

    def take(pattern: re.Pattern[str], units: tuple[str, ...], text: str) -> str:
        for match in pattern.finditer(text):
            for part, unit in zip(match.groups(), units, strict=True):
                if unit != "minute" or int(part):
                    matches.append((match.start(), Quantity(Decimal(int(part)), unit, match[0])))
        return pattern.sub(lambda match: " " * len(match[0]), text)

    rest = take(_DATE, ("year", "month", "day"), folded)
    rest = take(_CLOCK, ("clock", "minute"), rest)
    for match in _MONTH.finditer(rest):
        name = match["name"] or match["after"]
        matches.append((match.start(), Quantity(Decimal(_MONTH_OF[name]), "month", name)))
    position = 0
    while (start := _first_digit(rest, position)) is not None:
        value, end = _amount(rest, start)
        unit, last = _unit_after(rest, end)
        if not unit and (sign := _MONEY_SIGN.search(rest, max(0, start - 2), start)):
            unit = "won" if sign[0][0] == "₩" else "dollar"
        if unit == "clock" and value < 12 and _is_afternoon(rest, start, end):
            value += 12
        matches.append((start, Quantity(value, unit, rest[start:last].strip())))
        position = end
    return matches


def _is_afternoon(text: str, start: int, end: int) -> bool:
    before = _AFTERNOON.search(text, max(0, start - 4), start)
    return bool(before or _PM.search(text[end : end + 6]))


def _first_digit(text: str, position: int) -> int | None:
    match = re.compile(r"\d").search(text, position)
    return None if match is None else match.start()


def _amount(text: str, start: int) -> tuple[Decimal, int]:
    """The number that begins here, with its scales ("3만 5천"), and where it ends."""
    match = _AMOUNT.match(text, start)
    if match is None:
        raise ValueError("no digit begins here")
    value, end = Decimal(match[0].replace(",", "")), match.end()
    if (korean := korean_amount(text, value, end)) is not None:
        value, end = korean
    elif (scale := _SCALE.match(text, end)) is not None:
        value, end = value * _SCALES[scale["scale"]], scale.end()
    elif _MONEY_SIGN.search(text, max(0, start - 2), start):
        money = _MONEY_SCALE.match(text, end)
        if money is not None:
            value, end = value * _MONEY_SCALES[money["scale"]], money.end()
    return value.normalize(), end


def _unit_after(text: str, end: int) -> tuple[str, int]:
    """The unit that follows, and where it ends; ("", end) where none is known."""
    match = _UNIT.match(text, end)
    return ("", end) if match is None else (_UNIT_OF[match["unit"]], match.end())
