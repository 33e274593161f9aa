"""Choose the Korean particle that fits the word before it: 은/는, 이/가, 을/를, 과/와, 으로/로.

Sentences are kept with both forms, as Koreans write where the word is not known: `{system}은(는)`.
Digits are read in Korean. Latin letters are read one by one at the end of `SFT` or `svr`, else as
a loanword: a final l, m, n or ng is a final consonant, and so is p, t, k or c after a short vowel
(외래어 표기법, chapter 3, section 1, rule 1).
"""

import re
from collections.abc import Mapping
from typing import Literal

from jangin.text.normalize import nfc

Sound = Literal["vowel", "rieul", "consonant"]

FORMS: Mapping[str, tuple[str, str]] = {
    "은(는)": ("은", "는"),
    "이(가)": ("이", "가"),
    "을(를)": ("을", "를"),
    "와(과)": ("과", "와"),
    "(으)로": ("으로", "로"),
}
"""As written in a sentence: (after a consonant, after a vowel)."""

_MARKED = re.compile(r"\{(\w+)\}([”’]?)(" + "|".join(map(re.escape, FORMS)) + ")")
_DIGITS: Mapping[str, Sound] = {
    "0": "consonant", "1": "rieul", "3": "consonant", "6": "consonant", "7": "rieul", "8": "rieul",
}  # fmt: skip
_LETTERS: Mapping[str, Sound] = {"l": "rieul", "r": "rieul", "m": "consonant", "n": "consonant"}
_FIRST_SYLLABLE, _LAST_SYLLABLE, _FINALS, _RIEUL = "가", "힣", 28, 8


def with_particles(sentence: str, values: Mapping[str, object]) -> str:
    """The sentence template with the form of each particle that fits the value before it.

    Both forms stay where the final sound is unknown, as after a Chinese character.
    """

    def chosen(mark: re.Match[str]) -> str:
        name, quote, written = mark.groups()
        return f"{{{name}}}{quote}{particle(str(values[name]), written)}"

    return _MARKED.sub(chosen, sentence)


def particle(word: str, written: str) -> str:
    """The form of `written`, a key of `FORMS`, after a word."""
    sound = final_sound(word)
    if sound is None:
        return written
    after_consonant, after_vowel = FORMS[written]
    closed = sound == "consonant" or (sound == "rieul" and written != "(으)로")
    return after_consonant if closed else after_vowel


def final_sound(word: str) -> Sound | None:
    """The final sound of a word as it is read aloud; None where it is unknown."""
    read = re.search(r"([a-z]+|[^\W_])[\W_]*$", nfc(word), re.IGNORECASE)
    if read is None:
        return None
    if "%" in word[read.end(1) :]:
        return "vowel"  # 퍼센트
    last = read.group(1)
    if _FIRST_SYLLABLE <= last <= _LAST_SYLLABLE:
        final = (ord(last) - ord(_FIRST_SYLLABLE)) % _FINALS
        return "vowel" if not final else "rieul" if final == _RIEUL else "consonant"
    if last in "0123456789":
        return _DIGITS.get(last, "vowel")
    return _latin(last) if last.isascii() else None


def _latin(word: str) -> Sound:
    lower = word.lower()
    if word[-1].isupper() or len(word) == 1 or not re.search("[aeiouy]", lower):
        return _LETTERS.get(lower[-1], "vowel")
    spoken = re.sub(r"(?<=[lmn])e$", "", lower)  # baseline, simple
    if spoken.endswith("l"):
        return "rieul"
    short = r"(?:^|[^aeiou])[aeiou](?:ck|[ptkc])$"
    closed = spoken.endswith(("m", "n", "ng")) or re.search(short, spoken)
    return "consonant" if closed else "vowel"
