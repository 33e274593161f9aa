"""Korean words: the Kiwi analyser, particles, and search terms (morphemes and bigrams)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from jangin.core.errors import MachineError
from jangin.text.language import HANGUL
from jangin.text.normalize import fold_case, nfc, word_runs

if TYPE_CHECKING:
    from kiwipiepy import Kiwi


PARTICLE_OR_COPULA = re.compile(
    "(?<=.)(?:입니다|이에요|예요|이다|이며|이고|이라고|라고|으로서|으로써|으로|로서|로써|로|에서|에게"
    "|에는|에도|에만|까지|부터|마다|보다|처럼|만큼|이나|나|은|는|이|가|을|를|의|에|도|만|와|과)$"
)
"""One particle or form of 이다 at the end of a word; at least one letter stays before it."""
PLURAL_AND_PARTICLES = re.compile(
    "(?<=..)들?(?:은|는|이|가|을|를|의|도|만|로|와|과|나|랑|이나|이랑|라도|이라도"
    "|(?:에|에서|에게|께서|한테|으로|까지|부터|마다|보다|처럼)(?:은|는|도|만|의)?)$"
)
"""들 and up to two particles at the end of a word; at least two letters stay before them. No
copula: in a question it is the verb, which is compared as such."""
NOUN_PARTICLES = (
    "(?:에서는|에서도|에서의|에서|에게|에는|에도|에만|에|의|은|는|을|를|이|가|과|와|"
    "으로|로|도|만|상의|상)?"
)
"""Source of a pattern: any particle that may follow a noun that refers to a text, or none."""
_WRITTEN = ("SL", "SN", "SH")
"""Tags of Latin words, numbers and Chinese characters."""
_NOUNS = frozenset(("NNG", "NNP", "XR", "SL", "SH"))
_GRAMMAR = frozenset(("VCP", "VX", "XSV", "XSA", "NP"))
"""Tags of the copula, auxiliaries, verb suffixes and pronouns: too frequent to search by."""


def bigrams(text: str) -> list[str]:
    """Every two neighbouring letters or digits, spaces and punctuation left out; lower case.

    A text of one letter is its own term, so that it can be found.
    """
    letters = "".join(word_runs(text))
    return [letters[start : start + 2] for start in range(len(letters) - 1)] or [letters] * bool(
        letters
    )


def morphemes(texts: Sequence[str]) -> Iterator[list[str]]:
    """Words of each text, lower case; of Korean ones what Kiwi finds but particles and endings.

    Raises: MachineError: a text has Hangul and kiwipiepy is not installed.
    """
    folded = [fold_case(text) for text in texts]
    analysed = _analyse(text for text in folded if HANGUL.search(text))
    for text, case_folded in zip(texts, folded, strict=True):
        yield next(analysed) if HANGUL.search(case_folded) else word_runs(text)


def _analyse(texts: Iterable[str]) -> Iterator[list[str]]:
    """The morphemes of Korean texts; Kiwi is loaded with the first of them."""
    for text in texts:
        yield [
            token.form.lower()
            for token in kiwi().tokenize(text)
            if token.tag in _WRITTEN
            or (token.tag[0] not in "JES" and token.tag.partition("-")[0] not in _GRAMMAR)
        ]


def nouns(text: str) -> list[tuple[int, int, str]]:
    """(start, end, noun) of a Korean text, in order: common and proper nouns, roots, Latin words.

    Raises: MachineError: kiwipiepy is not installed.
    """
    return [
        (token.start, token.start + token.len, token.form.lower())
        for token in kiwi().tokenize(text)
        if token.tag.partition("-")[0] in _NOUNS
    ]


@cache
def kiwi() -> "Kiwi":
    """The Korean analyser, which takes 1 to 4 seconds to load and 500 MB.

    Raises: MachineError: kiwipiepy is not installed.
    """
    return _analyser()(num_workers=1)


def small_kiwi() -> "Kiwi":
    """The analyser without names and expressions of several words: 1 second to load and 230 MB.

    Raises: MachineError: kiwipiepy is not installed.
    """
    return _analyser()(
        num_workers=1, load_default_dict=False, load_multi_dict=False, load_typo_dict=False
    )


def _analyser() -> "Callable[..., Kiwi]":
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise MachineError(
            "looking up Korean text needs kiwipiepy. Install it: pip install 'jangin[documents]'."
        ) from error
    constructor: Callable[..., Kiwi] = Kiwi
    return constructor


def kiwi_version() -> str:
    """Version of the analyser, or `absent`: another one may find other morphemes."""
    try:
        return metadata.version("kiwipiepy")
    except metadata.PackageNotFoundError:
        return "absent"


# Choose the Korean particle that fits the word before it: 은/는, 이/가, 을/를, 과/와, 으로/로.
#
# Sentences are kept with both forms, as Koreans write where the word is not known:
# `{system}은(는)`. Digits are read in Korean. Latin letters are read one by one at the end of
# `SFT` or `svr`, else as a loanword: a final l, m, n or ng is a final consonant, and so is p,
# t, k or c after a short vowel (외래어 표기법, chapter 3, section 1, rule 1).


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
