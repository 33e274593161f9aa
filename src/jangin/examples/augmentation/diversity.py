"""Reject paraphrases of one question that are too similar to each other."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from jangin.core.config import Config
from jangin.core.reasons import Reason


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


class WordingCopy(NamedTuple):
    """A wording that repeats an earlier one."""

    row: int
    twin: int
    """Index of the wording that is kept; its own index for an empty wording."""
    reason: Reason


def find_copies(wordings: Sequence[str], rule: NearCopies | AnyWording) -> list[WordingCopy]:
    """The wordings that repeat an earlier one that is kept, in order; the first is kept.

    Empty wordings are listed too.

    Raises: MachineError: Korean content words are compared and kiwipiepy is not installed.
    """
    from jangin.text.normalize import letters_only

    texts = [letters_only(wording) for wording in wordings]
    kept: list[int] = []
    copies: list[WordingCopy] = []
    for index, text in enumerate(texts):
        same = next((other for other in kept if texts[other] == text), None)
        if not text and index:
            copies.append(WordingCopy(index, index, Reason("empty")))
        elif same is not None:
            reason = _of(wordings, same, "letters_of_question", "same_letters")
            copies.append(WordingCopy(index, same, reason))
        elif isinstance(rule, NearCopies) and (copy := _near(wordings, texts, index, kept, rule)):
            copies.append(copy)
        else:
            kept.append(index)
    return copies


def _near(
    wordings: Sequence[str],
    texts: Sequence[str],
    index: int,
    kept: Sequence[int],
    rule: NearCopies,
) -> WordingCopy | None:
    """The first kept wording that this one is too similar to, as a copy; None without any."""
    from rapidfuzz.distance import Levenshtein

    from jangin.text.content_words import same_content

    for other in kept:
        similarity = Levenshtein.normalized_similarity(texts[index], texts[other])
        if similarity >= rule.similarity:
            keys, limit = ("copy_of_question", "copy"), rule.similarity
        elif similarity >= rule.same_words_similarity and all(
            same_content([(wordings[index], wordings[other])])
        ):
            keys, limit = ("words_of_question", "same_words"), rule.same_words_similarity
        else:
            continue
        reason = _of(wordings, other, *keys, share=similarity, limit=float(limit))
        return WordingCopy(index, other, reason)
    return None


def _of(
    wordings: Sequence[str], index: int, of_question: str, of_wording: str, **values: float
) -> Reason:
    """The reason that names the earlier wording, of which the first is the question itself."""
    if index:
        return Reason(of_wording, text=wordings[index], **values)
    return Reason(of_question, **values)
