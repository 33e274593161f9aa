"""Reject paraphrases of one question that are too similar to each other."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from jangin.core.config import Config


class AnyWording(Config):
    """Only paraphrases with exactly the same letters are rejected."""

    type: Literal["none"]


class NearCopies(Config):
    """Near copies of the question or of an earlier paraphrase are rejected."""

    type: Literal["near_copies"] = "near_copies"
    similarity: float = Field(default=0.9, ge=0.5, le=1)
    """Normalised Levenshtein similarity, spacing and punctuation aside, from which two wordings
    are one; `split` holds out nothing that is so alike."""
    same_words_similarity: float = Field(default=0.85, ge=0.5, le=1)
    """The same where both have the same content words, in the same order."""


Diversity = Annotated[NearCopies | AnyWording, Field(discriminator="type")]


def find_copies(wordings: Sequence[str], rules: NearCopies | AnyWording) -> dict[int, str]:
    """{index: reason} of the wordings that repeat an earlier one that is kept; the first is kept.

    Empty wordings are rejected too. Raises `MachineError` where Korean content words are compared
    and kiwipiepy is not installed.
    """
    from jangin.text.normalize import letters_only

    texts = [letters_only(wording) for wording in wordings]
    gone: dict[int, str] = {}
    for index, text in enumerate(texts):
        before = [other for other in range(index) if other not in gone]
        if not text and index:
            gone[index] = "empty"
            continue
        same = next((other for other in before if texts[other] == text), None)
        if same is not None:
            gone[index] = f"same letters as {_named(wordings, same)}"
        elif isinstance(rules, NearCopies) and (
            reason := _near(wordings, texts, index, before, rules)
        ):
            gone[index] = reason
    return gone


def _near(
    wordings: Sequence[str],
    texts: Sequence[str],
    index: int,
    before: Sequence[int],
    rules: NearCopies,
) -> str:
    """Why a wording is too near to one before it; empty where it is not."""
    from rapidfuzz.distance import Levenshtein

    from jangin.text.content_words import same_content

    for other in before:
        similarity = Levenshtein.normalized_similarity(texts[index], texts[other])
        if similarity >= rules.similarity:
            limit = f"limit {rules.similarity:g}"
        elif similarity >= rules.same_words_similarity and all(
            same_content([(wordings[index], wordings[other])])
        ):
            limit = f"same content words, limit {rules.same_words_similarity:g}"
        else:
            continue
        return f"near copy of {_named(wordings, other)}: similarity {similarity:.3f}, {limit}"
    return ""


def _named(wordings: Sequence[str], index: int) -> str:
    return repr(wordings[index]) if index else "the question itself"
