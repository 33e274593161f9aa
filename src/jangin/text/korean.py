"""Korean words: the Kiwi analyser, particles, and search terms (morphemes and bigrams)."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.text.language import HANGUL
from jangin.text.normalize import fold_case, word_runs

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
