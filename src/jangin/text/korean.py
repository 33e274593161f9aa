"""The terms that texts are looked up by: morphemes without particles and endings, and bigrams."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.text.normalize import fold_case, word_runs

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

_HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_WRITTEN = ("SL", "SN", "SH")
"""Symbols that say something: Latin words, numbers, Chinese characters."""
_GRAMMAR = frozenset(("VCP", "VX", "XSV", "XSA", "NP"))
"""The copula, auxiliaries, what makes verbs of nouns, and pronouns: in every second sentence."""


def bigrams(text: str) -> list[str]:
    """Every two neighbouring letters or digits, spaces and punctuation left out; lower case.

    A text of one letter is its own term, so that it can be found.
    """
    letters = "".join(word_runs(text))
    return [letters[at : at + 2] for at in range(len(letters) - 1)] or [letters] * bool(letters)


def morphemes(texts: Sequence[str]) -> Iterator[list[str]]:
    """Words of each text, lower case; of Korean ones what Kiwi finds but particles and endings.

    Raises `MachineError` when there is Korean text and kiwipiepy is not installed.
    """
    folded = [fold_case(text) for text in texts]
    analysed = _analyse(text for text in folded if _HANGUL.search(text))
    for text, case_folded in zip(texts, folded, strict=True):
        yield next(analysed) if _HANGUL.search(case_folded) else word_runs(text)


def _analyse(texts: Iterable[str]) -> Iterator[list[str]]:
    """The morphemes of Korean texts; Kiwi is loaded with the first of them."""
    for text in texts:
        yield [
            token.form.lower()
            for token in kiwi().tokenize(text)
            if token.tag in _WRITTEN
            or (token.tag[0] not in "JES" and token.tag.partition("-")[0] not in _GRAMMAR)
        ]


@cache
def kiwi() -> "Kiwi":
    """The Korean analyser, which takes 1 to 4 seconds to load and 500 MB."""
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise MachineError(
            "looking up Korean text needs kiwipiepy. Install it: pip install 'jangin[documents]'."
        ) from error
    return Kiwi(num_workers=1)


def kiwi_version() -> str:
    """Version of the analyser, or `absent`: another one may find other morphemes."""
    try:
        return metadata.version("kiwipiepy")
    except metadata.PackageNotFoundError:
        return "absent"
