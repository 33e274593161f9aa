"""Pairs of texts compared letter by letter, then word by word, as work for an executor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Compared:
    """P pairs of texts that may be duplicates."""

    texts: list[str]
    """Normalised, each once."""
    pairs_P2: "NDArray[np.int64]"
    """Indices of `texts`."""
    limit_P: "NDArray[np.float64]"
    """Least similarity of each pair."""
    is_guarded_P: "NDArray[np.bool_]"
    """Whether the content words must be the same too."""


def compare(compared: Compared) -> "tuple[NDArray[np.bool_], NDArray[np.float64]]":
    """(P,) whether each pair is a duplicate, and the similarity of those that are.

    Raises: MachineError: Korean words are to be read and kiwipiepy is not installed.
    """
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    left, right = (
        [compared.texts[index] for index in side.tolist()] for side in compared.pairs_P2.T
    )
    similarity = cpdist(
        left,
        right,
        scorer=Levenshtein.normalized_similarity,
        score_cutoff=float(compared.limit_P.min(initial=1.0)),
        dtype=np.float64,
    )
    accepted = similarity >= compared.limit_P
    guarded = np.flatnonzero(accepted & compared.is_guarded_P)
    if guarded.size:
        from jangin.text.content_words import same_content

        accepted[guarded] = same_content([(left[i], right[i]) for i in guarded.tolist()])
    return accepted, similarity[accepted]
