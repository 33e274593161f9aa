"""Distinguish truncated JSON from malformed JSON."""

CLOSERS = {"{": "}", "[": "]"}
BEFORE_TEXT = "{[,:"
AFTER_TEXT = ",:}]"


def is_truncated(text: str) -> bool:
    """True if the JSON in a text that does not parse has a beginning and no end.

    Fences, surrounding words, trailing commas and single quotes do not matter. Where a string has
    unescaped quotes its end is unknown: such a text counts as complete if it ends with a bracket
    and its brackets are balanced.
    """
    is_open, has_unescaped_quotes = _scan(text)
    if not (is_open and has_unescaped_quotes):
        return is_open
    end = text.rstrip().removesuffix("```").rstrip()
    balanced = all(text.count(opener) == text.count(closer) for opener, closer in CLOSERS.items())
    return not (balanced and end.endswith(tuple(CLOSERS.values())))


def _scan(text: str) -> tuple[bool, bool]:
    """Whether a string or a bracket is open at the end, and whether quotes in it are unescaped.

    In valid JSON a separator or a closing bracket follows every string, so a quote that anything
    else follows belongs to the string.
    """
    expected: list[str] = []
    quote = before = ""
    escaped = has_unescaped_quotes = False
    for index, sign in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            if sign == "\\":
                escaped = True
            elif sign == quote and _may_end_string(text, index):
                quote = ""
            elif sign == quote == '"':
                quote = ""
                has_unescaped_quotes = True
        elif expected and (sign == '"' or (sign == "'" and before in BEFORE_TEXT)):
            quote = sign
        elif sign in CLOSERS:
            expected.append(CLOSERS[sign])
        elif expected and sign == expected[-1]:
            expected.pop()
        if not sign.isspace():
            before = sign
    return bool(expected or quote), has_unescaped_quotes


def _may_end_string(text: str, index: int) -> bool:
    """True if the text after the quote at `index` may follow a string."""
    rest = text[index + 1 : index + 50].lstrip()
    return not rest or rest[0] in AFTER_TEXT
