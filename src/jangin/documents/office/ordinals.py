"""Numbers of automatic numbering, as word processors print them: 1, IV, b, 가, ③, 일."""

GANADA = "가나다라마바사아자차카타파하"
CHOSUNG = "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"
HANGUL_DIGITS = "영일이삼사오육칠팔구"
HANJA_DIGITS = "〇一二三四五六七八九"
GAPJA = "甲乙丙丁戊己庚辛壬癸"
GAPEUL = "갑을병정무기경신임계"
ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
         (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip
ENCLOSED = {
    "circle": ((1, 20, "①"), (21, 35, "㉑"), (36, 50, "㊱")),
    "paren": ((1, 20, "⑴"),),
    "stop": ((1, 20, "⒈"),),
    "circle_letter": ((1, 26, "ⓐ"),),
    "circle_capital": ((1, 26, "Ⓐ"),),
    "paren_letter": ((1, 26, "⒜"),),
    "circle_ganada": ((1, 14, "㉮"),),
    "paren_ganada": ((1, 14, "㈎"),),
    "circle_chosung": ((1, 14, "㉠"),),
    "circle_hanja": ((1, 10, "㊀"),),
}


def ordinal(style: str, value: int) -> str:
    """`value` in a style of this module: `decimal`, `roman`, `letter`, `ganada`, `circle`, ...

    An unknown style, and a value beyond the characters of one, gives decimal digits.
    """
    if value < 0 or value > 1_000_000:
        return str(value)
    if style in ENCLOSED:
        for first, last, character in ENCLOSED[style]:
            if first <= value <= last:
                return chr(ord(character) + value - first)
        return str(value)
    simple = {
        "none": "",
        "roman": _roman(value).lower(),
        "ROMAN": _roman(value),
        "letter": _letters(value).lower(),
        "LETTER": _letters(value),
        "zero": f"{value:02d}",
        "ordinal": f"{value}{_suffix(value)}",
        "ganada": _cyclic(GANADA, value),
        "chosung": _cyclic(CHOSUNG, value),
        "gapeul": _cyclic(GAPEUL, value),
        "gapja": _cyclic(GAPJA, value),
        "hangul": _counted(HANGUL_DIGITS, "십백천", value),
        "hanja": _counted(HANJA_DIGITS, "十百千", value),
        "hanja_digits": "".join(HANJA_DIGITS[int(digit)] for digit in str(value)),
        "full_width": "".join(chr(ord("０") + int(digit)) for digit in str(value)),
    }
    return simple.get(style, str(value))


def _roman(value: int) -> str:
    if not 0 < value < 5000:
        return str(value)
    out = ""
    for worth, letters in ROMAN:
        out += letters * (value // worth)
        value %= worth
    return out


def _letters(value: int) -> str:
    """A to Z, then AA, BB, ... as Word and Hangul count."""
    if not 0 < value <= 780:
        return str(value)
    return chr(ord("A") + (value - 1) % 26) * ((value - 1) // 26 + 1)


def _cyclic(letters: str, value: int) -> str:
    return letters[(value - 1) % len(letters)] if value > 0 else str(value)


def _counted(digits: str, units: str, value: int) -> str:
    """십이, 이십삼: digits with units, a leading one before a unit left out."""
    if not 0 < value < 10_000:
        return str(value)
    out = ""
    for position in range(3, -1, -1):
        digit = value // 10**position % 10
        if digit:
            out += (digits[digit] if digit > 1 or position == 0 else "") + (
                units[position - 1] if position else ""
            )
    return out


def _suffix(value: int) -> str:
    if value % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
