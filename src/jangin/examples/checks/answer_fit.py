"""Questions that are statements, and answers that do not answer.

Small models write statements in place of questions, answers that the question already says, and
reasons that their source does not give. Measured on rows of one: `bench/grounding`.
"""

import re

from jangin.core.reasons import Reason
from jangin.text.korean import PARTICLE_OR_COPULA
from jangin.text.normalize import folded_words, letters_only

_STATEMENT = re.compile(r"다\s*[?.]?$|확인(?:해\s*보|하)(?:세요|십시오)\s*[?.]?$")
_INDIRECT = re.compile(r"궁금|알고 싶|문의|부탁|바랍|원합|여쭙|알려")
"""Words of a question in the form of a statement."""
_HANGUL = re.compile("[가-힣]")
_ASKING = re.compile(
    r"(?:what|when|where|which|who|whom|whose|why|how|is|are|was|were|do|does|did|can|could|may|must"
    r"|should|will|would|has|have|in|on|at|for|from|to|by|with|under|after|before|describe|explain"
    r"|list|name|state|give|define|tell|summari[sz]e|outline|identify|compare)\b",
    re.IGNORECASE,
)
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
_WHY = re.compile(r"이유|(?<![가-힣])왜(?![가-힣])|\b(?:why|reasons?)\b", re.IGNORECASE)
_CAUSE = re.compile(
    r"때문|위하여|위해|위한|므로|니까|어서|아서|여서|해서|이유|따라|덕분|탓|으로 인|목적|까닭|대신"
    r"|방지|예방|면서"
    r"|\b(?:because|since|so|as|for|to|due|reasons?|cause[sd]?|therefore|why|when|order)\b",
    re.IGNORECASE,
)


def question_problem(question: str) -> Reason:
    """Why a question is none; empty for one that asks or requests something."""
    text = question.strip()
    if _HANGUL.search(text):
        is_statement = _STATEMENT.search(text) and not _INDIRECT.search(text)
        return Reason("statement" if is_statement else "")
    is_statement = text.endswith((".", "!")) and not _ASKING.match(text)
    return Reason("statement" if is_statement else "")


def answer_problem(question: str, answer: str, text: str) -> Reason:
    """Why an answer does not answer its question about a text; empty for one that may."""
    letters = letters_only(answer)
    if not letters or letters in _ONE_PARTICLE:
        return Reason("no_word")
    if letters not in _YES_NO and _says(question, answer) and not _CHOICE.search(question):
        return Reason("says_answer")
    time = _KOREAN_TIME if _HANGUL.search(answer) else _ENGLISH_TIME
    if _WHEN.search(question) and not time.search(answer):
        return Reason("no_time")
    if _WHY.search(f"{question} {answer}") and not _CAUSE.search(text):
        return Reason("no_cause")
    return Reason()


def _says(question: str, answer: str) -> bool:
    """True if each word of the answer begins a word of the question, particles ignored."""
    words = folded_words(question)
    stems = [PARTICLE_OR_COPULA.sub("", word) for word in folded_words(answer)]
    return all(any(word.startswith(stem) for word in words) for stem in stems)
