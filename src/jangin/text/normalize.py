"""Text normalisation in levels: Unicode form, white space, letter case and width, punctuation.

Every caller composes these, so that two texts that one part of jangin takes as equal are compared
in the same way elsewhere. Stored texts are `nfc` or `clean_text`; everything below those two is
for comparing only.
"""

import re
import unicodedata

CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_WORD = re.compile(r"\w+")


def nfc(text: str) -> str:
    """The text in NFC: Hangul that macOS decomposes (NFD) equals composed Hangul."""
    return unicodedata.normalize("NFC", text)


def nfd(text: str) -> str:
    """The text in NFD, as macOS writes names of files."""
    return unicodedata.normalize("NFD", text)


def clean_text(text: str) -> str:
    """NFC with LF line ends, without control characters, spaces at line ends and outer newlines."""
    text = re.sub(r"\r\n?|\x0c|\x85|\u2028|\u2029", "\n", text)
    text = CONTROL.sub("", text)
    return nfc("\n".join(line.rstrip() for line in text.split("\n"))).strip("\n")


def collapse_spaces(text: str) -> str:
    """Every run of white space as one space, none at the ends."""
    return " ".join(text.split())


def drop_spaces(text: str) -> str:
    """The text without any white space."""
    return "".join(text.split())


def fold_case(text: str) -> str:
    """NFC in lower case; full-width letters keep their width."""
    return nfc(text).lower()


def text_key(text: str) -> str:
    """Case folded and spaces collapsed: rows with equal keys are exact duplicates."""
    return collapse_spaces(fold_case(text.replace("\0", " ")))


def word_runs(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded."""
    return _WORD.findall(fold_case(text))


def letters_and_digits(text: str) -> str:
    """Letters and digits, case folded: equal where only spaces and punctuation differ."""
    return "".join(word_runs(text)).replace("_", "")


def folded_words(text: str) -> tuple[str, ...]:
    """Words with case and width folded (NFKC) and punctuation replaced by spaces.

    Unlike `word_runs`, symbols such as `+` and `₩` are part of words, and underscores are not.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(folded.translate(_SPACED).split())


class _Spaced(dict[int, int]):
    """{code point: itself, or a space for separators}, filled on first use."""

    def __missing__(self, code: int) -> int:
        self[code] = 32 if unicodedata.category(chr(code))[0] in "PZC" else code
        return self[code]


_SPACED = _Spaced()


def letters_only(text: str) -> str:
    """The `folded_words` without spaces: questions with equal letters are exact copies."""
    return "".join(folded_words(text))
