"""Content match: whether an answer is right, in any form.

`30분입니다.` and `점심시간은 30분입니다.` are right for `30분`, `It is 3 months.` for `3 months`.
Exact match calls them wrong, so it compares forms where systems write differently.

An answer is right if it holds the reference answer and all else in it is form: a lead-in, a copula
or particle, a word that adds nothing, or a word of the question, repeated. Any other word, number
or name makes it wrong, and so do negations, limits (`이상`, `at least`) and alternatives, unless
the question or the reference answer has them, too. So a right answer with an explanation is counted
as wrong rather than a wrong one as right.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jangin.metrics.answer_forms import (
    ALTERNATIVES,
    CONNECTORS,
    COURTESIES,
    FUNCTION_WORDS,
    LEAD_INS,
    NEGATIONS,
    NO,
    OUTDATED,
    PARTICLES,
    SAME_WORD,
    SUFFIXES,
    YES,
    plain,
)
from jangin.text.language import HANGUL_SYLLABLE
from jangin.text.normalize import collapse_spaces
from jangin.text.quantities import Quantity, located

VERSION = 1
"""Raised with every change of what is right; grades of another version are computed again."""

_CODE = re.compile(r"(?<![\w.])[a-z]+(?:[-_./]?[a-z0-9]+)*(?<=[a-z0-9])")
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[%°/~+<>=≤≥&,]")
_QUOTES = re.compile(r"[*`\"“”‘«»「」『』]|(?<![a-z])['’]|['’](?![a-z])")
_BRACKETS = str.maketrans(dict.fromkeys("《》〈〉()[]", " "))
_BULLET = re.compile(r"^\s*(?:[-•·]|#+)\s+")
_NEGATIVE = re.compile(r"(?:(?:^|[\s(:,])[-−–]|minus\s|negative\s|마이너스\s?|영하\s?)$")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_HALF_OF_DAY = frozenset(("오전", "오후", "저녁", "밤", "아침", "새벽", "am", "pm", "a", "p", "m"))
_BY_WRITING = frozenset(("metre", "gram", "clause"))
"""Units that hold several ones: km and m, 항 and 호."""
_WRITTEN_UNITS = {"km": "킬로미터", "m": "미터", "kg": "킬로그램", "g": "그램"}
_INFLECTED = re.compile("(?:다|는|은|을|던|한|할|된|될|해|돼|하여|되어|지|면|려면|해야|돼야|고)$")
"""Endings that a verb of the question may have in the answer."""
_GRAMMAR = ("a", "an", "the")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """Comparable form: `plain` words, `15 day` for a quantity."""
    raw: str = ""
    quantity: Quantity | None = None
    after_comma: bool = False
    attached: bool = False
    """True if no space separates it from the token before it."""


def content_match(prediction: str, gold: str, question: str = "") -> float:
    """1 if the prediction states what the gold answer states and nothing else, else 0.

    Words of the question may be repeated; without a question none may.
    """
    asked_tokens = _tokens(question)
    wanted, given = _tokens(_core(gold)), _tokens(_core(prediction))
    if not wanted or not given:
        return float(wanted == given and not gold.strip() and not prediction.strip())
    polarity = _polarity(wanted)
    if polarity is not None:
        return float(_same_polarity(polarity, _tokens(_bare(prediction)), asked_tokens))
    return float(_is_right(wanted, given, asked_tokens) or _is_list(wanted, given, asked_tokens))


def _bare(text: str) -> str:
    """Folded, without markdown, quotes and courtesies."""
    folded = unicodedata.normalize("NFKC", text).lower().strip()
    folded = _QUOTES.sub("", _BULLET.sub("", folded)).translate(_BRACKETS)
    return collapse_spaces(COURTESIES.sub("", folded)).strip(" .!。?")


def _core(text: str) -> str:
    """The text without lead-ins."""
    core = _bare(text)
    while True:
        for pattern in LEAD_INS:
            match = pattern.match(core)
            if match is not None and match.end() < len(core) and not OUTDATED.search(match[0]):
                core = core[match.end() :].strip()
                break
        else:
            return core


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[_Token, ...]:
    """Words, codes, quantities and meaningful signs, in order; articles are left out."""
    folded = _ORDINAL.sub("  ", _bare(text))
    codes = [m for m in _CODE.finditer(folded) if any(c.isdigit() for c in m[0])]
    masked = folded
    for match in codes:
        masked = masked[: match.start()] + " " * len(match[0]) + masked[match.end() :]
    spans: list[tuple[int, int, str, Quantity | None]] = [
        (m.start(), m.end(), m[0], None) for m in codes
    ]
    for start, end, quantity in located(masked):
        spans.append((start, end, _spelled(quantity, masked[:start]), quantity))
        blank = " " * (end - start)
        masked = masked[:start] + blank + masked[end:]
    spans += [(m.start(), m.end(), plain(m[0]), None) for m in _TOKEN.finditer(masked)]
    return _joined(folded, sorted(spans, key=lambda span: span[0]))


def _spelled(quantity: Quantity, before: str) -> str:
    """`15 day`: value and unit."""
    unit = quantity.unit
    if unit in _BY_WRITING:
        written = re.sub(r"^[\d.,\s-]+", "", quantity.text).strip()
        unit = _WRITTEN_UNITS.get(written, written)
    elif unit == "month" and quantity.text.endswith("month") and quantity.text != "month":
        unit = "months"
    sign = "-" if _NEGATIVE.search(before) else ""
    return f"#{sign}{quantity.value.normalize():f} {unit}".rstrip()


def _joined(
    folded: str, spans: Sequence[tuple[int, int, str, Quantity | None]]
) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    comma, last_end = False, -1
    for index, (start, end, text, quantity) in enumerate(spans):
        following = spans[index + 1][3] if index + 1 < len(spans) else None
        clock = any(
            near is not None and near.unit == "clock"
            for near in (following, tokens[-1].quantity if tokens else None)
        )
        if text == ",":
            comma = True
        elif text not in _GRAMMAR and not (text in _HALF_OF_DAY and clock):
            word = SAME_WORD.get(text, text)
            tokens.append(_Token(word, folded[start:end], quantity, comma, start == last_end))
            comma = False
        last_end = end
    return tuple(_with_days(tokens))


def _with_days(tokens: list[_Token]) -> list[_Token]:
    """`March 31` and `31 March` as a month and a day, in this order."""
    for index in range(len(tokens) - 1):
        pair = tokens[index : index + 2]
        units = [token.quantity.unit if token.quantity else None for token in pair]
        if set(units) == {"", "month"}:
            month = pair[units.index("month")]
            day = pair[units.index("")]
            tokens[index] = month
            tokens[index + 1] = _Token(f"{day.text} day", day.raw, day.quantity)
    return tokens


def _stem(token: _Token) -> str:
    """A Korean word without its particle, if two letters stay; an English one without plural."""
    text = token.text
    if token.quantity is not None:
        return text
    if HANGUL_SYLLABLE.search(text):
        shorter = PARTICLES.sub("", text)
        return shorter if len(shorter) > 1 else text
    return re.sub(r"(?:['’]s|s)$", "", text) if len(text) > 3 else text


def _is_right(
    wanted: Sequence[_Token], given: Sequence[_Token], asked_tokens: Sequence[_Token]
) -> bool:
    """True if the answer contains the gold answer and all around it is form."""
    spans = _spans(wanted, given, asked_tokens)
    if not spans:
        return False
    inside = {index for start, end in spans for index in range(start, end)}
    return _is_form(given, inside, spans[0][0], wanted, asked_tokens)


def _is_form(
    given: Sequence[_Token],
    inside: set[int],
    first: int,
    wanted: Sequence[_Token],
    asked_tokens: Sequence[_Token],
    allowed: frozenset[str] = frozenset(),
) -> bool:
    """True if no token outside the gold answer adds anything."""
    units = {token.quantity.unit for token in wanted if token.quantity is not None}
    known = _Asked(asked_tokens)
    for index, token in enumerate(given):
        if index in inside or token.text in allowed:
            continue
        before = given[index - 1] if index else None
        after = given[index + 1] if index + 1 < len(given) else None
        if index - 1 in inside and token.attached and SUFFIXES.fullmatch(token.text):
            continue
        if NEGATIONS.search(token.text) or NEGATIONS.search(token.raw):
            touches = index - 1 in inside or index + 1 in inside
            if touches or index > first or not known.has_phrase(before, token, after):
                return False
            continue
        if token.quantity is not None:
            if token.quantity.unit in units or not known.has(token):
                return False
            continue
        if token.text in ALTERNATIVES:
            return False
        if _is_function_word(token):
            continue
        if not known.has(token):
            return False
        if index + 1 in inside and given[index + 1].after_comma:
            return False
    return True


def _is_function_word(token: _Token) -> bool:
    bare = PARTICLES.sub("", token.text)
    spellings = (token.text, _stem(token), bare, re.sub("(?<=.)이다$", "", token.text))
    return not FUNCTION_WORDS.isdisjoint(spellings)


class _Asked:
    """The words of a question."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._texts = {token.text for token in tokens}
        self._stems = {_stem(token) for token in tokens}
        self._raw = [token.raw for token in tokens]
        self._joined = "".join(token.text for token in tokens)

    def has(self, token: _Token) -> bool:
        """True if the question has this word, in this or another inflected form."""
        stem = _stem(token)
        if token.text in self._texts or stem in self._stems:
            return True
        if token.quantity is not None:
            return False
        if HANGUL_SYLLABLE.search(token.text):
            if len(token.text) > 2 and _INFLECTED.search(token.text):
                return any(stem[:2] == token.text[:2] for stem in self._stems if len(stem) > 1)
            return len(stem) > 1 and stem in self._joined
        return len(stem) > 3 and any(_same_english(stem, other) for other in self._stems)

    def has_phrase(self, before: _Token | None, token: _Token, after: _Token | None) -> bool:
        """True if the question has this very word, after or before the same one."""
        places = [index for index, raw in enumerate(self._raw) if raw == token.raw]
        return any(
            (before is not None and index > 0 and self._raw[index - 1] == before.raw)
            or (after is not None and self._raw[index + 1 : index + 2] == [after.raw])
            for index in places
        )


def _same_english(left: str, right: str) -> bool:
    """True for forms of one word: they are the same but for an ending of at most three letters."""
    shared = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        shared += 1
    return shared >= 4 and max(len(left), len(right)) - shared <= 3


def _spans(
    wanted: Sequence[_Token], given: Sequence[_Token], asked_tokens: Sequence[_Token]
) -> list[tuple[int, int]]:
    """(start, end) of every occurrence of the gold answer in the answer."""
    spans, start = [], 0
    while start < len(given):
        end = _end_of(wanted, given, start, asked_tokens)
        if end:
            spans.append((start, end))
        start = end or start + 1
    return spans


def _end_of(
    wanted: Sequence[_Token], given: Sequence[_Token], start: int, asked_tokens: Sequence[_Token]
) -> int:
    """End offset of the gold answer that begins at `start`; 0 if none begins there."""
    question = "".join(token.raw for token in asked_tokens)
    targets = _spellings(wanted)
    for end in range(start + 1, min(len(given), start + 2 * len(wanted) + 3) + 1):
        part = given[start:end]
        if _same_quantity(wanted, part, question):
            return end
        for spelled in _spellings(part):
            for target in targets:
                if spelled == target:
                    return end
                rest = spelled[len(target) :] if spelled.startswith(target) else ""
                if not rest or len(rest) >= len(part[-1].text) or part[-1].quantity is not None:
                    continue
                if part[-1].text.isascii():
                    continue
                if SUFFIXES.fullmatch(rest) or (rest in question and not NEGATIONS.search(rest)):
                    return end
    return 0


def _spellings(tokens: Sequence[_Token]) -> tuple[str, ...]:
    """The tokens written together: as they are, without particles, without a copula at the end."""
    words = [token.text for token in tokens]
    stems = [*(_stem(token) for token in tokens[:-1]), words[-1]]
    forms = ["".join(words), "".join(stems)]
    last = tokens[-1]
    if last.quantity is None and HANGUL_SYLLABLE.search(last.text):
        forms.append("".join([*stems[:-1], _stem(last)]))
        shorter = re.sub("(?:이다|하다|되다)$", "", last.text)
        if shorter != last.text and (shorter or len(tokens) > 1):
            forms.append("".join([*stems[:-1], shorter]))
    elif last.quantity is None:
        forms.append("".join(_stem(token) for token in tokens))
    return tuple(dict.fromkeys(form for form in forms if form))


def _same_quantity(wanted: Sequence[_Token], part: Sequence[_Token], question: str) -> bool:
    """True for one quantity whose unit one side leaves to the question."""
    if len(wanted) != 1 or len(part) != 1:
        return False
    one, other = wanted[0].quantity, part[0].quantity
    if one is None or other is None or one.value != other.value:
        return False
    if wanted[0].text.startswith("#-") != part[0].text.startswith("#-"):
        return False
    unit = (one if not other.unit else other).text.lstrip("0123456789., -")
    return "" in (one.unit, other.unit) and bool(unit) and unit in question


def _is_list(
    wanted: Sequence[_Token], given: Sequence[_Token], asked_tokens: Sequence[_Token]
) -> bool:
    """True if the answer contains a list of two or more items, in any order."""
    items, given_items = _items(wanted), _items(given)
    if len(items) < 2 or any(token.text in ("순서", "order", "sequence") for token in asked_tokens):
        return False
    flat = [token for item in given_items for token in item]
    inside: set[int] = set()
    first = len(flat)
    for item in items:
        spans = _spans(item, flat, asked_tokens)
        if not spans:
            return False
        inside |= {index for start, end in spans for index in range(start, end)}
        first = min(first, spans[0][0])
    return _is_form(flat, inside, first, wanted, asked_tokens, CONNECTORS)


def _items(tokens: Sequence[_Token]) -> list[list[_Token]]:
    """The items of a list that commas, `and`, 및, 와 or 과 separate."""
    items: list[list[_Token]] = [[]]
    for index, token in enumerate(tokens):
        if token.text in CONNECTORS:
            items.append([])
            continue
        if token.after_comma:
            items.append([])
        joined = re.fullmatch("(.{2,})[와과]", token.text)
        if joined and token.quantity is None and index + 1 < len(tokens):
            items[-1].append(_Token(joined[1], joined[1]))
            items.append([])
        else:
            items[-1].append(token)
    return [item for item in items if item]


def _polarity(tokens: Sequence[_Token]) -> bool | None:
    """True for `yes`, False for `no`, None for any other answer."""
    if len(tokens) != 1:
        return None
    return True if tokens[0].text in YES else False if tokens[0].text in NO else None


def _same_polarity(wanted: bool, given: Sequence[_Token], asked_tokens: Sequence[_Token]) -> bool:
    """True if an answer to a question without negation says yes, or no, and repeats it at most."""
    said: set[bool] = set()
    known = _Asked(asked_tokens)
    if any(NEGATIONS.search(token.raw) for token in asked_tokens):
        return len(given) == 1 and _polarity(given) is wanted
    denied = False
    for index, token in enumerate(given):
        polarity = _polarity((token,))
        if polarity is not None and index == 0:
            said.add(polarity)
        elif NEGATIONS.search(token.text) or NEGATIONS.search(token.raw) or polarity is False:
            denied = True
        elif not _is_function_word(token) and not known.has(token) and polarity is None:
            return False
    if denied or not said:
        said.add(not denied)
    elif said == {False} and len(given) > 1:
        repeated = [token for token in given[1:] if not _is_function_word(token)]
        if repeated:
            said.add(True)  # "no, it is allowed"
    return said == {wanted}
