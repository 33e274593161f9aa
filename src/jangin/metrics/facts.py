"""Facts: whether an answer states what the reference answer states, in any form.

`무료 마음 상담은 1년에 8회까지 받을 수 있습니다.` is right for `연 8회` where the passage says so;
`8회 이상` is not, nor `10회`, nor both, nor a rule beside it that the passage does not have. An
answer is right if it holds the amounts, names and choices of the reference answer, and the
question, the reference answer or the evidence says all else that it states.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from jangin.core.errors import MachineError
from jangin.metrics.answer_forms import (
    CLAIM_WORDS,
    CONDITIONS,
    COURTESIES,
    DENIALS,
    FORM_WORDS,
    FUNCTION_WORDS,
    GRAMMAR_WORDS,
    HEDGES,
    LEAD_INS,
    NO,
    OUTDATED,
    REFUSALS,
    SAME_MEANING,
    YES,
    plain,
)
from jangin.metrics.measures import (
    PERIODS,
    Measure,
    folded,
    is_named,
    rate_of,
    read_measures,
    time_units,
    without,
)
from jangin.text.korean import nouns
from jangin.text.language import HANGUL_SYLLABLE

VERSION = 7
"""Raised with every change of what is right; stored grades of another version are computed again
from the stored answers, without asking any model."""

FactReason = Literal[
    "stated",  # all facts of the reference answer, and nothing that speaks against them
    "empty",  # no answer
    "refused",  # the answer says that it does not know
    "missing",  # a quantity, name or choice of the reference answer is not there
    "contradicted",  # another value of the same kind stands beside or instead of it
    "negated",  # the answer denies what the reference answer states, or the reverse
    "limited",  # a limit or condition that the reference answer does not have, or the reverse
    "unsupported",  # something else that neither evidence, question nor reference answer holds
    "read",  # rules could not judge it, a person has
]


@dataclass(frozen=True, slots=True)
class FactGrade:
    """One answer, graded by its facts."""

    right: bool
    reason: FactReason
    detail: str = ""
    """The words of the answer, or of the reference answer where they are missing, that decide."""
    unclear: bool = False
    """True for an answer in other words than reference answer and evidence, without a fault that
    is sure: it counts as wrong until a person or a judge has read it."""


def grade_facts(
    answer: str, gold: str, question: str = "", evidence: Sequence[str] = ()
) -> FactGrade:
    """Grade an answer by the facts of the reference answer `gold`.

    `evidence` are the texts that an answer may take further facts from: the quoted evidence and
    the section around it. Without them nothing but the question and `gold` supports an extra.
    """
    if not answer.strip():
        return FactGrade(not gold.strip(), "empty" if gold.strip() else "stated")
    return _Grading(answer, gold, question, tuple(evidence)).grade()


_WORD = re.compile(
    r"[a-z]+(?:[-_./]?[a-z0-9]+)*(?<=[a-z0-9])(?:'[a-z]+)?|[가-힣]+|[^\W\d_a-z가-힣]+"
)
_CLAUSE = re.compile(
    r"(?<=[.!?;:])\s+|\n+|,(?!\d)\s*|(?<=[가-힣][며고])\s+|(?<=지만)\s+|(?<=으나)\s+"
    r"|(?<=없으나)\s+"
    r"|(?<=는데)\s+|\s+(?=(?:but|and|while|whereas|however|그리고|하지만|그러나|다만)\s)"
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[가-힣]다)(?<!보다)(?<!마다)\s+(?=\S)|\n+")
_ENDINGS = re.compile(
    r"(?:습니다|ㅂ니다|입니다|이에요|예요|이다|이며|이고|이라고|라고|이라|이나|인데|니다|었다"
    r"|았다|였다|는다|어요|아요|해요|"
    r"어야|아야|여야|해야|야|으려면|려면|으면|하면|되면|면|으며|며|면서|하고|되고|고|거나|지만"
    r"|으나|도록|하여|되어|해서|돼서|어서|아서|"
    r"어|아|게|기|은|는|을|를|던|음|다|까지|요|지)$"
)
_VERBAL = re.compile(
    r"(?<=..)(?:하|해|한|할|함|합|했|되|돼|된|될|됨|됩|됐|시키|시켜|시킨|시킬|받|받은|받을"
    r"|드리|드립|드린|당하|당한)(?:[가-힣]{0,4})$"
)
_HONORIFIC = re.compile(
    "(?:으?[시셔](?:야|면|고|지|며|거나|는|어야|어)(?:만|는|도)?|으?십니다|으?세요|으?셨습니다)$"
)
_PARTICLE = re.compile(
    r"(?:에서는|에서도|에서의|에서|에게서|에게는|에게|에는|에도|에만|께서는|께서|께|한테"
    r"|으로서|으로써|으로는|으로도|으로만|으로|로서|로써|"
    r"로는|로도|로만|로|까지는|까지만|까지도|까지의|까지|부터는|부터|마다|보다|처럼|만큼|이나"
    r"|이라도|라도|이든|이란|란|밖에|조차|마저|대로|"
    r"은|는|이|가|을|를|의|에|도|만|와|과|나|랑|들|님|씨|인|이며|이고|입니다|이다|이에요|예요"
    r"|째|간|당|시)$"
)


_ATTACHED = re.compile(
    r"(?:씩|간|째|당|정도|가량|쯤|전|후|이내|이하|이상|미만|초과|까지|부터|마다|동안|짜리|내|안)*"
    r"(?:이?라고|이?라|하고|입니다|이에요|예요|이다|다|이며|이고|며|고|이나|이지만|인데|인|일|임"
    r"|이|가|은|는|을|를|의|에|에서|에는|에도|로|으로|으로는"
    r"|로는|만|도|와|과|나|나마|이었습니다|이어야|여야|이면|이하의|이라면)*"
)
"""What may be written together with an amount."""
_COPULA = re.compile(
    "(?:하고|이라고|라고|입니다|이에요|예요|이다|이며|이고|이나|이지만|인데|인|이었습니다|으로|로"
    "|에서|에게|까지|부터|마다|이라는|라는|이라)(?:는|도)?"
)


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    stems: tuple[str, ...]
    """What is left without particles and endings, the shortest last."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A text, a sentence or a clause."""

    text: str
    measures: tuple[Measure, ...]
    words: tuple[_Word, ...]
    letters: str
    """Letters and digits, written together."""
    rates: frozenset[str]
    rest: str
    """The text without its measures and what limits them; of the same length."""
    spans: frozenset[str]

    @property
    def denied(self) -> bool:
        """True if something is denied."""
        return DENIALS.search(self.rest) is not None

    def has(self, word: _Word) -> bool:
        """True if the text has this word, in this or another form."""
        return any(_is_in(stem, self) for stem in word.stems)


def _is_in(stem: str, part: _Part) -> bool:
    if stem in part.spans:
        return True
    if stem[0].isascii():
        return len(stem) > 2 and any(_same_english(stem, other) for other in part.spans)
    return len(stem) > 1 and stem in part.letters


def _same_english(left: str, right: str) -> bool:
    """True for forms of one word: they are the same but for endings."""
    if any(c.isdigit() for c in left + right):
        return left == right
    shared = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        shared += 1
    if shared == 3 and len(left) != len(right):
        longer = max(left, right, key=len)[shared:]
        return min(len(left), len(right)) == 3 and longer in _DOUBLED
    return shared >= 4 and {left[shared:], right[shared:]} <= _INFLECTIONS


_ENDINGS_ENGLISH = """
able al ance ation d e ed ence er es ful ied ies ing ion ions isation ise ity ive
ization ize led ling ly ment ned ning ped ping s t ted ting y
"""
_DOUBLED = frozenset(
    ("ped", "ping", "ned", "ning", "ted", "ting", "led", "ling", "ged", "ging", "bed", "bing")
)
_INFLECTIONS = frozenset(("", *_ENDINGS_ENGLISH.split()))


def _stems(word: str) -> tuple[str, ...]:
    if not "가" <= word[0] <= "힣":
        bare = re.sub(r"'(?:s|re|ll|ve|d|m)?$", "", word)
        single = (
            re.sub(r"(?<=[a-z]{3})(?:ies|es|s)$", "", bare) if not bare.endswith("ss") else bare
        )
        code = re.sub(r"[-_./]", "", bare) if any(c.isdigit() for c in bare) else bare
        plural = bare.removesuffix("s") if len(bare) > 3 and not bare.endswith("ss") else bare
        return tuple(dict.fromkeys((word, bare, plural, single, code))) if bare else (word,)
    stems = [word]
    stripped = word
    for _ in range(2):
        shorter = _PARTICLE.sub("", stripped)
        if not shorter or shorter == stripped:
            break
        stripped = shorter
        stems.append(stripped)
    polite = _HONORIFIC.sub("", word)
    for base in dict.fromkeys((word, polite or word, stripped, plain(word).removesuffix("다"))):
        stems += [base, _VERBAL.sub("", base)]
        ending = _ENDINGS.sub("", base)
        if ending and ending != base:
            stems.append(ending)
            verbal = _VERBAL.sub("", ending)
            stems.append(verbal)
    return tuple(sorted(dict.fromkeys(s for s in stems if s), key=len, reverse=True))


@lru_cache(maxsize=8192)
def _part(text: str) -> _Part:
    """Read a text that `folded` has prepared."""
    read, per, counted = read_measures(text)
    masked = text
    for measure in read:
        masked = (
            masked[: measure.start] + " " * (measure.end - measure.start) + masked[measure.end :]
        )
    ends = {measure.end for measure in read}
    words = tuple(
        _Word(m[0], _stems(m[0]), m.start(), m.end())
        for m in _WORD.finditer(masked)
        if not (m.start() in ends | {end for _, end in counted} and _ATTACHED.fullmatch(m[0]))
        and not any(measure.low <= m.start() < measure.high for measure in read)
        and not any(low <= m.start() < high for low, high in counted)
    )
    letters = "".join(c for c in text if c.isalnum())
    spans = frozenset(stem for word in words for stem in word.stems)
    return _Part(text, tuple(read), words, letters, per, without(text, read), spans)


@lru_cache(maxsize=4096)
def _clauses(text: str) -> tuple[_Part, ...]:
    return tuple(_part(piece) for piece in _CLAUSE.split(text) if piece and piece.strip(" .,!?"))


@lru_cache(maxsize=2048)
def _sentences(text: str) -> tuple[_Part, ...]:
    return tuple(_part(piece) for piece in _SENTENCE.split(text) if piece and piece.strip(" .,!?"))


_LIMIT_WORDS = ("미만", "초과", "이상", "이하", "이전", "아래")


_PARTICLES = frozenset("은는이가을를의에도만와과로야요")


def _claims(word: _Word) -> bool:
    """True for a word that says something beside the fact, though it says nothing of it."""
    return not CLAIM_WORDS.isdisjoint(word.stems)


def _is_form(word: _Word) -> bool:
    """True for a word that adds nothing to an answer."""
    if word.text.startswith(_LIMIT_WORDS):
        return False
    if not FORM_WORDS.isdisjoint(word.stems) or _COPULA.fullmatch(word.text):
        return True
    shortest = word.stems[-1]
    if "가" <= shortest[0] <= "힣":
        noun = _PARTICLE.sub("", word.text)
        if len(word.text) == 1:
            return word.text in _PARTICLES
        return len(shortest) == 1 and (noun == word.text or len(noun) == 1)
    return len(word.text) == 1 and word.text.isascii()


_ASKS_AMOUNT = re.compile(
    r"몇|얼마|언제|며칠|비율|기간은|한도는|금액은|가격은|요금은|비용은|시각은|날짜는|횟수는"
    r"|\bhow (?:many|much|long|often|old|far|high|large|big|late|early|soon|frequently|heavy"
    r"|tall|fast)\b|\bwhen\b"
    r"|\bwhat (?:time|percentage|share|price|amount|date|number|age|is the (?:\w+ )?(?:fee|fine"
    r"|price|cost|limit|"
    r"deadline|deposit|maximum|minimum|rate|length|duration|temperature|period))\b|\buntil "
    r"when\b|\bby when\b"
)
_ASKS_RECIPIENT = re.compile(r"누구(?:에게|한테|께)|어디(?:에|로)")
_SUBJECT = re.compile("[가-힣](?:이|가|께서)$")
_RECIPIENT = re.compile("[가-힣](?:에게|한테|께)$")
_FIRST = re.compile(r"먼저|우선|\bfirst\b")
_ASKS_NAME = re.compile(r"누구|누가|무엇|어느|어떤|어디|\b(?:who|whom|which|what|where)\b")
_ASKS_NUMBER = re.compile(r"몇|며칠|\bhow (?:many|old)\b|\bnumber\b")
_ASKS_LATEST = re.compile(r"언제까지|몇 시까지|\b(?:by|until) (?:when|what)\b|\blatest\b")
_EARLIEST = re.compile(r"\b(?:no|not) (?:earlier|sooner) than\b|\bat the earliest\b|부터 가능")
_LEAST = re.compile(r"최소|최저|최단|하한|\b(?:minimum|least|lowest|smallest|shortest)\b")
_MOST = re.compile(r"최대|최고|최장|상한|\b(?:maximum|most|highest|largest|longest)\b")
_ASKS_LEAST = re.compile(
    r"(?:몇|언제|어느|얼마)[가-힣 ]{0,8}부터|최소|적어도|(?:몇|얼마)[^?]{0,6}이상"
    r"|\b(?:at least|from (?:what|which)|minimum)\b"
)
_ASKS_RATE = re.compile(
    r"얼마나 자주|주기|몇 (?:년|개월|달|주|일|번|회)?\\s?마다|\bhow (?:often|frequently)\b"
)
_ALLOWS = re.compile(
    r"까지|이내|안에|최대|한도|최장|상한|수 있|유효|할 수|되나요|언제까지|제한|넘"
    r"|\b(?:by when|until when|how quickly|latest|may|can|could|allowed|permitted|up to|maximum"
    r"|at most|within|limit|until|deadline"
    r"|no later|the most|entitled|valid)\b"
)
_DEMANDS = re.compile(
    r"이상|최소|어야|아야|여야|해야|야|적어도|필요|하한|려면|부터"
    r"|\b(?:how soon|earliest|must|need|needs|needed|required|require|minimum|at least"
    r"|have to|has to|from what|should"
    r"|the least)\b"
)
_MARKERS = {
    "max": _ALLOWS,
    "until": _ALLOWS,
    "under": re.compile(r"미만|까지|어디까지|under|less than|below|within"),
    "min": _DEMANDS,
    "over": re.compile(r"초과|넘|이상|more than|over|above|exceed"),
    "from": re.compile(r"부터|시작|여나|여는|시행|출발|언제|from|start|begin|open|when|since"),
    "before": re.compile(r"전|before|prior|advance|ahead|early"),
    "after": re.compile(r"후|뒤|이후|지나|after|later|following|since"),
    "about": re.compile(r"약|정도|쯤|about|approximately|around"),
}
_SAME_LIMIT = {"until": "max", "from": "min"}
_OR = re.compile(
    r"(?<![가-힣])(?:또는|혹은|아니면)(?![가-힣])|(?<=[가-힣])이?거나(?![가-힣])|\bor\b|\beither\b"
)
_CHOICE = re.compile(
    r"(?P<a>[^\s,]+?)(?:인가요|입니까|인지|일까요|이에요|예요)?,?\s(?:아니면\s|또는\s"
    r"|혹은\s)(?P<b>[^\s,?]+)"
    r"|(?P<c>[^\s,]+?)(?:인가요|입니까|인지|일까요),\s?(?P<d>[^\s,?]+?)(?:인가요|입니까|인지"
    r"|일까요)"
    r"|(?P<e>[^\s,]+?)(?:와|과|이나|나|하고)\s(?P<f>[^\s,]+)\s중"
    r"|(?P<g>[\w-]+)\sor\s(?:the\s|in\s|on\s|a\s)?(?P<h>[\w-]+)"
)
_LIST = re.compile(
    r",|·|/|\band\b|(?<=[가-힣])(?:와|(?<![초결효통경학치성])과) |(?<![가-힣])(?:및|그리고) "
)
_CONNECTING = frozenset(("and", "및", "그리고", "등", "or", "또는"))
_EARLIER = re.compile(
    r"전날|(?<=[가-힣\d\s])전(?=에|까지|부터|의|이|으로|은|[ ,.]|$)|\b(?:before|prior|in advance"
    r"|ahead|beforehand)\b"
)
_LATER = re.compile(
    r"(?<=[가-힣\d\s])(?<!그 )(?<!이 )(?<!이)(?:후|뒤)(?=에|까지|부터|의|이|로|는|[ ,.]|$)|지나"
    r"|\b(?:after(?! that| this| which)"
    r"|later)\b"
)
_SUBORDINATE = re.compile(r"\b(?:because|since|as|so|which|who|that|if|when|while|but|where)\b")
_JOINED = re.compile(
    r"(?P<left>[^,.;]{1,40}?)(?:\s?(?:,|·|/)\s?(?:and\s|및\s)?|\s(?:and|및|그리고|as well "
    r"as)\s(?:the\s)?|(?<=[가-힣])(?:와|(?<![초결효통경학치성])과)\s(?!똑?같은|동일|다른|달리|비슷|함께|관련|별도))"
    r"(?P<right>[^,.;]{1,30})(?!\w)"
)
_IF = re.compile(
    r"(?:[가-힣]+\s)?[가-힣]+(?<!하)(?:이면|되면|하면|으면|라면|거든|경우)(?:에|에는|는)?(?=[\s,])"
    r"|\b(?:if|unless|in case|provided)\b[^,.;]{1,60}"
)
"""What a statement depends on: the words of a condition."""
_FOR = re.compile(r"\s?(?:동안|간(?![가-힣])|in total|altogether)")
_TIMES_OF_YEAR = frozenset(("year", "term", "quarter", "month", "week", "day", "hour"))
_RELATIVE = (
    re.compile(r"다음|익월|익년|익일|이듬|이튿|\b(?:next|following)\b"),
    re.compile(r"지난|전월|전년|\b(?:previous|preceding|last)\b"),
)
"""Periods that are counted from another one: they are part of the fact."""
_DISCOUNT = re.compile(
    r"할인|감면|깎|빼|절반만|\b(?:off|discount\w*|reduc\w*|rebate|less|save\w*)\b"
)
_PAYING = re.compile(r"지불|부담|낸다|냅니다|내야|납부|\b(?:pays?|paid|costs?)\b")
_WITHOUT = re.compile(r"\bwithout\s(?:an?\s|the\s|any\s)?(\w+)")
_INCLUDED = re.compile(r"포함(?!하지|되지)|합산(?!하지|되지)|\b(?:includ(?:ed|ing|es)|inclusive)\b")
_LEFT_OUT = re.compile(
    r"제외|빼고|(?:넣지|포함하지|포함되지|산입하지|합산하지)\s?(?:않|아니)"
    r"|\b(?:exclud\w+|not includ\w+|except)\b"
)
_ELSEWHERE = re.compile(
    r"그 밖|그 외|그외|다른|나머지|이외"
    r"|\b(?:others?|else\w*|otherwise|rest|remaining|normally|usually)\b"
)
"""A value that is said to be that of another case."""
_LIMITED_NAME = re.compile(
    r"적어도|최소한"
    r"|\b(?:at (?:the )?(?:least|most)|(?:more|less|fewer|lower|higher) than(?! \w+ed))\b"
)
"""A limit that no amount follows: at least Busan."""
_UNLIMITED = re.compile(
    r"무제한|무한|제한\s?없이|제한이\s?없|얼마든지|언제든|몇 번이(?:든|고)"
    r"|\b(?:unlimited|indefinite\w*|any number of|as (?:many|much|often|long)(?: \w+)? as "
    r"(?:you|they|he|she|one) "
    r"(?:want|like|need|wish)\w*|no limit)\b"
)
_OTHERWISE = re.compile(r"그렇지 않으면|아니면|그 밖|그 외|\b(?:otherwise|if not|else)\b")
_EXCEPTION = re.compile(r"\b(?:except|unless|apart from|other than|but)\b|단,?\s|다만|제외하고")
_ORDER = re.compile(r"순서|차례대로|order|sequence")


_BROKEN = re.compile(r"\ufffd|(?P<piece>[^\W\d_]{2,12}?)(?P=piece){2,}")
"""Bytes that are no letter, or a piece over and over: what a model writes that has learned little,
and no other words for anything."""


class _WrongError(Exception):
    """Its arguments are the reason and the words that decide."""


class _UnclearError(_WrongError):
    """The answer says it in other words; only a reader can tell whether it is right."""


class _Grading:
    """One answer beside its reference answer, its question and its evidence."""

    def __init__(self, answer: str, gold: str, question: str, evidence: Sequence[str]) -> None:
        self._text = folded(answer)
        self._answer = _part(_core(self._text))
        self._gold = _part(_core(folded(gold)))
        self._question = _part(folded(question))
        self._proper = _proper_names(gold)
        sources = [_sentences(folded(text)) for text in evidence if text]
        self._sentences = [sentence for source in sources for sentence in source]
        self._near = self._facts_in(self._sentences)
        asks = {rate_of(m) for m in self._question.measures}
        asks |= {m[1] for m in _OFTEN.finditer(self._question.text)}
        self._asked_rates = (self._question.rates | asks) - {""}
        self._rates = {name for part in self._known() for name in part.rates}

    def grade(self) -> FactGrade:
        """Grade. A fault that is sure decides before one that only a reader can judge."""
        self._matched: dict[int, Measure] = {}
        first: _UnclearError | None = None
        for check in (
            self._commitment,
            self._yes_or_no,
            self._amounts,
            self._superlative,
            self._asked_latest,
            self._anchor,
            self._names,
            self._roles,
            self._priority,
            self._choice,
            self._beside,
            self._order,
            self._denials,
            self._others,
            self._words,
            self._conditions,
            self._included,
        ):
            try:
                check()
            except _UnclearError as unclear:
                first = first or unclear
            except _WrongError as wrong:
                reason, detail = wrong.args
                return FactGrade(False, reason, detail.strip())
        if first is not None:
            reason, detail = first.args
            in_words = self._answer.letters and _BROKEN.search(self._text) is None
            return FactGrade(False, reason, detail.strip(), unclear=bool(in_words))
        return FactGrade(True, "stated")

    def _known(self) -> Iterable[_Part]:
        return (self._gold, self._question, *self._sentences)

    def _facts_in(self, sentences: Sequence[_Part]) -> list[_Part]:
        """The sentences of the evidence that hold most of the reference answer."""

        def share(part: _Part) -> float:
            amounts = sum(any(m.agrees(o) for o in part.measures) for m in self._gold.measures)
            words = [w for w in self._gold.words if not _is_form(w)]
            others = [w for w in self._question.words if not _is_form(w)]
            return (
                10 * amounts / max(1, len(self._gold.measures))
                + 10 * sum(map(part.has, words)) / max(1, len(words))
                + sum(map(part.has, others)) / max(1, len(others))
            )

        scores = [share(sentence) for sentence in sentences]
        best = max(scores, default=0.0)
        return [
            s
            for s, score in zip(sentences, scores, strict=True)
            if score >= best - 1.5 and best >= 5
        ]

    # -- does the answer commit itself

    def _commitment(self) -> None:
        text = self._answer.rest
        if (match := REFUSALS.search(self._text)) is not None and not self._said(REFUSALS):
            raise _WrongError("refused", match[0])
        if (match := HEDGES.search(text)) is not None and not self._said(HEDGES):
            raise _WrongError("limited", match[0])
        for relative in _RELATIVE:
            if relative.search(self._gold.text) and not any(
                relative.search(part.text) for part in (self._answer, self._question)
            ):
                raise _WrongError("missing", self._gold.text)
        if (
            (_DISCOUNT.search(self._gold.text) or _DISCOUNT.search(self._question.text))
            and not _DISCOUNT.search(self._answer.text)
            and self._gold.measures
            and (match := self._pays()) is not None
        ):
            raise _WrongError("negated", match[0])
        if self._answer.text.rstrip().endswith("?") and len(_sentences(self._answer.text)) == 1:
            raise _UnclearError("missing", self._gold.text)  # it asks back
        if (match := _LIMITED_NAME.search(text)) is not None and not self._said(_LIMITED_NAME):
            raise _WrongError("limited", match[0])
        if (match := _UNLIMITED.search(self._answer.text)) is not None and not any(
            _UNLIMITED.search(part.text) for part in self._known()
        ):
            raise _WrongError("unsupported", match[0])
        if (match := OUTDATED_ANSWER.search(text)) is not None and not self._said(OUTDATED_ANSWER):
            raise _WrongError("limited", match[0])

    def _pays(self) -> re.Match[str] | None:
        """The word that makes a discount what is to be paid: 70%를 납부."""
        clauses = [c for c in _clauses(self._answer.text) if self._has_fact(c)]
        return next((m for c in clauses if (m := _PAYING.search(c.text)) is not None), None)

    def _said(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(part.rest) for part in self._known())

    # -- yes and no

    def _yes_or_no(self) -> None:
        wanted = _polarity(self._gold)
        if wanted is None:
            return
        clauses = _clauses(self._answer.text) or (self._answer,)
        # Not always the first one: bed linen is included, but towels are not.
        first = max(clauses, key=lambda c: sum(map(self._question.has, _content(c))))
        if _polarity(clauses[0]) is not None:
            first = clauses[0]
        said = self._polarity_of(first)
        implied = first is not clauses[0] and _polarity(self._answer) is None
        excepted = self._excepted()
        narrowed = excepted and CONDITIONS.search(self._answer.text)
        if said is not wanted and narrowed and all(map(self._answer.has, excepted)):
            return  # only guide dogs are allowed: no, except guide dogs
        if said is not wanted:
            raise (_UnclearError if implied else _WrongError)("negated", first.text)
        lost = [w for w in excepted if not _is_known(w, [self._answer])]
        if lost:
            raise _WrongError("missing", lost[0].text)

    def _excepted(self) -> list[_Word]:
        """What the reference answer names after `except`."""
        match = _EXCEPTION.search(self._gold.text)
        return [] if match is None else _content(_part(self._gold.text[match.end() :]))

    def _polarity_of(self, first: _Part) -> bool:
        """What the answer says, yes or no, by its first word or the clause about the question."""
        word = _polarity(self._answer)
        rest = [w for w in first.words if w.text not in YES | NO]
        rest_text = first.rest
        for yes_no in sorted(YES | NO, key=len, reverse=True):
            rest_text = re.sub(rf"^\s*{yes_no}(?![가-힣a-z])[.,!]?\s*", "", rest_text)
        denied = DENIALS.search(rest_text) is not None or any(w.text in NO for w in rest)
        if _COSTS.search(self._question.text) and _FREE.search(rest_text):
            denied = True
        asked_denied = self._question.denied
        if word is None:
            if not rest:
                raise _WrongError("missing", self._gold.text)
            repeated = any(self._question.has(w) for w in rest if not _is_form(w))
            if not repeated and not denied and not self._near_words(rest):
                raise _UnclearError("missing", self._gold.text)
            return not denied if asked_denied else denied is asked_denied
        content = [w for w in rest if not _is_form(w)]
        if word and denied and not asked_denied:
            raise _WrongError("negated", first.text)
        repeats = (
            content and all(map(self._question.has, content)) and first.text == self._answer.text
        )
        if not word and not denied and repeats and not asked_denied:
            raise _WrongError("negated", first.text)
        return word

    def _near_words(self, words: Sequence[_Word]) -> bool:
        content = [w for w in words if not _is_form(w)]
        return bool(content) and any(all(map(s.has, content)) for s in self._sentences)

    # -- amounts

    def _amounts(self) -> None:
        """Find the measure of the answer that states each measure of the reference answer."""
        denied = _denied_measures(self._answer)
        for gold in self._gold.measures:
            same = self._stating(gold)
            same = [m for m in same if m.start not in denied] or same
            if not same:
                self._unstated(gold)
                continue
            if all(m.start in denied for m in same):
                raise _WrongError("negated", denied[same[0].start])
            problems = [self._limit_problem(gold, m) for m in same]
            if all(problems):
                raise _WrongError(*problems[0])  # type: ignore[misc]  # none of them is None
            for measure in same:
                self._matched[measure.start] = gold
        for rate in self._gold.rates - self._answer.rates:
            number = rate.split()[0]
            if number.isdigit() and not any(
                f"{m.written:f}" == number for m in self._answer.measures
            ):
                raise _WrongError("missing", rate)
        missing = self._gold.rates - self._answer.rates - self._asked_rates
        counted = [
            m
            for m in self._gold.measures
            if m.unit not in ("clock", "mday", "day", "month#", "weekday#")
        ]
        repeated = bool(counted) and all("every" in m.bounds for m in counted)
        asks = bool(counted) and _ASKS_RATE.search(self._question.text) is not None
        if missing and (not self._gold.measures or asks) and not repeated:
            raise _WrongError("missing", ", ".join(sorted(missing)))
        unsaid = [
            name
            for name in missing
            if not name[0].isdigit() and not is_named(name, self._answer.text)
        ]
        if unsaid and counted and not repeated and not self._answer_has_rate_words():
            # 64.95 pounds for 64.95 pounds a day: only a reader can tell whether it may lack that.
            raise _UnclearError("missing", ", ".join(sorted(unsaid)))

    def _answer_has_rate_words(self) -> bool:
        """True if the answer names who or what is counted by: 환자 한 분에 두 명."""
        words = [w for w in _content(self._gold) if not self._question.has(w)]
        return bool(words) and all(map(self._answer.has, words))

    def _stating(self, gold: Measure) -> list[Measure]:
        """The measures of the answer that state one of the reference answer."""
        measures = self._answer.measures
        same = [m for m in measures if gold.agrees(m) and self._unit_is_clear(gold, m)]
        if not same and gold.unit == "workday":
            # The question is about workdays; an answer may leave the word out.
            return [m for m in measures if m.unit == "day" and m.value == m.written == gold.written]
        return same

    def _unstated(self, gold: Measure) -> None:
        """Say what is wrong with an answer that has not this measure, unless it may lack it."""
        text = self._answer.text
        if gold.unit == "shift" and not gold.value and _ON_DAY.search(text):
            return  # 외박하는 날 밤 9시 is 당일 밤 9시
        if self._is_optional(gold) or self._is_as_often(gold):
            return
        if any(_is_about(gold, m) for m in self._answer.measures) or (
            gold.unit == "mday" and _END_OF.search(text)
        ):
            raise _UnclearError("missing", gold.text)
        # A number in a form that is not read may be the one.
        unread = (
            _NUMBER_LIKE.search(self._answer.rest) is not None
            or _SLASHED.search(text) is not None
            or any(m.written == gold.written and _is_odd(gold, m) for m in self._answer.measures)
        )
        # Yes, without what the reference answer adds to it, may be all that was asked.
        bare = _polarity(self._gold) is not None and not self._answer.measures
        error = _UnclearError if unread or bare else _WrongError
        rivals = [m for m in self._answer.measures if _is_rival(gold, m)]
        raise error("contradicted" if rivals else "missing", (rivals or [gold])[0].text)

    def _is_as_often(self, gold: Measure) -> bool:
        """True if the answer says it by the year: `twice a year` for `every six months`."""
        wanted = _times_a_year(gold)
        return wanted is not None and any(
            (given := _times_a_year(m)) is not None and abs(given / wanted - 1) < Decimal("0.03")
            for m in self._answer.measures
        )

    def _is_optional(self, gold: Measure) -> bool:
        """A measure that the question gives already, or a single one that the rate implies."""
        if any(gold.agrees(m) for m in self._question.measures) and len(self._gold.measures) > 1:
            return True
        if any(gold.agrees(m) for m in self._question.measures) and any(
            rate[0].isdigit() for rate in gold.per
        ):
            return True
        if gold.unit == "ordinal" and gold.bounds and len(self._gold.measures) > 1:
            return not any(m.unit == "ordinal" for m in self._answer.measures)
        if gold.unit == "times" and gold.value == 1 and gold.per and gold.per & self._answer.rates:
            return not any(m.unit == "times" for m in self._answer.measures)
        whole = gold.unit == "percent" and gold.value == 100
        return whole and any(not _WHOLE.isdisjoint(w.stems) for w in self._answer.words)

    def _unit_is_clear(self, gold: Measure, given: Measure) -> bool:
        """True if both have a unit, or the question has the one that is left out."""
        if gold.unit == given.unit or (gold.unit and given.unit):
            return True
        if not gold.unit:
            named = time_units(self._question.text)
            return not named or not time_units(given.text) or bool(named & time_units(given.text))
        if gold.unit == "age" and _AGE.search(self._question.text + self._answer.text):
            return True
        written = re.sub(r"[\d.,\s-]", "", gold.text)
        question = self._question.text
        return written in question or _ASKS_NUMBER.search(question) is not None

    def _limit_problem(self, gold: Measure, given: Measure) -> tuple[FactReason, str] | None:
        wanted, stated = _limits(gold), _limits(given)
        if {gold.unit, given.unit} == {"day", "shift"}:
            wanted, stated = wanted - {"before", "after"}, stated - {"before", "after"}
        if not wanted and stated & {"under", "max"} and _ASKS_LEAST.search(self._question.text):
            return "limited", given.text
        alike = [
            m for p in (*self._sentences, self._question) for m in p.measures if gold.agrees(m)
        ]
        allowed = {limit for m in alike for limit in _limits(m)}
        question_text = self._question.text
        if gold.unit == "clock" and "after" in wanted | stated and "min" in wanted | stated:
            wanted, stated = ({x for x in y if x not in ("after", "min")} for y in (wanted, stated))
        added = {
            limit
            for limit in stated - wanted
            if limit not in allowed
            and not (self._is_marked(limit, given) and not _opposed({limit}, wanted))
        }
        is_range = (
            gold.unit == "clock"
            and bool(gold.bounds & {"from", "until"})
            and all(
                any(other.agrees(m) for m in self._answer.measures) for other in self._gold.measures
            )
        )
        lost = {
            limit
            for limit in (
                wanted - stated if not is_range or len(self._gold.measures) < 2 else set()
            )
            if not self._is_marked(limit, gold)
            and not (
                limit in ("max", "min") and _MARKERS[limit].search(self._clause_of(given).text)
            )
            and limit != "about"
            and not (limit == "after" and "every" in given.bounds)
        }
        if "before" in wanted ^ stated or "after" in wanted ^ stated:
            lost |= {
                x
                for x in wanted - stated & {"before", "after"}
                if not _MARKERS[x].search(question_text)
            }
        if _opposed(stated, wanted) and not _opposed(stated, wanted) <= allowed:
            added |= _opposed(stated, wanted)
        if added or lost:
            return "limited", self._clause_of(given).text.strip()
        return self._rate_problem(gold, given, alike)

    def _rate_problem(
        self, gold: Measure, given: Measure, alike: Sequence[Measure]
    ) -> tuple[FactReason, str] | None:
        rates_added = (
            given.per - self._gold.rates - self._asked_rates - self._answer_rates_known(alike)
        )
        rates_added -= {
            name
            for sentence in self._sentences
            if any(gold.agrees(m) for m in sentence.measures)
            for name in sentence.rates - _TIMES_OF_YEAR
        }
        if gold.per & _TIMES_OF_YEAR and not given.per and self._is_total(given):
            return "contradicted", given.text
        if rates_added and not self._rate_is_known(rates_added):
            return "contradicted", self._clause_of(given).text.strip()
        return None

    def _asked_latest(self) -> None:
        """`No earlier than` is no answer to `by when`."""
        match = _EARLIEST.search(self._answer.text)
        asks = _ASKS_LATEST.search(self._question.text) is not None
        if match is not None and asks and not _EARLIEST.search(self._gold.text):
            raise _WrongError("limited", match[0])

    def _superlative(self) -> None:
        """`최대` is not `최소`, wherever in the sentence they stand."""
        question = self._question.text
        for wanted, opposite in ((_LEAST, _MOST), (_MOST, _LEAST)):
            if (
                wanted.search(question)
                and not opposite.search(question)
                and (match := opposite.search(self._answer.text)) is not None
                and not wanted.search(self._answer.text)
                and not any(opposite.search(p.text) for p in (self._gold, *self._near))
            ):
                raise _WrongError("limited", match[0])

    def _anchor(self) -> None:
        """A span is counted from the day that the reference answer names: 면접일부터 9일."""
        wanted = _anchors(self._gold)
        given = _anchors(self._answer)
        if not wanted or not given:
            return
        wanted = [w for w in wanted if not self._question.has(w)]
        if not wanted:
            wanted = _anchors(self._gold)
        if any(self._answer.has(w) or _has_synonym(w, [self._answer]) for w in wanted):
            return
        if any(self._gold.has(w) or self._question.has(w) for w in given):
            return
        korean = HANGUL_SYLLABLE.search(given[0].text) is not None
        elsewhere = korean and all(_is_known(w, self._sentences) for w in given)
        raise (_WrongError if elsewhere else _UnclearError)("contradicted", given[0].text)

    def _is_total(self, given: Measure) -> bool:
        """True for an amount of several periods together: 3개월 동안 230만 원."""
        clause = self._clause_of(given)
        return any(
            m.unit in ("day", "month") and m.written > 1 and _FOR.match(clause.text, m.end)
            for m in clause.measures
        )

    def _is_marked(self, limit: str, measure: Measure) -> bool:
        """True for a limit that the question asks for."""
        raw = "from" if limit == "min" and "from" in measure.bounds else limit
        question = self._question.text
        return any(_MARKERS[name].search(question) is not None for name in (limit, raw))

    def _answer_rates_known(self, alike: Sequence[Measure]) -> set[str]:
        return {name for m in alike for name in m.per}

    def _rate_is_known(self, names: Iterable[str]) -> bool:
        """True for what question, reference answer or the fact's sentence count by in words."""
        parts = (self._question, self._gold, *self._near)
        return all(
            name not in PERIODS and any(name in p.spans or name in p.letters for p in parts)
            for name in names
        )

    # -- names and choices

    def _names(self) -> None:
        if _polarity(self._gold) is not None:
            return
        content, required = self._content_and_required()
        joined = _bounded(self._answer)
        missing = [
            w
            for w in content
            if not self._is_given(w, content, joined)
            and not (
                len(content) > 1
                and w not in required
                and _PREDICATE.search(w.text)
                and _is_only_verb(w, self._gold)
            )
        ]
        together = "".join(w.text for w in missing)
        if len(together) > 2 and together in self._answer.letters:
            missing = []  # 살아있는 for 살아 있는
        if self._gold.measures:
            asks = _ASKS_AMOUNT.search(self._question.text) or not self._question.text
            missing = [
                w for w in missing if w in required or not (asks or _is_only_verb(w, self._gold))
            ]
        if missing:
            error = _WrongError if self._is_another(missing, content) else _UnclearError
            raise error("missing", ", ".join(w.text for w in missing))
        if _ORDER.search(self._question.text) and len(content) > 1:
            places = [self._answer.text.find(w.stems[-1]) for w in content]
            if places != sorted(places):
                raise _WrongError("contradicted", self._answer.text)

    def _content_and_required(self) -> tuple[list[_Word], list[_Word]]:
        """The words of the reference answer that an answer has, and those that none may lack.

        The second are what a list names, and a name beside an amount: 왕복 6,000원, 고객 부담.
        """
        words = self._gold.words
        content = _content(self._gold)
        required = []
        if self._gold.measures and _ASKS_NAME.search(self._question.text):
            required = [
                w
                for w in words
                if (not _is_form(w) or w.text in CLAIM_WORDS) and not self._question.has(w)
            ]
            content += [w for w in required if w not in content]
        if _is_list(self._gold):
            items = [_part(item) for item in _LIST.split(self._gold.text) if item.strip()]
            listed = [w.text for item in items if not item.measures for w in item.words]
            required += [
                w
                for w in words
                if any(w.text == name or name.startswith(w.text) for name in listed)
                and FUNCTION_WORDS.isdisjoint(w.stems)
                and w.text not in _CONNECTING
            ]
            content += [w for w in required if w not in content and not self._gold.measures]
        if not self._gold.measures and not content:
            content = [w for w in words if _is_form(w) and len(w.text) > 1] or list(words)
        return content, required

    def _is_given(self, word: _Word, content: Sequence[_Word], joined: str) -> bool:
        """True if the answer has a word of the reference answer, or the question gives it."""
        several = len(content) + len(self._gold.measures) > 1
        if several and self._question.has(word) and not self._options():
            return True
        if _FREE.search(word.text) and _FREE.search(self._answer.text):
            return True
        longer = [stem for stem in word.stems if len(stem) > 1]
        if any(stem in m.text for m in self._answer.measures for stem in longer):
            return True
        if word.text.endswith("'s") and word.text.removesuffix("'s") in self._answer.spans:
            return True
        return _is_stated(word, joined, self._answer) or self._is_in_compound(word)

    def _is_another(self, missing: Sequence[_Word], content: Sequence[_Word]) -> bool:
        """True if the answer says something else in the words of the document.

        `The sender` for `the recipient`, of which the passage speaks; `the addressee`, of which it
        does not, may be the same person.
        """
        if all(_is_only_verb(w, self._gold) for w in missing):
            return False
        if any(w.text in self._proper for w in missing) or _is_short_code(missing):
            return True
        if _is_list(self._gold):
            if (
                _items(self._answer) >= _items(self._gold)
                or "".join(w.text for w in missing) in self._answer.letters
            ):
                return False
        elif len(missing) * 2 < len(content) + 1:
            return False
        known = [self._question, *self._sentences]
        said = [w for w in self._answer.words if not _is_form(w) or _claims(w)]
        if _FREE.search(self._gold.text) and _FREE.search(self._answer.text):
            return False
        if not said and self._matched and not _is_list(self._gold):
            return False  # 22 minutes for 22 minutes including credits: it says nothing else
        return bool(self._sentences) and all(_is_known(w, known) for w in said)

    def _roles(self) -> None:
        """Who does it and to whom: 점장이 보냅니다 is not the answer to 누구에게 보내나요."""
        if not _ASKS_RECIPIENT.search(self._question.text):
            return
        names = [w for w in self._gold.words if not _is_form(w) or _claims(w)]
        for word in self._answer.words:
            if any(_share(word, name) for name in names) and _SUBJECT.search(word.text):
                others = [w for w in self._answer.words if w.start > word.start]
                if any(_RECIPIENT.search(w.text) for w in others):
                    raise _WrongError("contradicted", word.text)

    def _priority(self) -> None:
        """What comes first is what the reference answer says: 먼저, first."""
        if not _FIRST.search(self._question.text):
            return
        clauses = [c for c in _clauses(self._answer.text) if _FIRST.search(c.text)]
        names = [w for w in self._gold.words if not _is_form(w) or _claims(w)]
        if (
            clauses
            and names
            and any(map(self._answer.has, names))
            and not any(any(map(c.has, names)) for c in clauses)
        ):
            raise _WrongError("contradicted", clauses[0].text)

    def _is_in_compound(self, word: _Word) -> bool:
        """True if the answer writes it together with its neighbour: 약정이율 for 약정 이율."""
        words = self._gold.words
        index = words.index(word)
        pairs = [words[i : i + 2] for i in (index - 1, index) if 0 <= i < len(words) - 1]
        return any(
            len(pair[0].stems[-1]) > 1 and pair[0].stems[-1] + pair[1].stems[-1] in w.text
            for pair in pairs
            for w in self._answer.words
        )

    def _options(self) -> list[str]:
        """The choices that the question gives."""
        match = _CHOICE.search(self._question.text)
        if match is None:
            return []
        return [re.sub(r"[?.,]$", "", name) for name in match.groupdict().values() if name]

    def _choice(self) -> None:
        """The answer names no other choice than the reference answer."""
        options = self._options()
        chosen = [o for o in options if o in self._gold.text]
        if len(options) > 1 and len(chosen) == 1:
            self._chosen(options, chosen)
        if (
            (match := _OR.search(self._answer.rest)) is not None
            and not any(
                _OR.search(part.rest)
                for part in (self._gold, self._question, *(self._near or self._sentences))
            )
            and not self._is_other_case(_part(self._answer.text[match.end() :].strip()))
        ):
            both = bool(self._gold.measures) and match.end() < len(self._answer.text)
            near = self._answer.text[match.end() : match.end() + 12]
            raise (_WrongError if both and any(c.isdigit() for c in near) else _UnclearError)(
                "contradicted", match[0]
            )

    def _is_other_case(self, part: _Part) -> bool:
        """True for `15% for groups`, which the evidence has: no doubt about the answer."""
        own = [
            w
            for w in part.words
            if not _is_form(w) and not _is_known(w, [self._question, self._gold])
        ]
        return bool(part.measures and own) and any(
            all(any(m.agrees(o) for o in s.measures) for m in part.measures)
            and all(map(s.has, own))
            for s in self._sentences
        )

    def _chosen(self, options: Sequence[str], chosen: Sequence[str]) -> None:
        for other in (o for o in options if o not in chosen and o not in self._gold.text):
            for match in re.finditer(rf"(?<![\w]){re.escape(other)}", self._answer.text):
                after = self._answer.text[match.end() : match.end() + 12]
                before = self._answer.text[max(0, match.start() - 12) : match.start()]
                if not re.match(
                    r"(?:이|가|은|는)?\s?(?:아니|아닌|보다|말고|대신)|은 |는 ", after
                ) and not re.search(
                    r"\b(?:not|than|than the|rather than|instead of)\s(?:the\s)?$", before
                ):
                    raise _WrongError("contradicted", other)

    def _order(self) -> None:
        """What the answer puts before or after an event stands so in the evidence."""
        known = (self._gold, self._question, *(self._near or self._sentences))
        elsewhere = [s for s in self._sentences if s not in known]
        for pattern, opposite in ((_EARLIER, _LATER), (_LATER, _EARLIER)):
            match = pattern.search(self._answer.text)
            if match is None or any(pattern.search(part.text) for part in known):
                continue
            inside = [c for c in _clauses(self._answer.text) if pattern.search(c.text)]
            if not any(map(self._has_fact, inside)) and any(
                pattern.search(s.text) for s in elsewhere
            ):
                continue
            if any(opposite.search(part.text) for part in known):
                raise _UnclearError("contradicted", match[0])

    def _beside(self) -> None:
        """No other name is joined to that of the reference answer by `and` or a comma."""
        if _polarity(self._gold) is not None or _ASKS_AMOUNT.search(self._question.text):
            return
        if self._gold.measures and not _ASKS_NAME.search(self._question.text):
            return
        if _is_short_code(self._gold.words):
            codes = {m[0] for m in _LETTER.finditer(self._answer.text)}
            if foreign := codes - {w.text for w in self._gold.words}:
                raise _WrongError("contradicted", " ".join(sorted(foreign)))
        gold_words = [w for w in self._gold.words if not _is_form(w) or _claims(w)]
        for match in _JOINED.finditer(self._answer.text):
            if _NEW_CLAUSE.match(self._answer.text[match.end("left") :]):
                continue
            denied = _part(match[0]).denied
            if self._gold.measures and _part(match["right"].strip()).measures:
                continue
            left, right = _last_name(match["left"]), _first_name(match["right"])
            for one, other in ((left, right), (right, left)):
                names = [w for w in other.words if not _is_form(w) or _claims(w)]
                whole = _part(match["left" if one is left else "right"])
                if not any(map(whole.has, gold_words)) or any(map(other.has, gold_words)):
                    continue
                if denied or not names or len(other.words) > 4 or _SUBORDINATE.search(other.text):
                    continue
                new = [w for w in names if not _is_known(w, [self._gold, self._question])]
                if (
                    new
                    and not _PREDICATE.search(other.text)
                    and not any(
                        _neighbours(sentence, gold_words, new) for sentence in self._sentences
                    )
                ):
                    known = not self._sentences or all(_is_known(w, self._sentences) for w in new)
                    error = _WrongError if known else _UnclearError
                    raise error("contradicted", " ".join(w.text for w in new))

    # -- what else the answer says

    def _denials(self) -> None:
        """Every denial of the answer is one of question, reference answer or evidence."""
        if _polarity(self._gold) is False:
            self._affirmed()
            return
        without = [_part(m[1]).words for p in self._known() for m in _WITHOUT.finditer(p.text)]
        known = without + [
            list(words)
            for part in (self._question, self._gold, *self._sentences)
            if part.denied
            for clause in _clauses(part.text)
            for words in _all_denied(clause)
        ]
        gold_words = [w for w in self._gold.words if not _is_form(w)] or self._gold.words
        for clause in _clauses(self._answer.text):
            for match in DENIALS.finditer(clause.rest):
                words = _denied_words(clause, match)
                after = [w for w in clause.words if w.start >= match.end()]
                contrast = match.lastgroup == "is" and clause.text.startswith("라", match.end())
                denied = words[-1:]
                if (
                    contrast
                    and any(w.text == g.text or _share(w, g) for w in after for g in gold_words)
                    and not any(_share(w, g) for w in denied for g in gold_words)
                ):
                    continue
                free = _FREE.search(clause.text) and any(
                    _FREE.search(p.text) for p in self._known()
                )
                if not free and not any(_share_stem(words, others) for others in known):
                    about_it = any(self._question.has(w) or self._gold.has(w) for w in words)
                    sure = about_it and self._has_fact(clause) and not self._sentences_deny()
                    sure = sure and not self._question.denied
                    raise (_WrongError if sure else _UnclearError)("negated", clause.text)
                if not free and not _EXCEPTION.search(match[0]):
                    self._denied_with_amount(clause)
        if self._gold.denied and not self._answer.denied and not self._question.denied:
            raise _WrongError("negated", self._answer.text)

    def _denied_with_amount(self, clause: _Part) -> None:
        """What the evidence denies, it denies of the amount that the answer denies it of.

        `기온이 14도 이상이면 열지 않는다` is not said by `비가 오면 열지 않는다`.
        """
        if not self._gold.measures or not self._has_fact(clause):
            return
        stating = [
            c
            for s in self._sentences
            for c in _clauses(s.text)
            if any(_has_measure(c, m) for m in self._gold.measures)
        ]
        said = (self._question, self._gold, *stating)
        if stating and not any(part.denied for part in said):
            raise _UnclearError("negated", clause.text)

    def _sentences_deny(self) -> bool:
        return any(s.denied for s in self._near)

    def _affirmed(self) -> None:
        """What is affirmed after `No` is not denied: `no, it must be carried in the cabin`."""
        rest = [c for c in _clauses(self._gold.text) if _polarity(c) is None]
        affirmed = [
            w
            for c in rest
            if not c.denied
            for w in c.words
            if not _is_form(w) and not self._question.has(w)
        ]
        for clause in _clauses(self._answer.text) if affirmed else ():
            for words in _all_denied(clause):
                if any(_share(w, other) for w in words for other in affirmed) and not any(
                    _share(w, other)
                    for s in self._sentences
                    for ds in _all_denied(s)
                    for w in ds
                    for other in affirmed
                ):
                    raise _WrongError("negated", clause.text)

    def _others(self) -> None:
        """Other amounts stand in the evidence, for something else."""
        denied = _denied_measures(self._answer)
        for measure in self._answer.measures:
            clause = self._clause_of(measure)
            if measure.start in self._matched or self._is_no_other(measure, clause):
                continue
            rival = any(measure.rivals(m) for m in self._gold.measures)
            holders = [s for s in self._sentences if _states(s, measure)]
            # Beside the right amount, only a reader can tell what another one is for.
            error = _UnclearError if self._matched or not self._gold.measures else _WrongError
            if not holders:
                name: FactReason = "contradicted" if rival else "unsupported"
                raise (error if rival else _UnclearError)(name, measure.text)
            if not rival:
                if not self._belongs(measure, clause, holders):
                    raise _UnclearError("contradicted", measure.text)
                continue
            if measure.start in denied or self._is_other_rate(measure, holders):
                continue
            if not self._is_placed(measure, clause, holders):
                raise error("contradicted", measure.text)

    def _is_no_other(self, measure: Measure, clause: _Part) -> bool:
        """True for an amount that reference answer or question have, in whatever form."""
        if any(measure.agrees(m) for m in (*self._gold.measures, *self._question.measures)):
            return True
        if any(rate.split()[0] == f"{measure.written:f}" for rate in self._gold.rates):
            return True
        if measure.unit == "times" and measure.value == 1 and measure.per & self._gold.rates:
            return True
        if rate_of(measure) in self._rates and _REPEATED.search(clause.text):
            return True
        often = _times_a_year(measure)
        if often is not None and any(_times_a_year(m) == often for m in self._gold.measures):
            return True
        if measure.unit == "shift" and not measure.value and _DAY.search(self._question.text):
            return True
        return self._counts_list(measure) or _is_pronoun(measure, clause)

    def _is_placed(self, measure: Measure, clause: _Part, holders: Sequence[_Part]) -> bool:
        """True if the answer says what another amount of the evidence is for."""
        own = [w for w in clause.words if not _is_form(w) or _claims(w)]
        beside = [m for m in clause.measures if not m.rivals(measure)]
        return (
            any(any(s.has(w) for w in own) or any(_states(s, m) for m in beside) for s in holders)
            or self._is_other_limit(measure, holders)
            or _ELSEWHERE.search(clause.text) is not None
            or self._opens(measure, holders)
        )

    def _belongs(self, measure: Measure, clause: _Part, holders: Sequence[_Part]) -> bool:
        """True if what stands around an amount stands with it in the evidence, too."""
        own = [
            w
            for w in clause.words
            if (not _is_form(w) or _claims(w))
            and w.text not in GRAMMAR_WORDS
            and not _is_only_verb(w, clause)
        ]
        if any(_IF_VERB.search(w.text) and not _is_known(w, holders) for w in clause.words):
            return False
        beside = [
            m
            for m in clause.measures
            if m.start != measure.start
            and not any(m.agrees(o) for o in (*self._gold.measures, *self._question.measures))
        ]
        holders = [s for s in holders if all(_has_measure(s, m) for m in beside)]
        if not holders:
            return False
        own = [w for w in own if _is_known(w, self._sentences)]
        return not own or any(
            2 * sum(s.has(w) or _has_synonym(w, [s]) for w in own) >= len(own) for s in holders
        )

    def _counts_list(self, measure: Measure) -> bool:
        """True for `두 가지` beside the two things that the reference answer lists."""
        items = [item for item in _LIST.split(self._gold.text) if item.strip()]
        counted = measure.unit in ("count", "") and measure.written == len(items) > 1
        return counted and not self._gold.measures

    def _is_other_limit(self, measure: Measure, holders: Sequence[_Part]) -> bool:
        """True for `capped at $15` beside `$1.50`: a limit that the reference answer lacks."""
        limits = _limits(measure)
        return (
            bool(limits)
            and not any(_limits(m) & limits for m in self._gold.measures)
            and any(
                measure.agrees(m) and limits <= _limits(m)
                for part in holders
                for m in part.measures
            )
        )

    def _opens(self, measure: Measure, holders: Sequence[_Part]) -> bool:
        """True for the other end of a range in the evidence, in the same order."""
        for holder in holders:
            ends = [m for m in holder.measures if m.bounds & {"from", "until"}]
            if any(measure.agrees(m) and "from" in m.bounds for m in ends):
                return any(
                    m.start > measure.start and any(m.agrees(g) for g in self._gold.measures)
                    for m in self._answer.measures
                )
        return False

    def _is_other_rate(self, measure: Measure, holders: Sequence[_Part]) -> bool:
        """True for an amount by another period than the answer's, as the evidence has it."""
        own = measure.per - {name for m in self._gold.measures for name in m.per}
        if not own:
            return False
        return any(
            measure.agrees(m) and own <= m.per | {rate_of(other) for other in part.measures}
            for part in holders
            for m in part.measures
        )

    def _clause_of(self, measure: Measure) -> _Part:
        for clause in _clauses(self._answer.text):
            if any(m.text == measure.text and m.value == measure.value for m in clause.measures):
                return clause
        return self._answer

    def _words(self) -> None:
        """Every other word is known, and what a clause says stands together in the evidence."""
        everywhere = list(self._known())
        for clause in _clauses(self._answer.text):
            is_fact = self._has_fact(clause)
            content = [w for w in clause.words if not _is_form(w) or (not is_fact and _claims(w))]
            unknown = [w for w in content if not _is_known(w, everywhere)]
            new = [w for w in unknown if _names_something(w, clause, everywhere)]
            if new and not (len(new) == 1 < len(content) + is_fact and _is_verb(new[0], clause)):
                raise _UnclearError("unsupported", new[0].text)
            if not self._sentences:
                continue
            if misbound := self._misbound(clause):
                raise _UnclearError("contradicted", misbound)
            given = [self._question, self._gold]
            foreign = [w for w in content if w not in unknown and not _is_known(w, given)]
            foreign = [
                w
                for w in foreign
                if w.text not in GRAMMAR_WORDS and not (is_fact and _is_only_verb(w, clause))
            ]
            if foreign and not self._stand_together(clause, foreign, is_fact):
                raise _UnclearError("unsupported", " ".join(w.text for w in foreign))

    def _has_fact(self, clause: _Part) -> bool:
        """True for a clause with an amount or word of the reference answer."""
        if self._gold.measures:
            return any(m.agrees(g) for m in clause.measures for g in self._gold.measures)
        if _polarity(self._gold) is not None:
            return True
        content = [w for w in self._gold.words if not _is_form(w)] or self._gold.words
        return any(map(clause.has, content))

    def _stand_together(self, clause: _Part, foreign: Sequence[_Word], is_fact: bool) -> bool:
        """True if one sentence of the evidence says it."""
        if any(self._holds(sentence, clause, foreign, 0.75) for sentence in self._sentences):
            return True
        return is_fact and any(self._holds(s, clause, foreign, 0.5) for s in self._near)

    def _holds(
        self, sentence: _Part, clause: _Part, foreign: Sequence[_Word], share: float
    ) -> bool:
        """True if one sentence of the evidence says what a clause of the answer says."""
        shared = sum(sentence.has(w) or _has_synonym(w, [sentence]) for w in foreign)
        amounts = all(
            any(
                m.agrees(o)
                for o in (*sentence.measures, *self._question.measures, *self._gold.measures)
            )
            for m in clause.measures
        )
        if not amounts or shared < share * len(foreign):
            return False
        polar = _polarity(self._gold) is not None and self._has_fact(clause)
        if not polar and not self._has_fact(clause) and not self._meets_conditions(sentence):
            return False
        pieces = [p for p in _clauses(sentence.text) if any(map(p.has, foreign))] or [sentence]
        best = max(pieces, key=lambda p: sum(map(p.has, clause.words)))
        topics = [w for w in clause.words if _TOPIC_ONLY.search(w.text) and len(w.text) > 2]
        for topic in topics:
            own = [p for p in _clauses(sentence.text) if p.has(topic)]
            if own and best not in own and not any(p.denied is clause.denied for p in own):
                return False
        free = _FREE.search(sentence.text) is not None and _FREE.search(clause.text) is not None
        alike = clause.denied is best.denied or clause.denied is sentence.denied
        return alike or free or (polar and _polarity(self._gold) is False)

    def _meets_conditions(self, sentence: _Part) -> bool:
        """True if answer or question name what a sentence of the evidence depends on.

        `상품이 불량이면 배송비는 회사가 낸다` does not say that the company pays otherwise.
        """
        if _OTHERWISE.search(self._answer.text):
            return True
        known = [self._answer, self._question, self._gold]
        for match in _IF.finditer(sentence.text):
            words = [
                w
                for w in sentence.words
                if match.start() <= w.start < match.end() and not _is_form(w)
            ]
            measures = [m for m in sentence.measures if match.start() <= m.start < match.end()]
            stated = any(m.agrees(o) for m in measures for p in known for o in p.measures)
            if words and not stated and not _is_known(words[-1], known):
                return False
        return True

    def _misbound(self, clause: _Part) -> str:
        """The words of a clause whose own value in the evidence is another one; mostly empty."""
        pieces = [piece for sentence in self._sentences for piece in _clauses(sentence.text)]
        for measure in clause.measures:
            own = [p for p in pieces if any(measure.agrees(m) for m in p.measures)]
            within = [s for s in self._sentences if any(measure.agrees(m) for m in s.measures)]
            is_fact = any(measure.agrees(m) for m in self._gold.measures)
            for word in clause.words:
                if not own or _is_form(word) or any(p.has(word) for p in own):
                    continue
                if is_fact and (self._question.has(word) or self._gold.has(word)):
                    continue
                beside = 0 <= measure.start - word.end <= 1
                if "가" <= word.text[0] <= "힣" and not beside and not _TOPIC.search(word.text):
                    continue
                rivals = [
                    m
                    for p in pieces
                    if p not in own and p.has(word)
                    for m in p.measures
                    if m.unit == measure.unit and m.unit and not m.agrees(measure)
                ]
                stated = any(m.agrees(r) for r in rivals for m in clause.measures)
                foreign = not any(s.has(word) for s in within) or any(
                    p.has(word) and any(m in rivals for m in p.measures)
                    for s in within
                    for p in _clauses(s.text)
                )
                if rivals and not stated and foreign:
                    return f"{word.text} {measure.text}"
        return ""

    def _included(self) -> None:
        """What the evidence leaves out is not included, nor the reverse."""
        known = [part.text for part in self._known()]
        for said, opposite in ((_INCLUDED, _LEFT_OUT), (_LEFT_OUT, _INCLUDED)):
            match = said.search(self._answer.text)
            if match is None or any(map(said.search, known)):
                continue
            if any(map(opposite.search, known)):
                raise _UnclearError("contradicted", match[0])

    def _conditions(self) -> None:
        for clause in _clauses(self._answer.text):
            for match in CONDITIONS.finditer(clause.rest):
                exhaustive = match[0] in _ONLY and _polarity(self._gold) is None
                if exhaustive and self._has_fact(clause):
                    continue
                if match[0] == "예외" and self._said(_EXCEPTION):
                    continue
                if not self._said(CONDITIONS):
                    sure = match[0] != "without" and self._has_fact(clause)
                    raise (_WrongError if sure else _UnclearError)("limited", match[0])


_ONLY = frozenset(
    ("만", "에서만", "에게만", "으로만", "로만", "에만", "only", "solely", "exclusively")
)
OUTDATED_ANSWER = re.compile(
    r"예전에|과거에|이전에는|작년까지|지난해까지|종전에|(?:이|였|었)었(?:습|다|어|던)|\bused "
    r"to\b|\bformerly\b|\bpreviously\b"
    r"|\buntil last year\b"
    r"|지난해 규정|작년 규정|\blast year's\b|\bin the past\b"
)
"""The answer speaks of what was once so."""


_BULLET = re.compile(r"^\s*(?:[-•·]|#+|\d+[.)])\s+")


def _core(text: str) -> str:
    """A folded text without lead-ins."""
    core = COURTESIES.sub("", _BULLET.sub("", text)).strip()
    while True:
        for pattern in LEAD_INS:
            match = pattern.match(core)
            if match is not None and match.end() < len(core) and not OUTDATED.search(match[0]):
                if _polarity_word(match[0].strip(" ,.!:")) is not None:
                    continue
                core = core[match.end() :].strip()
                break
        else:
            return core


def _polarity_word(text: str) -> bool | None:
    return True if text in YES else False if text in NO else None


_POLARITY_LAST = re.compile(r"\b(?:so|therefore|hence|is),? (yes|no)[.!]?\s*$")


def _polarity(part: _Part) -> bool | None:
    """True for a text that begins with yes, False for no, else None."""
    if (last := _POLARITY_LAST.search(part.text)) is not None:
        return _polarity_word(last[1])
    match = re.match(r"\s*([가-힣a-z]+)", part.text)
    if match is None:
        return None
    word = match[1]
    if re.match(r"no\s+[a-z]", part.text.strip()) or (
        word in ("가능", "불가") and len(part.words) > 1
    ):
        return None
    for ending in ("", "다", "합니다", "하다", "해요", "한다", "입니다", "이다"):
        if (
            word.endswith(ending)
            and (said := _polarity_word(word.removesuffix(ending) if ending else word)) is not None
        ):
            return said
    return None


_WHOLE = frozenset(("모두", "전부", "전체", "다", "full", "fully", "whole", "entire", "all"))
_MONEY = frozenset(("won", "dollar", "euro", "yen", "pound", "yuan"))


_ON_DAY = re.compile(r"[는은된한] 날|그날|\b(?:that|the same) day\b")
_NUMBER_LIKE = re.compile(
    r"\d|(?<![가-힣])(?:[일이삼사오육칠팔구십백천만]{2,}|한두|두세|서너|너댓|열|스물|서른|마흔|쉰|예순|일흔|여든|아흔)"
    r"|(?<![가-힣])(?:하나|둘|셋|넷|다섯|여섯|일곱|여덟|아홉)|\b(?:half|quarters?|thirds?|pair|both|dozen|couple|score|fortnight|decade|hundred|thousand)\b"
)
_AGE = re.compile(r"나이|연령|\b(?:age|old)\b")
_SLASHED = re.compile(r"\d{1,2}\s?/\s?\d{1,2}(?!\d)")
"""A date or a fraction."""


def _is_odd(gold: Measure, measure: Measure) -> bool:
    """True if one of two units is none of the known ones: `15 m/s` and `초당 15m`."""
    units = {gold.unit, measure.unit}
    return not units <= _DIMENSIONS  # `times` is none of them: 6번 레인 is 6레인


_END_OF = re.compile(r"말(?=까지|에|일|$|[ .])|\bend of\b")
_DIMENSION_NAMES = """
minute day month workday night term percent won dollar euro yen pound yuan metre gram litre person
age clock mday month# year# weekday# page floor
"""
_DIMENSIONS = frozenset(_DIMENSION_NAMES.split())
_DAYS = {"day": Decimal(1), "month": Decimal(365) / 12}


def _is_about(gold: Measure, measure: Measure) -> bool:
    """True for 30 days and a month, which some rules take for the same."""
    if {gold.unit, measure.unit} != {*_DAYS}:
        return False
    days = [m.value * _DAYS[m.unit] for m in (gold, measure)]
    return bool(days[0]) and abs(days[1] / days[0] - 1) < Decimal("0.04")


_OFTEN = re.compile(r"\btimes (?:\w+ )?(?:a|an|per|each|every) (year|month|week|day|season|term)\b")


def _is_rival(gold: Measure, measure: Measure) -> bool:
    """True for another value of the same kind, or the same value of another."""
    return (
        gold.rivals(measure) or gold.value == measure.value or {gold.unit, measure.unit} <= _MONEY
    )


_COSTS = re.compile(r"비용|요금|돈|내야|유료|\b(?:need|pay|cost|charged?|fee|ticket)s?\b")
_FREE = re.compile(
    r"무료|무상|공짜|\bfree\b|\b(?:pay|pays|cost|costs|charged?|no) (?:nothing|charge|cost"
    r"|fee)|비용이 없|(?:내|들|부과하|청구하|받)지 않"
)
_IF_VERB = re.compile("[가-힣]면$")
_TOPIC_ONLY = re.compile("[가-힣](?:은|는)$")
_TOPIC = re.compile("(?:은|는|이|가|의|도|에게|에는|께)$")
_A_YEAR = {"year": 1, "quarter": 4, "month": 12, "week": 52, "day": 365}
_IN_A_YEAR = {"month": Decimal(12), "day": Decimal(365)}


def _times_a_year(measure: Measure) -> Decimal | None:
    """How often something happens in a year: every six months, twice a year; else None."""
    if measure.unit == "times" and len(measure.per) == 1 and {*measure.per} <= {*_A_YEAR}:
        return measure.value * _A_YEAR[next(iter(measure.per))]
    if "every" in measure.bounds and measure.unit in _IN_A_YEAR and measure.value:
        return _IN_A_YEAR[measure.unit] / measure.value
    return None


_DAY = re.compile(r"날|당일|\bday\b")
_REPEATED = re.compile(r"마다|당(?![가-힣])|매\s|\b(?:every|each|per)\b")


_ANCHOR_KO = re.compile("(?:일|날|시점|때)?(?:으?로)?부터$")
_ANCHOR_EN = re.compile(r"\b(?:of|from|after|before|following|since)\s(?P<nouns>[a-z' -]{3,40})")


def _anchors(part: _Part) -> list[_Word]:
    """What the spans of a text are counted from: 면접 of 면접일부터 9일, delivery."""
    if not any(m.unit in ("day", "month", "minute", "workday") for m in part.measures):
        return []
    anchors = []
    for match in _ANCHOR_EN.finditer(part.text):
        if any(0 <= match.start() - m.end <= 3 for m in part.measures):
            stop = re.search(r"[,.;]|\b(?:and|if|or|but)\b", part.text[match.start("nouns") :])
            end = match.end() if stop is None else match.start("nouns") + stop.start()
            anchors += [
                w
                for w in part.words
                if match.start("nouns") <= w.start < end
                and w.text not in GRAMMAR_WORDS
                and w.text not in ("date", "day", "time")
            ]
    for word in part.words:
        bare = _ANCHOR_KO.sub("", word.text)
        if bare != word.text and len(bare) > 1:
            anchors.append(_Word(bare, _stems(bare), word.start, word.end))
    return anchors


_LETTER = re.compile(r"(?<![a-z0-9])[a-z](?=[가-힣]|\s?,|\s(?:and|or)\b|[.]?$)")
_NEW_CLAUSE = re.compile(
    r"\s?,\s(?:and\s)?(?:[a-z]+\s){1,3}(?:can|may|must|will|should|is|are|has|have|needs?)\b"
)
_NAME_ENDS = re.compile("[가-힣](?:이|가|은|는|을|를|에|에서|께서|에게|이며|입니다)$")


def _first_name(text: str) -> _Part:
    """What a text begins with up to its verb or its particle: `the bus driver` can both."""
    words = text.split()
    count = 0
    for word in words:
        if word in GRAMMAR_WORDS and word not in ("a", "an", "the", "of", "their", "his", "her"):
            break
        count += 1
        if _NAME_ENDS.search(word):
            break
    return _part(" ".join(words[:count]))


def _last_name(text: str) -> _Part:
    """What a text ends with, after its last verb or other particle."""
    words = text.split()
    start = 0
    for index, word in enumerate(words[:-1]):
        if (word in GRAMMAR_WORDS and word not in ("a", "an", "the", "of")) or _NAME_ENDS.search(
            word
        ):
            start = index + 1
    return _part(" ".join(words[start:]))


_ROLE = re.compile("[가-힣](?:이|가|은|는|을|를|에게|께)(?=[,\\s])")
"""The particle of a name that has a part of its own: 외출은 간호사가, 외박은 원장이."""


def _neighbours(part: _Part, words: Sequence[_Word], others: Sequence[_Word]) -> bool:
    """True if a text has two names beside each other."""

    def places(names: Sequence[_Word]) -> list[_Word]:
        return [w for w in part.words if any(not set(w.stems).isdisjoint(n.stems) for n in names)]

    pairs = [sorted((a, b), key=lambda w: w.start) for a in places(words) for b in places(others)]
    return all(map(part.has, others)) and any(
        b.start - a.end <= 12 and not _ROLE.search(part.text[a.start : b.start]) for a, b in pairs
    )


def _counter(measure: Measure) -> str:
    return re.sub(r"[\d.,\s]", "", measure.text)[-1:]


def _has_measure(part: _Part, measure: Measure) -> bool:
    return any(measure.agrees(m) for m in part.measures)


def _states(part: _Part, measure: Measure) -> bool:
    """True if a text has this amount, with all its limits."""
    return any(
        measure.agrees(m)
        and (measure.unit == m.unit or measure.rivals(m))
        and (measure.unit != "count" or _counter(measure) == _counter(m))
        and not (_limits(measure) - _limits(m))
        for m in part.measures
    )


def _limits(measure: Measure) -> set[str]:
    if measure.bounds >= {"before", "from"}:
        return {"before"}  # 8시간 전부터: when it begins, no least value
    return {_SAME_LIMIT.get(limit, limit) for limit in measure.bounds} - {"every"}


_OPPOSITES = {
    "max": {"min", "over", "under"},
    "min": {"max", "under", "over"},
    "over": {"max", "under", "min"},
    "under": {"min", "over", "max"},
    "before": {"after"},
    "after": {"before"},
}


def _opposed(stated: set[str], wanted: set[str]) -> set[str]:
    """The limits of the answer that exclude one of the reference answer."""
    if stated & wanted & {"max", "min"}:
        return set()
    return {limit for limit in stated if any(limit in _OPPOSITES.get(w, set()) for w in wanted)}


_PRONOUN = re.compile(
    r"\b(?:the|this|that|each|every|first|last|next|another|which|any|no|some)\s(?:\w+\s)?$"
)


def _is_pronoun(measure: Measure, clause: _Part) -> bool:
    """True for `one` that stands for a noun: the last one leaves at nine."""
    return (
        measure.text == "one"
        and measure.unit == ""
        and _PRONOUN.search(clause.text[: clause.text.find("one")]) is not None
    )


_DENIED_AFTER = re.compile(
    r"[^\d.,]{0,6}?(?:이|가|은|는|일|도)?\s?(?:아니|아닙|아닌)|[^\d.,]{0,4}라는 것은 사실이 아"
)
_DENIED_BEFORE = re.compile(
    r"\b(?:not|isn't|never|no longer|n't)\s(?:(?:the|a|in|on|at|just|exactly)\s){0,2}$"
)


def _denied_measures(part: _Part) -> dict[int, str]:
    """{start of a measure that the text denies: the words}."""
    denied = {}
    for measure in part.measures:
        after = _DENIED_AFTER.match(part.text, measure.end)
        before = _DENIED_BEFORE.search(part.text[: measure.start])
        exempt = measure.bounds & {"max", "min"} and before is not None
        if after is not None or (before is not None and not exempt):
            denied[measure.start] = part.text[measure.start : measure.end + 12]
    return denied


def _denied_words(part: _Part, match: re.Match[str]) -> list[_Word]:
    """The words that a denial hangs on: the one before it in Korean, those around it in English."""
    before = [w for w in part.words if w.start < match.start()]
    after = [w for w in part.words if w.start >= match.end() - 1]
    if match.lastgroup == "english":
        return [*before[-2:], *after[:3]]
    if match.lastgroup == "word":
        return [*before[-2:], *after[:1]]
    return before[-2:]


def _all_denied(clause: _Part) -> list[list[_Word]]:
    """The words that each denial of a clause hangs on; none where it denies an amount."""
    return [_denied_words(clause, match) for match in DENIALS.finditer(clause.rest)]


def _content(part: _Part) -> list[_Word]:
    return [w for w in part.words if not _is_form(w)]


def _share(word: _Word, other: _Word) -> bool:
    return not set(word.stems).isdisjoint(other.stems)


def _share_stem(words: Sequence[_Word], others: Sequence[_Word]) -> bool:
    """True if two denials have a word in common."""
    mine = [w for w in words if not _is_form(w)] or words
    theirs = {stem for w in others for stem in w.stems}
    for word in mine:
        if not theirs.isdisjoint(word.stems):
            return True
        stem = word.stems[-1]
        if stem[0].isascii():
            if any(len(o) > 2 and _same_english(stem, o) for o in theirs):
                return True
        elif any(
            o[:1] == stem[:1] and (len(o) == 1 or len(stem) == 1 or o[:2] == stem[:2])
            for o in theirs
        ):
            return True
    return False


def _bounded(part: _Part) -> str:
    """The words of a text with a mark between them; several stems of a word are written `|`."""
    return " " + " ".join("|".join(w.stems) for w in part.words) + " "


def _is_stated(word: _Word, bounded: str, answer: _Part) -> bool:
    """True if the answer has this word as a whole one, maybe written in several."""
    pieces = [piece.split("|") for piece in bounded.split()]
    targets = set(word.stems)
    short = {stem for stem in targets if len(stem) > 1} or targets
    for index, stems in enumerate(pieces):
        if not short.isdisjoint(stems):
            return True
        joined = stems[0]
        for later in pieces[index + 1 : index + 4]:
            if any((joined + stem) in short for stem in later):
                return True
            joined += later[0]
    english = word.text[0].isascii() and len(word.text) > 3
    stems = [stem for w in answer.words for stem in w.stems] if english else []
    return any(_same_english(word.stems[-1], stem) for stem in stems) or _has_synonym(
        word, [answer]
    )


_AUXILIARIES = frozenset(
    [
        "is",
        "are",
        "be",
        "been",
        "was",
        "were",
        "has",
        "have",
        "can",
        "may",
        "must",
        "should",
        "will",
        "would",
        "to",
        "they",
        "it",
        "he",
        "she",
        "you",
        "we",
    ]
)


def _is_verb(word: _Word, clause: _Part) -> bool:
    """True for a word that can only be the verb of its clause, by its form and place."""
    if "가" <= word.text[0] <= "힣":
        last = [w for w in clause.words if not _is_form(w)][-1]
        following = clause.text[word.end :]
        if re.search("(?:하는|되는|하던|되던)$", word.text):
            return True
        if word is not clause.words[-1] and _CONVERB.search(word.text):
            return True
        if word is last and _VERB_BEFORE.match(following) and not _PARTICLE.search(word.text):
            return True
        return (
            word is last
            and _PREDICATE.search(word.text) is not None
            and _NOUN_WITH_COPULA.search(word.text) is None
        )
    before = [w.text for w in clause.words if w.end <= word.start][-1:]
    gerund = word.text.endswith("ing") and before != [] and before[0] in GRAMMAR_WORDS
    return gerund or (before != [] and (before[0] in _AUXILIARIES or before[0].endswith("ly")))


_CONVERB = re.compile("[가-힣](?:여|어|아|해|와|려|겨|서|면서)$")
_NOUN_WITH_COPULA = re.compile(
    "(?:입니다|이에요|예요|이다|이며|이고|이지만|인데|임|이야|일까|이라고)$"
)
_VERB_BEFORE = re.compile(r"\s(?:수|줍|주|드립|드려|있|보|두|놓|버리)")
_PREDICATE = re.compile("(?:다|요|음|함|됨|며|고|면|지만|는데|까)$")


@lru_cache(maxsize=4096)
def _nouns(text: str) -> tuple[tuple[int, int, str], ...] | None:
    """The nouns of a Korean text; None without the analyser, where each word counts as one."""
    try:
        return tuple(nouns(text))
    except MachineError:
        return None


_CAPITAL = re.compile(
    r"(?<![.!?]\s)(?<!^)\b[A-Z][\w&-]*|\b[A-Z][A-Z\d][\w-]*|\b\w*\d\w*[A-Za-z]\w*"
)


def _proper_names(text: str) -> frozenset[str]:
    """Names and codes of a text, folded: capitals within an English one, Latin words in Korean."""
    if HANGUL_SYLLABLE.search(text):
        return frozenset(m[0].lower() for m in re.finditer(r"[A-Za-z][\w&-]*", text))
    return frozenset(m[0].lower() for m in _CAPITAL.finditer(text))


def _is_short_code(words: Sequence[_Word]) -> bool:
    """True for `B`: a letter has no other words."""
    return any(len(w.text) == 1 and w.text.isascii() for w in words)


def _items(part: _Part) -> int:
    """How many things a text lists."""
    return len([item for item in re.split(rf"{_LIST.pattern}|\n", part.text) if item.strip(" -*.")])


def _is_list(part: _Part) -> bool:
    return _LIST.search(part.text) is not None


def _is_only_verb(word: _Word, part: _Part) -> bool:
    """True for a Korean word without any noun in it: 누른다."""
    if not "가" <= word.text[0] <= "힣" or (read := _nouns(part.text)) is None:
        return False
    return not any(start < word.end and end > word.start for start, end, _ in read)


def _names_something(word: _Word, clause: _Part, known: Sequence[_Part]) -> bool:
    """True for a word that no known text has and that is more than grammar.

    Verbs of Korean are left to what they stand beside: rules and answers use too many for one
    matter (받다, 수령하다, 가져가다), and an answer that is wrong by its verb alone is rare.
    """
    if word.text.startswith(_LIMIT_WORDS):
        return True
    if not "가" <= word.text[0] <= "힣":
        return word.text not in GRAMMAR_WORDS
    read = _nouns(clause.text)
    if read is None:
        return True
    return any(
        start < word.end
        and end > word.start
        and len(noun) > 1
        and (noun not in FORM_WORDS or noun in CLAIM_WORDS)
        and not any(noun in part.letters for part in known)
        and not _has_synonym(_Word(noun, (noun,), start, end), known)
        for start, end, noun in read
    )


def _is_known(word: _Word, parts: Sequence[_Part]) -> bool:
    return any(part.has(word) for part in parts) or _has_synonym(word, parts)


def _has_synonym(word: _Word, parts: Iterable[_Part]) -> bool:
    """True if a text has another word of the same meaning."""
    names = [name for group in SAME_MEANING if not group.isdisjoint(word.stems) for name in group]
    return bool(names) and any(
        name in part.spans or (not name.isascii() and len(name) > 1 and name in part.letters)
        for part in parts
        for name in names
    )
