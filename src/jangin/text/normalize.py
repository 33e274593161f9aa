"""Text normalisation: Unicode, white space, case and punctuation."""

import re
import unicodedata


def normalise(text: str) -> str:
    """NFC, so that macOS's decomposed Hangul (NFD) and everybody else's are the same text."""
    return unicodedata.normalize("NFC", text)


def normalised(text: str) -> str:
    """NFC, lower case, every run of white space one space: what counts as the same text."""
    return " ".join(unicodedata.normalize("NFC", text.replace("\0", " ")).lower().split())


def words_of(text: str) -> tuple[str, ...]:
    """Words in NFKC and lower case, with punctuation gone."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(" " if unicodedata.category(c)[0] in "PZC" else c for c in folded)
    return tuple(spaced.split())


def compact(text: str) -> str:
    """The text's words without spaces: equal for exact copies."""
    return "".join(words_of(text))


CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")


def clean(text: str) -> str:
    """NFC, LF line ends, no control characters, no blanks at line ends."""
    text = re.sub(r"\r\n?|\x0c|\x85|\u2028|\u2029", "\n", text)
    text = CONTROL.sub("", text)
    return normalise("\n".join(line.rstrip() for line in text.split("\n"))).strip("\n")
