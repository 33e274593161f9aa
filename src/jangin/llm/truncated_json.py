"""Tells a reply that breaks off in the middle of its JSON from one with a small slip."""

CLOSERS = {"{": "}", "[": "]"}
BEFORE_TEXT = "{[,:"
AFTER_TEXT = ",:}]"


def is_truncated(text: str) -> bool:
    """Whether the JSON in a text that does not parse begins and never ends.

    Fences, words around it, trailing commas and single quotes do not matter. Where quotes inside a
    string are not escaped nobody can say where it ends: such a text is whole if it ends with a
    bracket and has as many that close as that open.
    """
    if not _ends_open(text):
        return False
    end = text.rstrip().removesuffix("```").rstrip()
    balanced = all(text.count(opener) == text.count(closer) for opener, closer in CLOSERS.items())
    return not (balanced and end.endswith(tuple(CLOSERS.values())))


def _ends_open(text: str) -> bool:
    """Whether a string or a bracket is open at the end."""
    expected: list[str] = []
    quote = before = ""
    escaped = False
    for place, sign in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            if sign == "\\":
                escaped = True
            elif sign == quote and (quote == '"' or _follows(text, place)):
                quote = ""
        elif expected and (sign == '"' or (sign == "'" and before in BEFORE_TEXT)):
            quote = sign
        elif sign in CLOSERS:
            expected.append(CLOSERS[sign])
        elif expected and sign == expected[-1]:
            expected.pop()
        if not sign.isspace():
            before = sign
    return bool(expected or quote)


def _follows(text: str, place: int) -> bool:
    """Whether what comes after a quote may follow a string."""
    rest = text[place + 1 : place + 50].lstrip()
    return not rest or rest[0] in AFTER_TEXT
