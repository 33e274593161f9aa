"""Do two texts say different things about the same matter? Quantities, dates, negations, names.

Wording is no difference: "통산 3년" and "모두 합해 3년까지", "1년" and "12개월", "14일" and "2주"
agree, and a text that says more than the other does not contradict it. Nothing here knows what
words mean: two long answers without a number that differ in words alone are taken to agree.
"""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Literal, NamedTuple

from jangin.text.korean import PARTICLE_OR_COPULA, PLURAL_AND_PARTICLES
from jangin.text.language import ANSWER_FUNCTION_WORDS, QUESTION_FUNCTION_WORDS
from jangin.text.normalize import folded_words
from jangin.text.quantities import located

Difference = Literal["", "amount", "date", "negation", "words"]

_DAYS = {"day": 1.0, "week": 7.0, "months": 365 / 12, "year": 365.0}
"""Days of a unit of time."""
ALIKE_DAYS = 0.04
"""Two spans in other units agree up to this share: 30일 and 1개월, 6개월 and 180일."""
_CITED = ("article", "clause", "page")
"""Units of references, which other editions number otherwise."""
FIRST_YEAR, LAST_YEAR = 1900, 2200
"""Years of a calendar; other numbers of years are spans."""
_WORD_AFTER = re.compile(r"\s?([^\W\d_]+)")
_LIMIT = re.compile(
    r"(?:초과|넘|이상|밖에).{0,8}?(?:없|않|못)|"
    r"(?:not|never|no)\s+(?:to\s+)?(?:exceed|more|longer|later|fewer|less)\w*|"
    r"(?:하지|되지|지)\s?않으면"
)
"""Negated limits, which say as much as a plain "up to"."""
_NEGATION = re.compile(
    r"불가|금지|없[다습는어으을음이고]|없$|아니|안\s?(?:됩|되|된|돼)|않|못\s?[하합한할해]|제외|면제|불허|미적용|"
    r"\b(?:no|not|never|cannot|without|prohibited|forbidden|excluded|excludes|waived)\b|n['’]t\b"
)
_GENERIC_WORDS = """
기간 최대 최장 한도 경우 때 수 가능 가능한 총 전체 모두 되는 있 하 할 되 될 됩 까지 이내 정도
며칠 일수 금액 액수 비율 값 년 일 개월 달 원 시 시간 명 회 번 주 세 살 동안 안 내 것 나이 연령
대상 무엇 규정 기준 따르면 따라 정해져 정한 입니 인 받을 쓸 사용할 가능할
period maximum max longest limit allowed long last total amount according under must should be
get take up by with from day days month months year years week weeks hour hours percent have or
at most least within time times per
"""
_GENERIC = frozenset(_GENERIC_WORDS.split())
"""Words that two questions about one matter may differ in."""
_ASKING = re.compile(
    "^(?:몇|얼마나?|언제|어디|누구|누가|무엇|어떻게|어느|어떤|무슨|왜|며칠|what|which|who|whom|when|where|"
    "why|how|much|many|tell|me|for|to|i|we|you|can|could|would|is|are|do|does|if|my|our|your)$"
)
_ENDING = re.compile(
    "(?:인가요|인가|인지|입니까|이에요|예요|되나요|됩니까|되는지|되는가|하나요|합니까|하는지|있나요|있습니까|있는지"
    "|한가요|나요|는가|습니까|ㅂ니까|까요|어야|해야|여야|할|하는|되는|된|한|하|되|요)$"
)
_ONE_LETTER = re.compile("^(.)(?:까지|부터|마다|동안)$|^([년주달일월해])간$")
_ONLY = re.compile(r"\bonly\b|(?<=[가-힣])만(?=$|[\s.,])|에\s?한(?:한|하|해|정)")
_LIST_SIGNS = re.compile("[\u2460-\u24ff\u2776-\u2793]")
"""Circled numbers, which count paragraphs."""
CLAUSE_WORDS = 2
"""Least number of words of a quotation beside its amounts."""
SHORT_WORDS = 4
"""Number of content words up to which an answer is a name or a choice."""
ENOUGH_SHARED = 0.5
"""Share of the shorter answer's words from which on two answers say the same in other words."""


_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_SINO = "일이삼사오육칠팔구"
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_DAYS_OF_OLD = ("하루", "이틀", "사흘", "나흘", "닷새", "엿새")
_ORDINALS = (
    ("첫째", "첫 번째", "첫번째", "the first"),
    ("둘째", "두 번째", "두번째", "the second"),
    ("셋째", "세 번째", "세번째", "the third"),
    ("넷째", "네 번째", "네번째", "the fourth"),
    ("다섯째", "다섯 번째", "다섯번째", "the fifth"),
)
_FREQUENCIES = {
    "1년마다": "매년 매해 해마다 연마다", "2년마다": "격년", "1개월마다": "매월 매달 달마다 다달이",
    "2개월마다": "격월", "1주마다": "매주 주마다", "2주마다": "격주", "1일마다": "매일 날마다",
    "every 1 year": "annually yearly", "every 1 month": "monthly", "every 1 week": "weekly",
    "every 1 day": "daily", "1 times": "once", "2 times": "twice", "3 times": "thrice",
}  # fmt: skip
_SPELLED_AS = (
    {name: f"{count} nth" for count, names in enumerate(_ORDINALS, 1) for name in names}
    | {name: digits for digits, names in _FREQUENCIES.items() for name in names.split()}
    | {name: str(10 * count) for count, name in enumerate(_TENS, 2)}
    | {name: str(count) for count, name in enumerate(_TEENS, 13)}
    | {
        name: f"{count}일"
        for count, name in enumerate(["하루", "이틀", "사흘", "나흘", "닷새", "엿새"], 1)
    }
    | {"열흘": "10일", "보름": "15일", "일주일": "7일", "반년": "6개월", "hundred": "100"}
    | {f"every {unit}": f"every 1 {unit}" for unit in ("day", "week", "month", "year")}
    | {f"every other {unit}": f"every 2 {unit}s" for unit in ("day", "week", "month", "year")}
)
_SPELLED = re.compile(
    rf"\b(?:{'|'.join(_TENS)})[- ](?:{'|'.join(_ONES)})\b|"
    + "|".join(
        rf"\b{word}\b" if word.isascii() else rf"(?<![가-힣]){word}"
        for word in sorted(_SPELLED_AS, key=len, reverse=True)
    )
    + rf"|(?<![가-힣])[{_SINO[1:]}]?십[{_SINO}]?(?=\s?(?:일|년|개월|주|회|명|세|분|시간|퍼센트|만))"
)
"""Numbers, ordinals, spans and frequencies in words, as far as `located` does not read them."""


class Amount(NamedTuple):
    """A quantity with what it counts."""

    value: Decimal
    unit: str
    """A known unit, else the word that follows; empty where none does."""
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a text says, as far as it is compared."""

    amounts: tuple[Amount, ...]
    negated: bool
    limited: bool
    """Whether it says "only"."""
    words: frozenset[str]
    """Stems of its words, without numbers and function words."""


def said(text: str) -> Said:
    """What a text says."""
    folded = _folded(text)
    stems = frozenset(stem for stem in _stems(text) if stem not in ANSWER_FUNCTION_WORDS)
    limited = _ONLY.search(folded) is not None
    return Said(tuple(_amounts(folded)), is_negated(folded), limited, stems)


def difference(one: Said, two: Said, *, same_question: bool = False) -> Difference:
    """In what two answers to one question contradict each other; empty where they do not.

    `same_question` says that the question has the same words: then short answers in other words,
    and answers with amounts of another kind, differ too.
    """
    amounts = _other_amounts(one.amounts, two.amounts)
    if amounts:
        return amounts
    shared = _shared(one.words, two.words)
    if one.negated != two.negated and (shared >= ENOUGH_SHARED or _is_short(one, two)):
        return "negation"
    if same_question and one.limited != two.limited and one.words != two.words:
        narrow, wide = sorted((one, two), key=lambda each: not each.limited)
        if shared >= ENOUGH_SHARED and len(wide.words) >= len(narrow.words):
            return "words"
    if shared >= ENOUGH_SHARED:
        return ""
    if same_question and one.amounts and two.amounts:
        return "" if _agreeing(one.amounts, two.amounts) else "amount"
    short = _is_short(one, two) and not (one.amounts or two.amounts)
    return "words" if short and not shared and one.words and two.words else ""


def is_negated(text: str) -> bool:
    """True if a text in lower case denies or forbids; a negated limit ("not exceed") does not."""
    return _NEGATION.search(_LIMIT.sub(" ", text)) is not None


def question_key(question: str) -> str:
    """Equal for questions about the same matter in about the same words; empty without any.

    The letters of the content words in a fixed order, so that neither the order of words, nor
    spaces, particles, endings or a word such as "최대" make a difference. Numbers and codes count,
    in digits or in words: 두 번, 2번 and 2회 are the same.
    """
    stems = [
        stem for stem in _stems(_in_digits(question), numbers=True) if not _ASKING.search(stem)
    ]
    core = [stem for stem in stems if stem not in _GENERIC and stem not in QUESTION_FUNCTION_WORDS]
    if len("".join(core)) < 2:
        return ""
    return "".join(sorted("".join(core)))


def _in_digits(text: str) -> str:
    """A text in which each amount is one word of its value and unit."""
    folded = _folded(text)
    pieces: list[str] = []
    end = 0
    for start, stop, quantity in located(folded):
        if start >= end:
            pieces += [folded[end:start], f" {quantity.value.normalize():f}{quantity.unit} "]
            end = stop
    return "".join((*pieces, folded[end:]))


def masked(text: str) -> tuple[str, tuple[Amount, ...]]:
    """A passage's words with `#` for each amount, and the amounts in order.

    Passages of two editions that differ in amounts alone have the same words; negations are among
    the words. References to articles and pages are `#` too and no amounts.
    """
    folded = _folded(text)
    pieces: list[str] = []
    end = 0
    for start, stop, _quantity in located(folded):
        if start >= end:
            pieces += [folded[end:start], " # "]
            end = stop
    pieces.append(folded[end:])
    words = [_stem(word) if word != "#" else word for word in _split("".join(pieces))]
    return " ".join(words), tuple(_amounts(folded))


def is_clause(words: str) -> bool:
    """True if a masked text has enough words to say what its amounts are about."""
    return len({word for word in words.split() if word != "#"}) >= CLAUSE_WORDS


def aligned(one: tuple[Amount, ...], two: tuple[Amount, ...]) -> Iterator[tuple[Amount, Amount]]:
    """The amounts at the same place of two passages with the same masked words that differ."""
    if len(one) == len(two):
        yield from ((a, b) for a, b in zip(one, two, strict=True) if not agrees(a, b))


def agrees(one: Amount, two: Amount) -> bool:
    """True if both may mean the same amount: 1년 and 12개월 do, 3년 and 3일 do not."""
    days = _DAYS.get(one.unit), _DAYS.get(two.unit)
    if days[0] and days[1] and one.unit != two.unit:
        first, second = float(one.value) * days[0], float(two.value) * days[1]
        return abs(first - second) <= ALIKE_DAYS * max(first, second)
    if one.value != two.value:
        return False
    return one.unit == two.unit or not one.unit or not two.unit or _kind(one) == _kind(two)


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", _LIST_SIGNS.sub(" ", text)).lower()
    return _SPELLED.sub(lambda match: _digits(match[0]), folded)


def _digits(spelled: str) -> str:
    """A spelled number, ordinal, span or frequency with digits."""
    word = " ".join(spelled.replace("-", " ").split())
    if word in _SPELLED_AS:
        return _SPELLED_AS[word]
    if " " in word:
        tens, ones = word.split()
        return str(int(_SPELLED_AS[tens]) + _ONES.index(ones) + 1)
    tens, _, ones = word.partition("십")
    return str(10 * (_SINO.index(tens) + 1 if tens else 1) + (_SINO.index(ones) + 1 if ones else 0))


def _split(folded: str) -> list[str]:
    return [word for word in re.split(r"[^\w#%‰°$€£¥₩]+", folded) if word]


def _amounts(folded: str) -> Iterator[Amount]:
    """Amounts of a folded text, in order, without references."""
    for _start, end, quantity in located(folded):
        if quantity.unit in _CITED:
            continue
        unit = quantity.unit
        if not unit:
            after = _WORD_AFTER.match(folded, end)
            unit = PARTICLE_OR_COPULA.sub("", after[1]) if after else ""
        yield Amount(quantity.value, unit, quantity.text)


def _kind(amount: Amount) -> str:
    """What an amount measures: spans of time are one kind, a year of the calendar is another."""
    if amount.unit == "year" and FIRST_YEAR <= amount.value <= LAST_YEAR:
        return "calendar"
    if amount.unit in ("month",):
        return "month"
    return "span" if amount.unit in _DAYS else amount.unit


def _other_amounts(one: tuple[Amount, ...], two: tuple[Amount, ...]) -> Difference:
    """Whether each text has an amount of a kind that the other has only with another value."""
    kinds = {_kind(a) for a in one} & {_kind(b) for b in two}
    if len(kinds) > 1:
        kinds -= {"calendar"}  # the year of an edition, beside what it says
    for kind in sorted(kinds):
        mine = [a for a in one if _kind(a) == kind]
        theirs = [b for b in two if _kind(b) == kind]
        first = any(not any(agrees(a, b) for b in two) for a in mine)
        second = any(not any(agrees(a, b) for a in one) for b in theirs)
        if first and second:
            is_date = kind in ("calendar", "month", "clock") or "month" in kinds
            return "date" if is_date else "amount"
    return ""


def _agreeing(one: tuple[Amount, ...], two: tuple[Amount, ...]) -> bool:
    return any(agrees(a, b) for a in one for b in two)


def _shared(one: frozenset[str], two: frozenset[str]) -> float:
    """Share of the words of the shorter text that the other has, in any form."""
    shorter, longer = sorted((one, two), key=len)
    if not shorter:
        return 1.0
    known = "\n".join(longer)
    common = [s for s in shorter if s in known or (len(s) > 2 and s[:2] in known)]
    return len(common) / len(shorter)


def _is_short(one: Said, two: Said) -> bool:
    return max(len(one.words), len(two.words)) <= SHORT_WORDS


def _stems(text: str, *, numbers: bool = False) -> Iterator[str]:
    for word in folded_words(text):
        if any(character.isdigit() for character in word):
            if numbers:
                yield PARTICLE_OR_COPULA.sub("", word)
            continue
        if stem := _stem(word):
            yield stem


def _stem(word: str) -> str:
    """A word without particles and the endings of questions and of English plurals."""
    if word.isascii():
        return re.sub(r"(?<=...)(?:s|es)$", "", word)
    without = _ONE_LETTER.sub(r"\1\2", PLURAL_AND_PARTICLES.sub("", word))
    return _ENDING.sub("", without) if len(without) > 1 else without


RARE_FEATURES = 6
"""Rarest words and pairs of words of a passage by which those that resemble it are looked up."""
FEW_HAVE = 64
"""Passages up to which all that have a word or pair are compared; of more, neighbours only."""
NEIGHBOURS = 8
ALIKE = 0.8
"""Least normalised Indel similarity of the words of two passages that are alike."""
LONG_PASSAGE = 30
"""Number of words from which on two passages may differ in some words of their own, too."""
OWN_WORDS = 0.15
"""Largest share of such words on either side."""


def alike_passages(texts: Sequence[str], owners: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of passages with different owners that are alike up to their amounts.

    `texts` are `masked`. Short passages in which a word is replaced by another one are about other
    things (opening hours of a library, of a gym) and not alike.
    """
    words = [text.split() for text in texts]
    return [
        (one, two) for one, two in resembling(words, owners) if are_alike(texts[one], texts[two])
    ]


def resembling(words: Sequence[Sequence[str]], owners: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of passages with different owners that may be alike, in order.

    Work is about proportional to the number of passages: each is compared with those that share
    two of its rarest words and pairs of neighbouring words.
    """
    import numpy as np

    count, codes = len(words), array("q")
    for having in _postings(words):
        for position, one in enumerate(having):
            last = len(having) if len(having) <= FEW_HAVE else position + 1 + NEIGHBOURS
            codes.extend(
                one * count + two
                for two in having[position + 1 : last]
                if owners[one] != owners[two]
            )
    pairs, times = np.unique(np.array(codes, np.int64), return_counts=True)
    sizes = np.array([len(own) for own in words], np.int64)
    first, second = pairs // max(count, 1), pairs % max(count, 1)
    enough = (times > 1) | (np.minimum(sizes[first], sizes[second]) < RARE_FEATURES)
    return list(zip(first[enough].tolist(), second[enough].tolist(), strict=True))


def _postings(words: Sequence[Sequence[str]]) -> "Iterator[list[int]]":
    """For each feature that is one of the rarest of several passages, these passages in order."""
    import numpy as np

    known: dict[str, int] = {}
    flat = np.array([known.setdefault(w, len(known) + 1) for own in words for w in own], np.int64)
    owner = np.repeat(np.arange(len(words)), [len(own) for own in words])
    inside = owner[1:] == owner[:-1]
    neighbours = (flat[:-1] * (len(known) + 1) + flat[1:])[inside]
    features = np.concatenate([flat, neighbours])
    passages = np.concatenate([owner, owner[1:][inside]])
    names, features = np.unique(features, return_inverse=True)
    features, passages = np.divmod(np.unique(features * len(words) + passages), max(len(words), 1))
    counts = np.bincount(features, minlength=len(names))
    order = np.lexsort((features, counts[features], passages))
    order = order[counts[features[order]] > 1]
    features, passages = features[order], passages[order]
    first = np.searchsorted(passages, passages, side="left")
    rarest = np.arange(len(passages)) - first < RARE_FEATURES
    features, passages = features[rarest], passages[rarest]
    order = np.lexsort((passages, features))
    features, passages = features[order], passages[order]
    edges = np.searchsorted(features, np.arange(len(names) + 1)).tolist()
    for begin, end in pairwise(edges):
        if end - begin > 1:
            yield passages[begin:end].tolist()


def are_alike(first_text: str, second_text: str) -> bool:
    """True if two `masked` passages are alike up to their amounts."""
    return _are_alike(first_text.split(), second_text.split())


def _are_alike(one: list[str], two: list[str]) -> bool:
    if one == two:
        return True
    from rapidfuzz.distance import Indel

    if Indel.normalized_similarity(one, two, score_cutoff=ALIKE) < ALIKE:
        return False
    first, second = Counter(one), Counter(two)
    own = [sum((first - second).values()), sum((second - first).values())]
    if min(len(one), len(two)) >= LONG_PASSAGE:
        return max(own) <= OWN_WORDS * max(len(one), len(two))
    mine = {w for w in first - second if w not in _GENERIC and w != "#"}
    theirs = {w for w in second - first if w not in _GENERIC and w != "#"}
    return not (mine and theirs) or all(map(_is_grammar, mine | theirs))


_ALLOWS = re.compile("^(?:있|가능|한다|하지|된다|되지|can$|may$|must$)")


def _is_grammar(word: str) -> bool:
    """True for a word that allows, denies or limits."""
    return bool(
        _NEGATION.search(word)
        or _ALLOWS.search(word)
        or word in ("초과", "이상", "미만", "이하", "넘")
    )
