"""Numbers of a spreadsheet as they are displayed: `2026-01-05`, `12.5%`, `₩890,000`, `(300)`.

The format codes are those of ECMA-376 part 1, 18.8.30 and 18.8.31.
"""

import re
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%",
    11: "0.00E+00", 12: "# ?/?", 13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm",
    17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm", 37: "#,##0;(#,##0)", 38: "#,##0;(#,##0)", 39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)", 41: "#,##0", 42: "#,##0", 43: "#,##0.00", 44: "#,##0.00",
    45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
    27: "yyyy-mm-dd", 28: "mm-dd", 29: "mm-dd", 30: "mm-dd-yy", 31: 'yyyy"년" mm"월" dd"일"',
    32: 'h"시" mm"분"', 33: 'h"시" mm"분" ss"초"', 34: "yyyy-mm-dd", 35: "yyyy-mm-dd",
    36: "yyyy-mm-dd", 50: "yyyy-mm-dd", 57: "yyyy-mm-dd", 58: "mm-dd",
}  # fmt: skip
"""Formats without a code in the file; those of dates as Korean and ISO systems show them."""
TOKEN = re.compile(
    r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|AM/PM|A/P|오전/오후|General|[eE][+-]|y+|m+|d+|h+|s+(?:\.0+)?|a{3,4}'
    r"|[#0?]+(?:[,.#0?]*[#0?])?,*|.",
    re.IGNORECASE,
)
DAYS = ("월", "화", "수", "목", "금", "토", "일")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ENGLISH_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LONGEST = 255
"""Characters of a code that is followed; Excel allows no more."""


def display(text: str, code: str, *, since_1904: bool = False) -> str:
    """The stored number `text` as a cell with this format code shows it, else `text` itself."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    if not value.is_finite() or abs(value.adjusted()) > 300:
        return text
    if code.strip().lower() in ("", "general", "@") or len(code) > LONGEST:
        return general(value)
    section, value = _section(code, value)
    parts = TOKEN.findall(section)
    if _is_date(parts):
        return _date(parts, value, since_1904=since_1904)
    return _number(parts, value)


def general(value: Decimal) -> str:
    """As the format General: eleven digits without zeros at the end; a whole number has all."""
    if value == value.to_integral_value() and value.adjusted() < 16:
        return f"{int(value)}"
    rounded = Decimal(f"{float(value):.11g}")
    if rounded == 0:
        return "0"
    if -5 <= rounded.adjusted() < 11:
        shown = f"{rounded:f}"
        return shown.rstrip("0").rstrip(".") if "." in shown else shown
    return f"{float(value):.5E}"


def _section(code: str, value: Decimal) -> tuple[str, Decimal]:
    """The part of a code that fits the sign, and the value without a sign that it shows itself."""
    parts = re.split(r';(?=(?:[^"]*"[^"]*")*[^"]*$)', code)
    if re.match(r"\s*\[[<>=]", parts[0]):
        return parts[-1] if len(parts) > 1 and not _holds(parts[0], value) else parts[0], value
    if len(parts) == 1:
        return parts[0], value
    if value > 0 or (value == 0 and len(parts) < 3):
        return parts[0], value
    if value < 0:
        return parts[1], -value
    return parts[2], value


def _holds(section: str, value: Decimal) -> bool:
    """Whether a condition such as `[>=100]` is true of the value."""
    match = re.match(r"\s*\[([<>=]+)(-?[\d.]+)\]", section)
    if match is None:
        return True
    try:
        limit = Decimal(match[2])
    except InvalidOperation:
        return True
    return {
        ">": value > limit, ">=": value >= limit, "<": value < limit, "<=": value <= limit,
        "=": value == limit, "<>": value != limit,
    }.get(match[1], True)  # fmt: skip


def _is_date(parts: list[str]) -> bool:
    return any(
        re.fullmatch(r"(?i)y+|m+|d+|h+|s+(\.0+)?|a{3,4}|\[(h+|m+|s+)\]|am/pm|오전/오후", part)
        for part in parts
    )


def _date(parts: list[str], value: Decimal, *, since_1904: bool) -> str:
    start = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)
    seconds = int((value * 86400).quantize(Decimal(1), ROUND_HALF_UP))
    try:
        moment = start + timedelta(seconds=seconds)
    except OverflowError:
        return general(value)
    lower = [part.lower() for part in parts]
    twelve = any(part in ("am/pm", "a/p", "오전/오후") for part in lower)
    out = []
    for index, part in enumerate(lower):
        if re.fullmatch("m+", part) and _is_minute(lower, index):
            out.append(f"{moment.minute:0{min(2, len(part))}d}")
        else:
            out.append(_date_part(part, parts[index], moment, seconds, twelve=twelve))
    return "".join(out).strip()


def _is_minute(parts: list[str], index: int) -> bool:
    """`m` means minutes after hours and before seconds."""
    kinds = [
        (order, part) for order, part in enumerate(parts) if re.match(r"[ymdhs]+|\[[hms]", part)
    ]
    at = next(order for order, (position, _) in enumerate(kinds) if position == index)
    before = kinds[at - 1][1] if at else ""
    after = kinds[at + 1][1] if at + 1 < len(kinds) else ""
    return before.startswith(("h", "[h")) or after.startswith("s")


def _date_part(part: str, raw: str, moment: datetime, seconds: int, *, twelve: bool) -> str:
    hour = (moment.hour - 1) % 12 + 1 if twelve else moment.hour
    if re.fullmatch(r"\[(h+|m+|s+)\]", part):
        return str(seconds // {"h": 3600, "m": 60, "s": 1}[part[1]])
    if re.match(r"s+", part):
        return f"{moment.second:0{min(2, len(part.split('.')[0]))}d}"
    simple = {
        "yy": f"{moment.year % 100:02d}", "m": str(moment.month), "mm": f"{moment.month:02d}",
        "mmm": MONTHS[moment.month - 1], "mmmm": f"{moment:%B}",
        "mmmmm": MONTHS[moment.month - 1][0],
        "d": str(moment.day), "dd": f"{moment.day:02d}", "ddd": ENGLISH_DAYS[moment.weekday()][:3],
        "dddd": ENGLISH_DAYS[moment.weekday()], "aaa": DAYS[moment.weekday()],
        "aaaa": DAYS[moment.weekday()] + "요일", "h": str(hour), "hh": f"{hour:02d}",
        "am/pm": "AM" if moment.hour < 12 else "PM", "a/p": "A" if moment.hour < 12 else "P",
        "오전/오후": "오전" if moment.hour < 12 else "오후",
    }  # fmt: skip
    if part in simple:
        return simple[part]
    return str(moment.year) if re.fullmatch("y+", part) else _literal(raw)


def _literal(part: str) -> str:
    """What a part that is no digit shows: a quoted text, a currency sign, a single character."""
    if part.startswith('"'):
        return part.strip('"')
    if part.startswith("\\"):
        return part[1:]
    if part.startswith(("_", "*")):
        return ""
    if part.startswith("["):
        match = re.match(r"\[\$([^-\]]*)", part)
        return match[1] if match else ""
    return part


def _number(parts: list[str], value: Decimal) -> str:
    digits = [index for index, part in enumerate(parts) if re.match(r"[#0?]", part)]
    if any(re.fullmatch(r"[eE][+-]", part) for part in parts) and digits:
        places = len(parts[digits[0]].partition(".")[2])
        return f"{float(value):.{places}E}"
    if "/" in parts and len(digits) > 1:
        return general(value)
    value *= 100 ** sum(part == "%" for part in parts)
    out = []
    for index, part in enumerate(parts):
        if digits and index == digits[0]:
            out.append(_digits(part, abs(value)))
        elif part.lower() == "general":
            out.append(general(abs(value)))
        elif index in digits or part == "@":
            out.append("")
        else:
            out.append(_literal(part))
    sign = "-" if value < 0 and re.search(r"[1-9]", "".join(out)) else ""
    return sign + " ".join("".join(out).split())


def _digits(pattern: str, value: Decimal) -> str:
    """Digits by a pattern such as `#,##0.00`; a comma at its end divides by a thousand."""
    stripped = pattern.rstrip(",")
    value = value / 1000 ** (len(pattern) - len(stripped))
    whole, _, fraction = stripped.partition(".")
    rounded = value.quantize(Decimal(1).scaleb(-min(30, len(fraction))), ROUND_HALF_UP)
    left, _, right = f"{rounded:f}".partition(".")
    least = fraction.rstrip("#").count("0") + fraction.rstrip("#").count("?")
    while len(right) > least and right.endswith("0"):
        right = right[:-1]
    left = left.zfill(whole.count("0")) if whole.count("0") else left.lstrip("0")
    if "," in whole:
        left = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", left)
    return left + (f".{right}" if right else "")
