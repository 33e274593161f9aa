"""Exact match and containment of free answers, normalised as by KorQuAD 1.0."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import collapse_spaces, drop_spaces, nfc

_SPACED = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
_DELETED = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """NFC, quotes and brackets to spaces, lower case, no ASCII punctuation, single spaces.

    Source: `normalize_answer` of KorQuAD 1.0's evaluation script, with NFC put before it.
    """
    return collapse_spaces(nfc(text).translate(_SPACED).lower().translate(_DELETED))


def exact_match(prediction: str, gold: str) -> float:
    """1 if both texts are equal once normalised, else 0."""
    return float(normalise_answer(prediction) == normalise_answer(gold))


def contains(prediction: str, gold: str) -> float:
    """1 if the prediction contains the gold answer, both normalised without spaces, else 0.

    An empty gold answer is contained in an empty prediction only.
    """
    needle = drop_spaces(normalise_answer(gold))
    haystack = drop_spaces(normalise_answer(prediction))
    return float(needle in haystack if needle else not haystack)


# Train/test contamination: evaluation questions that copy a training question.
#
# What counts as a copy, and why a paraphrase or a template's sibling does not, is defined in
# `jangin.text.dedup.question_copies`: the split joins by the same rule that this check finds by.


@dataclass(frozen=True, slots=True)
class LeakedPair:
    """An evaluation question and the training question that it copies."""

    train_id: str
    evaluation_id: str
    similarity: float
    """Share of the 5-grams of one question that the other has, in [0, 1]."""
    kind: Literal["exact", "near"]


def find_leaks(train: Mapping[str, str], evaluation: Mapping[str, str]) -> list[LeakedPair]:
    """For each evaluation question that copies training questions, the most similar pair.

    Both are {id: question}. One pair per evaluation question, so that
    `len(result) / len(evaluation)` is the share that leaked.
    """
    train_ids, evaluation_ids = list(train), list(evaluation)
    worst: dict[str, LeakedPair] = {}
    for copy in find_near_copies(list(evaluation.values()), list(train.values())):
        evaluation_id = evaluation_ids[copy.left]
        known = worst.get(evaluation_id)
        if known is None or copy.similarity > known.similarity:
            worst[evaluation_id] = LeakedPair(
                train_ids[copy.right], evaluation_id, copy.similarity, copy.kind
            )
    return [worst[evaluation_id] for evaluation_id in evaluation_ids if evaluation_id in worst]
