"""Exact match and containment of free answers, normalised as by KorQuAD 1.0."""

import string

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
