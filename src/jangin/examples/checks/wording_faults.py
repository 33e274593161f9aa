"""What is wrong with a question or an answer as it is written, whatever the passage says.

Each check returns the words at fault, as they are written, or an empty text. They are reasons to
look at a row, not to drop it: a rare right row is among what they return.
"""

import re
from functools import cache
from typing import Literal

from jangin.core.errors import MachineError
from jangin.examples.checks.row_checks import pointer
from jangin.text.korean import kiwi
from jangin.text.language import HANGUL
from jangin.text.normalize import collapse_spaces
from jangin.text.quantities import quantities, readings

Wanted = Literal["", "number", "time", "person", "place"]
"""What a question asks for, as far as its words say so."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENDS = " \t\n?？!.,;:~…\"'”’)）]"
_PARTICLE_PAIR = re.compile(
    r"[(（](?:은|는|이|가|을|를|와|과|으로|로|이나|나)[)）](?=\S)|"
    r"(?:은|이|을|과|와|는|가|를|으)[(（](?:은|는|이|가|을|를|와|과|로)[)）]"
)
"""What a template left: 은(는), 을(를)."""
_GAP = re.compile(r"\{\w*\}|<[A-Za-z_]+>|\[[A-Z_]+\]|_{2,}|\?{3,}|�|[○◯□]{2,}")
_DOUBLED = re.compile(r"[가-힣](?:은는|는은|을를|를을|에에)(?=\s)|(?<![\w-])(\w{2,}) \1(?![\w-])")
_ASKED = r"(?:얼마|언제|누구|누가|어디|무엇|며칠|몇|어떻게|어떤|어느|무슨|왜)"
_BEFORE_ASKED = re.compile(rf"(\S+) ({_ASKED}\S*)")
_BARE_COPULA = re.compile(
    r"(?:^|\s)(?:인가요|인가|입니까|인지요|이에요|예요|일까요|인가여)(?=[\s?.]|$)"
)
_NO_NOUN_BEFORE = re.compile(r"^(?:은|는|을|를|의|에|와|에서|으로|까지|부터|에게)(?=\s)")
_OPEN_END = _words("몇 어떤 무슨 어느 및 또는 그리고 위한 대한 따른 관한 있는")
_WH = re.compile(
    r"\b(?:what|which|who|whom|whose|how|when|where|why|what's|who's|how's)\b", re.IGNORECASE
)
_AUXILIARY = (
    r"(?:is|are|was|were|do|does|did|can|could|may|might|must|should|will|would|has|have|had|am|"
    r"isn't|aren't|don't|doesn't|can't)"
)
_ASKS_ENGLISH = re.compile(rf"(?:^|[,:;]\s+|\b(?:then|and|or)\s+){_AUXILIARY}\b", re.IGNORECASE)
_ENGLISH_OPEN = _words(
    "the a an and or than their his its your our my this these those every each "
    "is are be been can must should may will does do has have if whether because "
    "which how what per"
)
_ENGLISH_PREPOSITION = _words("of to for from in on at by with about within until")
_STATED = re.compile(r"(?:다|음|됨|함|임)[.!]?$|(?:한다|된다|이다|있다|없다|니다)\?$")
_TASK = re.compile(
    r"(?:설명|서술|기술|요약|논|나열|열거|정리|비교|분석|토론|논의)(?:해|하|하여)?\s?"
    r"(?:주세요|주십시오|줘|보세요|보시오|봐|하시오|하십시오|하세요|하라|해라|시오|라|세요|십시오)[.?!]?$"
)
_TASK_ENGLISH = re.compile(
    r"^(?:please\s+)?(?:explain|describe|summari[sz]e|discuss|outline|list|elaborate|compare|"
    r"analy[sz]e|define|write)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(
    r"제\s?\d+\s?(?:조|항|호|절|장|편)(?:의\s?\d+)?|"
    r"(?:첫|두|세|네|다섯|마지막|이전|다음)\s?번?째?\s?(?:조항|조문|항목|문장|단락|문단)|"
    r"\b(?:article|section|clause|paragraph|chapter|annex|appendix)s?\s+(?:\d+|[ivx]+\b)|"
    r"\b(?:first|second|third|last|previous|next)\s+(?:article|clause|paragraph|sentence|item|"
    r"bullet|row|column)\b",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"^(?:그|이|위|해당|이때|그때|여기서?|거기서?|이것|그것|이들|그들|이러한|그러한|이런|그런|"
    r"이\s경우|그\s경우|전자|후자)(?:은|는|이|가|을|를|의|에|도)?\s|"
    r"(?<![가-힣])(?:이것|그것|이곳|그곳|이들|그들)(?:은|는|이|가|을|를|의|에)\s|"
    r"^(?:what|how|when|where|who)\s+(?:is|are|does|do|can|must)\s+(?:it|they|this|that|these|those)\b"
    r"(?!\s+(?:possible|allowed|necessary|required|take|cost|mean|happen))|"
    r"^(?:and|but|also|then)\b|\bin (?:this|that) case\b|\bthe (?:former|latter)\b|"
    r"^(?:그리고|또한?|그러면|그럼)\s",
    re.IGNORECASE,
)
_PARTICLES = _words(
    "은 는 이 가 을 를 의 에 도 만 와 과 로 으로 에서 에게 까지 부터 마다 보다 처럼 및 등 "
    "또는 그리고 또 또한 다만 단 때 것 수 "
    "바 중 후 전 내 외 간 시 이다 입니다 한다 합니다 된다 있다 없다 하며 하고"
)
_BROKEN_END = re.compile(
    r"(?:[가-힣](?:을|를|으로서|에게|에서는|하는|되는|하며|하고|하여|한다면)|(?:^|\s)(?:및|또는|그리고|등의|위한|대한|관한|따른))$"
)
_BROKEN_END_ENGLISH = re.compile(
    r"(?:^|\s)(?:the|a|an|and|or|of|to|for|from|by|with|than|that|which|within|at|is|are|per)$",
    re.IGNORECASE,
)
_BROKEN_START = re.compile(
    r"^(?:은|는|을|를|의|에|와|과|에서|으로|까지|부터|에게|이며|이고|하며|하고|및|[,.;:)\]」』])(?=\s|$)|^[,;)\]]"
)
_RESIDUE = re.compile(
    r"```|</?[A-Za-z]+\d?>|"
    r"\"\s*:\s*[\"\[{]|^\s*[{\[]\s*\"|\*\*|^\s*#{1,4} |\\n|^\s*(?:답변?|정답|질문|문|A|Q|"
    r"answer|question)\s*[:：]|\bas an ai\b|\{\w+\}|<\|",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSED = re.compile(
    r"알 수 없(?:습니다|다|음|어요)|명시(?:되어|돼)\s?(?:있지 않|있지않)|나와 ?있지 않|"
    r"언급되(?:지 않|어 있지 않)|"
    r"(?:문서|본문|자료|지문|규정)에\s?(?:는\s?)?없(?:습니다|음|다)|죄송|찾을 수 없|"
    r"\b(?:not (?:mentioned|specified|stated|provided|given|available) in|"
    r"cannot be (?:determined|answered)|"
    r"i (?:do not|don't|cannot|can't) (?:know|find|answer)|no information|i'm sorry|as an ai)\b",
    re.IGNORECASE,
)
_NUMBER_ASKED = re.compile(
    r"얼마(?!나 자주)|(?<!몇)몇(?!몇)|며칠|how (?:many|much|long|old|far|large|high|often)|"
    r"what (?:percentage|percent|amount|number|fee|price|age)\b",
    re.IGNORECASE,
)
_TIME_ASKED = re.compile(
    r"언제(?!나)|몇 시|몇 월|며칠까지|\bwhen\b|by what (?:date|time)", re.IGNORECASE
)
_PERSON_ASKED = re.compile(r"누구|누가|\bwho(?:m|se)?\b", re.IGNORECASE)
_PLACE_ASKED = re.compile(r"어디|\bwhere\b", re.IGNORECASE)
_AMOUNT_WORDS = re.compile(
    r"하나|둘|셋|넷|다섯|여섯|일곱|여덟|아홉|열|스물|첫|전액|무료|전부|모두|없|절반|무제한|제한|한도|실비|[일이삼사오육칠팔구십백천만]+\s?(?:원|일|회|년|명|배|개월)|하루|이틀|"
    r"사흘|나흘|닷새|열흘|보름|반|약간|한\s?\w|두\s?\w|세\s?\w|네\s?\w|매(?:일|주|월|년|달)|날마다|달마다|해마다|배액|"
    r"\b(?:none|no|free|all|half|full|nothing|unlimited|double|daily|weekly|monthly|yearly|annually|quarterly|"
    r"forever|indefinitely|hundred|thousand|every)\b",
    re.IGNORECASE,
)
_TIME_WORDS = re.compile(
    r"[일월화수목금토]요일|주말|평일|공휴일|매(?:일|주|월|년|달|학기|분기|해)|전|후|까지|부터|이내|즉시|바로|지체|당일|말일|초|말|중|"
    r"때|날|시|봄|여름|가을|겨울|학기|분기|기간|경우|상시|수시|언제|오전|오후|정오|자정|아침|저녁|밤|낮|다음|지난|올해|내년|"
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|week|month|year|day|before|after|until|within|during|immediate"
    r"|once|every|upon|noon|midnight|morning|evening|semester|spring|summer|autumn|fall|winter|time|end|start|if"
    r"|when|deadline|\b(?:january|february|march|april|may|june|july|august|september|october|november|december)",
    re.IGNORECASE,
)


def cut_off(question: str) -> str:
    """The words at which a question is broken: its end is missing, or a part in the middle."""
    text = collapse_spaces(question)
    for pattern in (_PARTICLE_PAIR, _GAP, _DOUBLED):
        if match := pattern.search(text):
            return match[0].strip()
    if text.endswith(("…", "...", ",", ":", "-", "(", "/")) or not _balanced(text):
        return text[-12:]
    return _cut_off_korean(text) if HANGUL.search(text) else _cut_off_english(text)


def _cut_off_korean(text: str) -> str:
    if match := _NO_NOUN_BEFORE.search(text) or _BARE_COPULA.search(text):
        return match[0].strip()
    for before, word in _BEFORE_ASKED.findall(text):
        # "받을 수 있는 얼마인가요?": a noun is missing between the two.
        if word.startswith(("얼마", "언제", "누구", "누가", "어디", "며칠")) and _modifies(before):
            return f"{before} {word}"
    words = text.rstrip(_ENDS).split()
    if not words:
        return text
    last = words[-1]
    if last in _OPEN_END or _modifies(last):
        return last
    ending = _last_tag(last)
    open_particle = ending in ("JKO", "JKG", "JKB", "JC")
    if open_particle and last.endswith(("을", "를", "의", "와", "과", "에서", "으로", "에게")):
        return last
    if "?" not in text and ending[:1] == "J" and not re.search(_ASKED, last):
        return last
    asked_only = re.fullmatch(rf"{_ASKED}\S*(?: \S{{1,4}})?", " ".join(words))
    return " ".join(words) if asked_only else ""


def _cut_off_english(text: str) -> str:
    words: list[str] = re.findall(r"[A-Za-z0-9'’%$]+", text)
    if len(words) < 2:
        return text
    last = words[-1].lower()
    asks = bool(_WH.search(text) or _ASKS_ENGLISH.search(text))
    if last in _ENGLISH_OPEN and not (
        last in ("is", "are", "have", "do", "be") and asks and "?" in text
    ):
        return words[-1]
    of_nothing = last == "of" and not _MADE_OF.search(words[-2])
    if last in _ENGLISH_PREPOSITION and (of_nothing or not (asks and "?" in text)):
        return words[-1]
    is_bare = len(words) < 4 and _BARE_ENGLISH.fullmatch(" ".join(words).lower())
    return text if is_bare else ""


_MADE_OF = re.compile(r"made|consist|compos|out|think|know|dispos|approv|aware|tak", re.IGNORECASE)
_BARE_ENGLISH = re.compile(
    r"(?:how (?:much|many|long)|what|when|who|where)(?: (?:is|are|does|do))?(?: it)?"
)
_BRACKETS = ("()", "[]", "「」", "《》", "“”")


def _balanced(text: str) -> bool:
    return all(
        text.count(left) == text.count(right) for left, right in ("()", "[]", "「」", "《》", "“”")
    )


@cache
def _last_tag(word: str) -> str:
    """Tag of the last morpheme of a word, as Kiwi names it; empty without Kiwi."""
    try:
        tokens = kiwi().tokenize(word)
    except MachineError:
        return ""
    return f"{tokens[-1].tag}" if tokens else ""


@cache
def _modifies(word: str) -> bool:
    """True for a verb or adjective in the form before a noun: 있는, 신청할, 필요한."""
    if not HANGUL.search(word[-1:]) or not word.endswith(_ADNOMINAL):
        return False
    if len(word) < 3:  # 자는, 사는: as often a noun with its particle
        return word in _SHORT_ADNOMINAL
    try:
        tokens = kiwi().tokenize(word)
    except MachineError:
        return word in ("있는", "없는", "하는", "되는", "받는")
    return (
        bool(tokens) and tokens[-1].tag == "ETM" and len(tokens) > 1 and tokens[-2].tag[0] in "VX"
    )


_SHORT_ADNOMINAL = ("있는", "없는", "하는", "되는", "받는", "쓰는", "주는", "않는", "맞는")
_ADNOMINAL = tuple("는은을할될한된인던쓸낼줄받갈올볼킬")


def not_asked(question: str) -> str:
    """The words by which a prompt is a statement or a task, where a question is expected."""
    text = collapse_spaces(question)
    if HANGUL.search(text):
        if match := _TASK.search(text):
            return match[0]
        stated = _STATED.search(text)
        return text.split()[-1] if stated and not re.search(_ASKED, text) else ""
    if match := _TASK_ENGLISH.search(text):
        return match[0]
    asks = _WH.search(text) or _ASKS_ENGLISH.search(text)
    return text[-20:] if not asks and not text.endswith("?") and " " in text else ""


def needs_text(question: str) -> str:
    """The words by which a question depends on a text that its reader does not see."""
    text = collapse_spaces(question)
    if words := pointer(text):
        return words
    match = _POINTS.search(text) or _ARTICLE.search(text)
    return match[0].strip() if match else ""


def fragment(answer: str) -> str:
    """The words by which an answer is no answer: a particle, or a piece of a sentence."""
    text = collapse_spaces(answer).strip("\"'“”‘’ ")
    bare = text.rstrip(".,;:!?")
    if not re.search(r"\w", text) or bare in _PARTICLES:
        return text or answer
    if match := _BROKEN_START.search(text) or _BROKEN_END.search(bare):
        return match[0].strip()
    if not HANGUL.search(text) and (cut := _BROKEN_END_ENGLISH.search(bare)):
        return cut[0].strip()
    if re.fullmatch(r"[ㄱ-ㅎㅏ-ㅣ]+", bare):
        return bare
    return "" if _balanced(text) else text[-12:]


def residue(text: str) -> str:
    """Markup, JSON or a label of a prompt that was left in a text."""
    match = _RESIDUE.search(text)
    return match[0].strip() if match else ""


def refused(answer: str) -> str:
    """The words by which an answer says that it does not know."""
    match = _REFUSED.search(answer)
    return match[0] if match else ""


def wanted(question: str) -> Wanted:
    """The kind of answer that a question asks for; empty where its words leave it open."""
    kinds: list[Wanted] = []
    for pattern, kind in _KINDS:
        if pattern.search(question):
            kinds.append(kind)
    if "number" in kinds and "time" in kinds:
        kinds.remove("number")
    return kinds[0] if len(kinds) == 1 else ""


_KINDS: tuple[tuple[re.Pattern[str], Wanted], ...] = (
    (_NUMBER_ASKED, "number"),
    (_TIME_ASKED, "time"),
    (_PERSON_ASKED, "person"),
    (_PLACE_ASKED, "place"),
)
_UNIT_ASKED = re.compile(
    r"몇\s?(?P<unit>명|번|회|개월|년|시간|시|분|일|주|점|퍼센트|%|원|권|살|세)(?![가-힣]{0,1}마다)|(?P<days>며칠)|"
    r"how many (?P<english>days|weeks|months|years|hours|minutes|people|times)",
    re.IGNORECASE,
)
_AMOUNTS = _words("day week month months year hour won dollar percent clock minute")
_DURATION = ("day", "week", "month", "months", "year", "hour")


def other_kind(question: str, answer: str) -> Wanted:
    """The kind that a question asks for, where its answer is clearly of another; else empty."""
    kind = wanted(question)
    amounts = readings(answer)
    if kind == "number" and not amounts and not _AMOUNT_WORDS.search(answer):
        return kind
    if kind == "number" and amounts and _other_unit(question, answer):
        return kind
    if kind == "time" and not amounts and not _TIME_WORDS.search(answer):
        return kind
    if kind == "time" and {q.unit for q in quantities(answer)} & {
        "won",
        "dollar",
        "percent",
        "person",
    }:
        return kind
    only_amount = bool(quantities(answer)) and len(answer.split()) <= 3 and _is_amount(answer)
    return kind if kind in ("person", "place") and only_amount else ""


def _is_amount(answer: str) -> bool:
    return all(
        q.unit in (*_DURATION, "won", "dollar", "percent", "clock", "minute")
        for q in quantities(answer)
    )


def _other_unit(question: str, answer: str) -> bool:
    """True if a question names the unit of its answer, which has amounts of others only."""
    match = _UNIT_ASKED.search(question)
    if match is None:
        return False
    wanted_ones = quantities(f"1{match['unit'] or match['english'] or '일'}")
    units = {quantity.unit for quantity in readings(answer)}
    unit = wanted_ones[0].unit if wanted_ones else ""
    if not unit or "" in units:
        return False
    alike = {*_DURATION} if unit in _DURATION else {unit}
    if unit in ("times", "person", "page", "clause", "age"):
        alike = {"times", "person", "page", "clause", "age"}
    return not units & (alike | ({"minute"} if unit in ("hour", "clock") else set()))
