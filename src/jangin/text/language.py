"""Scripts, languages and stop words: which script a text is in, and which words carry no content.

Languages that share a script (English, German) cannot be distinguished.
"""

import re
from collections.abc import Callable

from jangin.core.reasons import Reason
from jangin.text.normalize import clean_text

_RANGES = {
    "Hangul": "가-힣ㄱ-ㆎ",
    "kana": "぀-ヿ",
    "Han": "㐀-䶿一-鿿",
    "Cyrillic": "Ѐ-ӿ",
    "Arabic": "؀-ۿ",
    "Thai": "฀-๿",
    "Greek": "Ͱ-Ͽ",
    "Latin": "A-Za-zÀ-ɏ",
}
_LETTERS = {name: re.compile(f"[{letters}]+") for name, letters in _RANGES.items()}
_SCRIPTS_OF = {
    "ko": ("Hangul",),
    "ja": ("kana", "Han"),
    "zh": ("Han",),
    "ru": ("Cyrillic",),
    "ar": ("Arabic",),
    "th": ("Thai",),
    "el": ("Greek",),
    "en": ("Latin",),
}
_COUNTED = {
    **{code: re.compile(f"[{_RANGES[names[0]]}]") for code, names in _SCRIPTS_OF.items()},
    "zh": re.compile("[一-鿿]"),
    "en": re.compile("[A-Za-z]+"),
}
"""{language: what `language_of` counts}: characters, but words of Latin letters, as a
syllable block is more than a letter. Without rare Han and accented letters, as stored documents
were labelled."""
SCRIPT_CLASSES = {
    "Hangul": r"\p{Hangul}",
    "Latin": r"\p{Latin}",
    "Han": r"\p{Han}",
    "kana": "[ぁ-ヿ]",
}
"""{script: pattern of one character}, for the regular expressions of polars."""
HANGUL_SYLLABLE = re.compile("[가-힣]")
HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
"""Syllables, and jamo on their own: what Kiwi can analyse."""

_FUNCTION_WORDS = frozenset(
    [
        *["a", "an", "the", "is", "are", "was", "were", "be", "been", "am", "do", "does", "did"],
        *["of", "in", "on", "at", "and", "as", "it", "its", "that", "this", "there"],
    ]
)
QUESTION_FUNCTION_WORDS = _FUNCTION_WORDS | {"please"}
"""English words that two questions may differ in and still ask the same."""
ANSWER_FUNCTION_WORDS = _FUNCTION_WORDS | frozenset(
    [
        *["or", "to", "for", "from", "by", "with", "not", "no", "yes", "they", "them", "he", "she"],
        *["you", "your", "we", "our", "may", "must", "can"],
    ]
)
"""English words of an answer that need not be in its source."""
STOP_WORDS = frozenset(
    [
        *["a", "an", "the", "is", "are", "was", "were", "be", "it", "its", "this", "that", "these"],
        *["of", "in", "on", "at", "to", "and", "or", "as", "for", "with", "by", "what", "which"],
        *["그", "이", "저", "것", "그것", "수", "등", "및", "또는", "그러나", "따라서", "해당"],
        *["있다", "있습니다", "이다", "입니다", "합니다", "하는", "대한", "관한", "무엇인가요"],
    ]
)
"""Korean and English words that make no question or answer on their own."""
_ENGLISH_GRAMMAR = frozenset(
    [
        *["what", "which", "who", "whom", "whose", "how", "when", "where", "why", "is", "are"],
        *["was", "were", "do", "does", "did", "the", "of", "to", "in", "for", "and", "that"],
        *["must", "may", "can", "should", "according", "an", "a", "by", "with", "from", "on"],
        *["at", "if", "not"],
    ]
)
"""Words that only an English sentence has, among names in any language."""
MIN_SHARE = 0.5
"""Least share of words with a letter of the language's own script."""
SHORT = 4
"""Answers of up to this number of words may be in any language: a name, an amount, an acronym."""


def language_problem(question: str, answer: str, source: str, language: str) -> Reason:
    """Why a question or its answer is not in this language; empty if both are, or may be."""
    own = _SCRIPTS_OF.get(language)
    if own is None:
        return Reason()
    if not _is_in(question, own):
        return Reason("question_language", id=language, text=question[:60])
    if len(answer.split()) > SHORT and answer not in source and not _is_in(answer, own):
        return Reason("answer_language", id=language, text=answer[:60])
    for name, letters in _LETTERS.items():
        if name == "Latin" or name in own:
            continue
        for run in letters.findall(f"{question} {answer}"):
            if run not in source:
                return Reason("foreign", text=run, id=name, stage=language)
    return Reason()


def _is_in(text: str, own: tuple[str, ...]) -> bool:
    """True if enough words have a letter of one of these scripts, or the text has no letters."""
    in_own = _has_letter_of(own)
    words = [word for word in text.split() if any(p.search(word) for p in _LETTERS.values())]
    if not words:
        return True
    share = sum(map(in_own, words)) / len(words)
    if share >= MIN_SHARE or own == ("Latin",):
        return share >= MIN_SHARE
    # A Korean question about English names has few Hangul words, but it ends in one and has no
    # English grammar.
    english = any(word.strip(".,?!'\"").lower() in _ENGLISH_GRAMMAR for word in words)
    return share > 0 and in_own(words[-1]) and not english


def _has_letter_of(scripts: tuple[str, ...]) -> Callable[[str], bool]:
    patterns = [_LETTERS[name] for name in scripts]
    return lambda word: any(pattern.search(word) for pattern in patterns)


LANGUAGE_SAMPLE = 200_000


def language_of(text: str) -> str:
    """ISO 639-1 code by the most frequent script of the first 200,000 characters."""
    sample = clean_text(text[:LANGUAGE_SAMPLE])
    counts = {code: len(pattern.findall(sample)) for code, pattern in _COUNTED.items()}
    if counts["ja"] > 0.1 * counts["zh"]:
        counts["ja"] += counts["zh"]
    return max(counts, key=lambda code: counts[code]) if any(counts.values()) else "en"
