"""Acceptance checks for rows that a teacher wrote; each check is a rule with a reason.

evidence         the evidence is not in the source, or too short to say the answer
self_contained   the question refers to a text that its reader does not have
question         it is a statement, or has one word that says what it is about
answer           the question already says it, it has no word, gives a reason of its own, or counts
                 something else than the source
language         question or answer is in another language than the source
grounded         a number or a name of the answer is not in the source
words            too few of the answer's words are in the source
repeated         the same question was already asked about this document
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.reasons import Reason
from jangin.core.records import Score
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.text.content_words import proper_names
from jangin.text.grounding import check_answer, support, without_label
from jangin.text.korean import NOUN_PARTICLES, PARTICLE_OR_COPULA
from jangin.text.language import language_problem
from jangin.text.normalize import folded_words, letters_only

# Questions that are statements, and answers that do not answer.
#
# Small models write statements in place of questions, answers that the question already says, and
# reasons that their source does not give. Measured on rows of one: `bench/grounding`.


_STATEMENT = re.compile(
    r"(?:다|다는가요|[는은된한낸]지|확인(?:해\s*[보주]|하)(?:세요|십시오))\s*[?.]?$"
)
_INDIRECT = re.compile(r"궁금|알고 싶|문의|부탁|바랍|원합|여쭙|알려")
"""Words of a question in the form of a statement."""
_HANGUL = re.compile("[가-힣]")
_ASKING = re.compile(
    r"(?:what|when|where|which|who|whom|whose|why|how|is|are|was|were|do|does|did|can|could|may|must"
    r"|should|will|would|has|have|in|on|at|for|from|to|by|with|under|after|before|describe|explain"
    r"|list|name|state|give|define|tell|summari[sz]e|outline|identify|compare)\b",
    re.IGNORECASE,
)
_SAYS_NO_SUBJECT = re.compile(
    r"what|when|where|which|who|whom|whose|why|how|is|are|was|were|be|been|being|do|does|did|done"
    r"|can|could|may|might|must|shall|should|will|would|has|have|had|the|an?|this|that|these|those"
    r"|its?|they|their|there|of|in|on|at|for|from|to|by|with|and|or|if|as|many|much|long|often|old"
    r"|happens?|need(?:s|ed)?|purpose|difference|means?",
    re.IGNORECASE,
)
"""Words of an English question that do not say what it is about."""
_CHOICE = re.compile(
    r"또는|혹은|아니면|이나 |거나|가운데|중에|(?<![가-힣])중(?![가-힣])"
    r"|\b(?:or|either|whether|which)\b",
    re.IGNORECASE,
)
_YES_NO = frozenset(("예", "네", "아니요", "아니오", "yes", "no"))
_ONE_PARTICLE = frozenset("은는이가을를의에도로와과")
_WHEN = re.compile(r"(?<![가-힣])언제|^when\b", re.IGNORECASE)
_KOREAN_TIME = re.compile(
    r"\d\s*(?:시(?!간)|월|일|년|분|주|세기|:\d)|\d{3,4}|오전|오후|아침|저녁|낮|밤|새벽|정오|자정"
    r"|[전후뒤때날초말](?![가-힣])|[전후뒤때날초말](?:에|까지|부터|마다|이|은|입|이다)|이내|안에|동안|(?<![가-힣])[안내](?![가-힣])|영업일|까지|부터"
    r"|요일|매[주월년일]|[주월년일]말|당일|즉시|이듬해|다음|지금|현재|계절|봄|여름|가을|겨울|시기|시대|세기"
    r"|무렵|연휴|명절"
)
_ENGLISH_TIME = re.compile(
    r"\d|\b(?:before|after|when|during|until|by|on|at|from|every|each|daily|weekly|monthly|once|noon"
    r"|as soon|morning|afternoon|evening|night|day|week|month|year|today|immediately|january|may"
    r"|february|march|april|june|july|august|september|october|november|december|\w+days?)\b",
    re.IGNORECASE,
)
_WHY = re.compile(r"이유|(?<![가-힣])왜(?![가-힣])|\b(?:why|reasons?|purpose)\b", re.IGNORECASE)
_CAUSE = re.compile(
    r"때문|위하여|위해|위한|므로|니까|어서|아서|여서|해서|이유|따라|덕분|탓|으로 인|목적|까닭|대신"
    r"|방지|예방|면서"
    r"|\b(?:because|since|so|as|for|to|due|reasons?|cause[sd]?|therefore|why|when|order)\b",
    re.IGNORECASE,
)


_SPELLED = (
    *("한|one", "두|two", "세|three", "네|four", "다섯|five"),
    *("여섯|six", "일곱|seven", "여덟|eight", "아홉|nine", "열|ten"),
)
"""The numbers from one in words."""
_COUNT = re.compile(
    rf"(?<![가-힣A-Za-z\d.,])(?P<number>\d+(?:[.,]\d+)*|{'|'.join(_SPELLED)})"
    r"[\s-]?(?P<counted>(?![만천백십억조])[가-힣]|[a-z])",
    re.IGNORECASE,
)
"""A number, and the first letter of what it counts."""
_MOST_WORDS = 4
"""Of an answer that is little more than an amount, and of a quotation that is a heading."""
_SAID = 0.5
"""Share of the answer's words that a quotation of so few words must have."""


def question_problem(question: str) -> Reason:
    """Why a question is none; empty for one that asks or requests something."""
    text = question.strip()
    if _HANGUL.search(text):
        is_statement = _STATEMENT.search(text) and not _INDIRECT.search(text)
        return Reason("statement" if is_statement else "")
    if text.endswith((".", "!")) and not _ASKING.match(text):
        return Reason("statement")
    return Reason("vague" if _is_vague(text) else "")


def _is_vague(question: str) -> bool:
    """True for an English question like "What does the female do?": one word, and no name."""
    words = re.findall(r"[A-Za-z\d][\w'’-]*", question)
    if any(re.search(r"[A-Z\d]", word) for word in words[1:]):
        return False
    return bool(words) and sum(not _SAYS_NO_SUBJECT.fullmatch(word) for word in words) < 2


def answer_problem(question: str, answer: str, evidence: str, text: str) -> Reason:
    """Why an answer does not answer its question about a text; empty for one that may."""
    letters = letters_only(answer)
    if not letters or letters in _ONE_PARTICLE:
        return Reason("no_word")
    if letters not in _YES_NO and _says(question, answer) and not _CHOICE.search(question):
        return Reason("says_answer")
    time = _KOREAN_TIME if _HANGUL.search(answer) else _ENGLISH_TIME
    if _WHEN.search(question) and not time.search(answer):
        return Reason("no_time")
    if _WHY.search(f"{question} {answer}") and not _CAUSE.search(evidence):
        return Reason("no_cause")
    if len(answer.split()) <= _MOST_WORDS and (count := _other_count(answer, text)):
        return Reason("other_count", text=count)
    return Reason()


def _other_count(answer: str, text: str) -> str:
    """An amount of the answer whose number counts something else everywhere in a text, or ""."""
    for match in _COUNT.finditer(answer):
        in_source = re.finditer(
            rf"(?<![가-힣A-Za-z\d.,])(?:{_spellings(match['number'])})(?!\d|[.,]\d)[ -]?(.?)",
            text,
            re.IGNORECASE,
        )
        around = {(text[: number.start()][-1:], number[1].lower()) for number in in_source}
        counted = match["counted"].lower()
        if around and not any(_may_count(before, after, counted) for before, after in around):
            return answer
    return ""


def _spellings(number: str) -> str:
    """The source of a pattern for a number in digits and in words."""
    for value, words in enumerate(_SPELLED, start=1):
        if number.lower() in (str(value), *words.split("|")):
            return f"{value}|{words}"
    return re.escape(number)


def _may_count(before: str, after: str, counted: str) -> bool:
    """Whether a number between two characters may count what begins with a letter."""
    is_cell = not after or after in "|)%℃°\t\"'" or before in tuple("$€£¥₩")
    return is_cell or after == counted


def is_said(answer: str, evidence: str) -> bool:
    """Whether a quotation may say the answer: not if it is a heading or a few other words."""
    words = without_label(evidence)
    if len(words.split()) > _MOST_WORDS or letters_only(answer) in letters_only(words):
        return True
    return check_answer(answer, words).words >= _SAID


def _says(question: str, answer: str) -> bool:
    """True if each word of the answer begins a word of the question, particles ignored."""
    words = folded_words(question)
    stems = [PARTICLE_OR_COPULA.sub("", word) for word in folded_words(answer)]
    return all(any(word.startswith(stem) for word in words) for stem in stems)


# Questions that point at a text which the reader does not have: "위 조항", "the passage above".


_END = rf"{NOUN_PARTICLES}(?![가-힣])"
_ONE_SYLLABLE = "조|항|호|절|장|표|글"
_LONGER = (
    "조항|조문|규정|규칙|약관|본문|문서|문단|문장|단락|내용|항목|그림|도표|자료|텍스트|예시|예문|보기|"
    "사례|설명|대목|구절|발췌문|기사|페이지"
)
_KOREAN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![가-힣])(?:위|앞|본|이|해당|아래|다음|상기|이번|주어진|제시된)의?\s+(?:{_ONE_SYLLABLE}){_END}",
        rf"(?<![가-힣])(?:위|앞|본|해당|아래|다음|상기|주어진|제시된)의?\s*(?:{_LONGER}){_END}",
        rf"(?<![가-힣])이\s+(?:{_LONGER}){_END}",
        r"^(?:이|그|이번)\s+(?!회사)[가-힣]+",
        rf"(?<![가-힣])(?:본문|발췌문|전항|전조|전호){_END}",
        # A 지문 is a fingerprint, too.
        r"(?<![가-힣])지문(?:에서는|에서|에|상)(?![가-힣])",
        r"(?<![가-힣])(?:위|앞|아래)(?:에서|에)?\s*(?:말한|언급된|언급한|설명된|설명한|제시된|나온|적힌|기술된|열거된)",
        r"(?<![가-힣])다음\s+중(?![가-힣])",
        r"(?:첫|두|세|네|다섯)\s*번째\s+(?:조항|항|호|문장|문단|단락)(?:에|은|의|이|을)",
        r"(?<![가-힣])(?:표|그림|글|문서)에\s*(?:따르면|의하면|나온|제시된|언급된)",
    )
)
_NOUNS = (
    "texts?|passages?|paragraphs?|sections?|documents?|articles?|excerpts?|tables?|figures?|charts?|"
    "clauses?|chapters?|pages?|contexts?|snippets?|sentences?|lists?|extracts?|materials?|contents?"
)
_TOLD = "(?:mentioned|described|listed|shown|stated|discussed|quoted|given)"
_ENGLISH = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bth(?:is|ese) (?:{_NOUNS})\b",
        rf"\bthe (?:above|below|following|preceding|previous|given|provided|aforementioned)"
        rf"(?: \w+)? ?(?:{_NOUNS})?\b",
        rf"\bthe (?:\w+ )?(?:{_NOUNS}) (?:above|below|provided|given)\b",
        r"\bthe (?:passage|excerpt|text|snippet)s?\b",
        rf"\b(?:according to|based on|as (?:per|stated in)|in light of) the (?:{_NOUNS}|author)\b"
        r"(?! (?:of|for|on|about)\b)",
        rf"\b{_TOLD} (?:above|below|here)\b",
        rf"\b{_TOLD} in the (?:{_NOUNS})\b(?! (?:of|for|on|about)\b)",
        r"\b(?:which|what|one) of the following\b",
        r"\b(?:see|as) (?:above|below)\b",
    )
)


def pointer(question: str) -> str:
    """The words that point at a text beside the question; empty where there are none."""
    for pattern in (*_KOREAN, *_ENGLISH):
        match = pattern.search(question)
        if match:
            return match[0].strip()
    return ""


SHORT = 12
"""Answers of at most this many words must share their words with the source; longer ones
explain in words of their own."""


@dataclass(frozen=True, slots=True)
class AcceptanceThresholds:
    """How strict the checks are; 0 or False turns a check off."""

    min_support: float = 0.0
    min_grounded: float = 0.0
    min_shared_words: float = 0.0
    self_contained: bool = False
    same_language: bool = False
    distinct: bool = False


class PassageRow(NamedTuple):
    """A row about a passage, with all that its checks look at."""

    question: str
    answer: str
    evidence: str
    text: str
    """The chunk."""
    source: str
    """The chunk with its section."""
    language: str
    compare_words: bool = True
    """False leaves out the check `words`, for answers that need not be short."""
    is_asked_alone: bool = True
    """False leaves out the checks of the question, which has a text of its own in it."""


class SummaryRow(NamedTuple):
    """A summary with the inputs of its checks."""

    summary: str
    source: str
    """The chunk with its section."""
    language: str


class AnswerRow(NamedTuple):
    """An answer from the snippets of a search, with all that its checks look at."""

    question: str
    answer: str
    source: str
    """The question with all snippets."""
    used: str
    """The question with the snippets that the answer names; empty where there are none."""
    language: str


CheckedRow = PassageRow | SummaryRow | AnswerRow


def check_row(row: CheckedRow, thresholds: AcceptanceThresholds) -> Decision:
    """The first check that a row fails, or the scores of a row that passes all."""
    if isinstance(row, SummaryRow):
        return _check_summary(row, thresholds)
    if isinstance(row, AnswerRow):
        return _check_answer(row, thresholds)
    supported = check_evidence(row.evidence, row.text, thresholds)
    if not supported.keep:
        return supported
    if row.is_asked_alone:
        standalone = check_question(row.question, row.answer, row.source, row.language, thresholds)
        if not standalone.keep:
            return standalone
        fit = check_fit(row, thresholds) if row.compare_words else KEEP
        if not fit.keep:
            return fit
    source = f"{row.source}\n{row.question}"
    grounded = check_grounding(row.answer, source, thresholds, compare_words=row.compare_words)
    if not grounded.keep:
        return grounded
    is_checked = thresholds.min_support and row.is_asked_alone and row.compare_words
    if is_checked and not is_said(row.answer, row.evidence):
        return drop("evidence", Reason("short_evidence", text=row.evidence))
    return Decision(scores=supported.scores + grounded.scores)


def _check_summary(row: SummaryRow, thresholds: AcceptanceThresholds) -> Decision:
    if thresholds.same_language:
        problem = language_problem(row.summary, "", row.source, row.language)
        if problem:
            return drop("language", problem)
    return check_grounding(row.summary, row.source, thresholds, compare_words=False)


def _check_answer(row: AnswerRow, thresholds: AcceptanceThresholds) -> Decision:
    standalone = check_question(row.question, row.answer, row.source, row.language, thresholds)
    if not standalone.keep or not row.used:
        return standalone
    return check_grounding(row.answer, row.used, thresholds)


ROWS_AT_ONCE = 200
"""Rows of one call of an executor: about a second where Korean names are read."""
SPREAD_FROM = 5_000
"""Rows from which on other processes pay, each of which loads Kiwi (3.5 s)."""


def check_rows(
    rows: Sequence[CheckedRow], thresholds: AcceptanceThresholds, executor: Executor
) -> list[Decision]:
    """`check_row` of each; many are checked by the executor.

    Raises: MachineError: a text has Hangul and kiwipiepy is not installed.
    """
    starts = range(0, len(rows), ROWS_AT_ONCE)
    items = (rows[start : start + ROWS_AT_ONCE] for start in starts)
    spread = executor if len(rows) >= SPREAD_FROM else InProcess()
    decisions: list[Sequence[Decision]] = [()] * len(starts)
    work = partial(_check_some, thresholds)
    for index, some in map_all(spread, work, items, "checked rows of the teacher"):
        decisions[index] = some
    return [decision for some in decisions for decision in some]


def _check_some(thresholds: AcceptanceThresholds, rows: Sequence[CheckedRow]) -> list[Decision]:
    return [check_row(row, thresholds) for row in rows]


def check_evidence(evidence: str, text: str, thresholds: AcceptanceThresholds) -> Decision:
    """Drop a row whose evidence is not in the text; the score `support` of one that is kept."""
    share = max(support(evidence, text), support(without_label(evidence), text))
    if share < thresholds.min_support:
        return drop("evidence", Reason("evidence", share=share, limit=thresholds.min_support))
    return Decision(scores=(Score(scorer="support", kind="rule", value=share),))


def check_fit(row: PassageRow, thresholds: AcceptanceThresholds) -> Decision:
    """Drop a row whose question is none, or whose short answer does not answer it."""
    if thresholds.self_contained and (problem := question_problem(row.question)):
        return drop("question", problem)
    if thresholds.min_shared_words:
        evidence = row.evidence if thresholds.min_support else row.text
        problem = answer_problem(row.question, row.answer, evidence, row.text)
        if problem:
            return drop("answer", problem)
    return KEEP


def check_question(
    question: str, answer: str, source: str, language: str, thresholds: AcceptanceThresholds
) -> Decision:
    """Drop a row whose question needs a text beside it, or that is in another language."""
    if thresholds.self_contained and (words := pointer(question)):
        return drop("self_contained", Reason("pointer", words=words))
    if thresholds.same_language:
        problem = language_problem(question, answer, source, language)
        if problem:
            return drop("language", problem)
    return KEEP


def check_grounding(
    answer: str, source: str, thresholds: AcceptanceThresholds, *, compare_words: bool = True
) -> Decision:
    """Drop a row whose answer is not in the source; the score `grounded` of one that is kept.

    `compare_words=False` leaves out the check `words`, for answers that need not be short.
    """
    if not thresholds.min_grounded and not thresholds.min_shared_words:
        return KEEP
    names = proper_names([answer])[0] if thresholds.min_grounded else ()
    grounding = check_answer(answer, source, names)
    if grounding.grounded < thresholds.min_grounded:
        missing = ", ".join(grounding.missing)
        return drop(
            "grounded",
            Reason(
                "grounded",
                missing=missing,
                share=grounding.grounded,
                limit=thresholds.min_grounded,
            ),
        )
    short = compare_words and len(answer.split()) <= SHORT
    if short and grounding.words < thresholds.min_shared_words:
        return drop(
            "words",
            Reason("words", share=grounding.words, limit=thresholds.min_shared_words),
        )
    return Decision(scores=(Score(scorer="grounded", kind="rule", value=grounding.grounded),))
