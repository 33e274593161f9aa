"""Is a text in the language it should be in? Told by scripts, word by word; no model is asked.

Languages that share a script (English, German) are not told apart.
"""

import re
from collections.abc import Callable

from jangin.text.normalize import clean_text

_SCRIPTS = {
    "Hangul": "가-힣ㄱ-ㆎ",
    "kana": "぀-ヿ",
    "Han": "㐀-䶿一-鿿",
    "Cyrillic": "Ѐ-ӿ",
    "Arabic": "؀-ۿ",
    "Thai": "฀-๿",
    "Greek": "Ͱ-Ͽ",
    "Latin": "A-Za-zÀ-ɏ",
}
_LETTERS = {name: re.compile(f"[{letters}]+") for name, letters in _SCRIPTS.items()}
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
_ENGLISH = frozenset(
    [
        *["what", "which", "who", "whom", "whose", "how", "when", "where", "why", "is", "are"],
        *["was", "were", "do", "does", "did", "the", "of", "to", "in", "for", "and", "that"],
        *["must", "may", "can", "should", "according", "an", "a", "by", "with", "from", "on"],
        *["at", "if", "not"],
    ]
)
LEAST = 0.5
"""Share of the words that hold a letter of the language's own script."""
SHORT = 4
"""Answers of so few words are not held to a language: a name, an amount, an acronym."""


def language_problem(question: str, answer: str, source: str, language: str) -> str:
    """Why a question with its answer is not in this language; empty if it is, or cannot be told."""
    own = _SCRIPTS_OF.get(language)
    if own is None:
        return ""
    if not _is_in(question, own):
        return f"the question is not in the language of its source ({language}): {question[:60]!r}"
    if len(answer.split()) > SHORT and answer not in source and not _is_in(answer, own):
        return f"the answer is not in the language of its source ({language}): {answer[:60]!r}"
    for name, letters in _LETTERS.items():
        if name == "Latin" or name in own:
            continue
        for found in letters.findall(f"{question} {answer}"):
            if found not in source:
                return f"{found!r} ({name}) is foreign to its source ({language})"
    return ""


def _is_in(text: str, own: tuple[str, ...]) -> bool:
    """True if enough words hold a letter of one of these scripts; texts without letters are."""
    in_own = _holds(own)
    words = [word for word in text.split() if any(p.search(word) for p in _LETTERS.values())]
    if not words:
        return True
    share = sum(map(in_own, words)) / len(words)
    if share >= LEAST or own == ("Latin",):
        return share >= LEAST
    # A Korean question about English names has few Hangul words, but it ends in one and has no
    # English grammar.
    english = any(word.strip(".,?!'\"").lower() in _ENGLISH for word in words)
    return share > 0 and in_own(words[-1]) and not english


def _holds(scripts: tuple[str, ...]) -> Callable[[str], bool]:
    patterns = [_LETTERS[name] for name in scripts]
    return lambda word: any(pattern.search(word) for pattern in patterns)


SCRIPTS = {
    "ko": re.compile(r"[가-힣ㄱ-ㆎ]"),
    "ja": re.compile(r"[぀-ヿ]"),
    "zh": re.compile(r"[一-鿿]"),
    "ru": re.compile(r"[Ѐ-ӿ]"),
    "ar": re.compile(r"[؀-ۿ]"),
    "th": re.compile(r"[฀-๿]"),
    "el": re.compile(r"[Ͱ-Ͽ]"),
    "en": re.compile(r"[A-Za-z]+"),
}
"""What is counted for each language; Latin by words, as a syllable block is more than a letter."""
LANGUAGE_SAMPLE = 200_000


def language_of(text: str) -> str:
    """ISO 639-1 code by the most frequent script of the first 200,000 characters."""
    sample = clean_text(text[:LANGUAGE_SAMPLE])
    counts = {code: len(pattern.findall(sample)) for code, pattern in SCRIPTS.items()}
    if counts["ja"] > 0.1 * counts["zh"]:
        counts["ja"] += counts["zh"]
    return max(counts, key=lambda code: counts[code]) if any(counts.values()) else "en"
