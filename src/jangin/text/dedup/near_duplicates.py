"""MinHash near-duplicate detection: each text to drop, the twin that is kept, their similarity.

normalised text -> exact copies -> MinHash candidates -> Levenshtein -> content words -> clusters.
Every pair is verified, so a wrong removal can only come from the threshold, never from hashing;
MinHash may miss pairs. Same texts in the same order give the same answer, on any machine and with
any number of processes.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jangin.text.dedup.components import first_connected
from jangin.text.dedup.lsh import Candidates, find_candidates
from jangin.text.dedup.spread import Spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Pairs of texts compared letter by letter, then word by word, as work for an executor.


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


class Duplicate(NamedTuple):
    """A text that can be dropped."""

    row: int
    twin: int
    """The text that is kept instead."""
    similarity: float
    """1 - Levenshtein distance / length of the longer text, both normalised."""
    cluster: int
    """First text of the connected component; one whose ends differ keeps several texts."""
    match: Literal["exact", "near"]

    @property
    def reason(self) -> str:
        """Drop reason with the similarity; stored."""
        if self.match == "exact":
            return f"same text as row {self.twin}"
        return f"similarity {self.similarity:.3f} to row {self.twin}"


@dataclass(frozen=True, slots=True)
class DuplicateRules:
    """When two candidates are duplicates."""

    threshold: float = 0.75
    """Least similarity; MinHash finds few pairs below .6."""
    guard: bool = False
    """Content words must be the same too: see `content_words`."""
    group_threshold: float = 0.95
    """Least similarity of two texts of one group, to which the guard does not apply."""


class Matches(NamedTuple):
    """All verified pairs of N texts."""

    firsts: NDArray[np.int64]
    """(N,) index of the first text that is equal to each one."""
    pairs: NDArray[np.int64]
    """(P, 2) indices of firsts, ascending: near-duplicates that are not equal."""
    similarity: NDArray[np.float64]
    """(P,) similarity of each pair, 0 to 1."""


def find_matches(
    texts: Sequence[str], rules: DuplicateRules | None = None, *, spread: Spread | None = None
) -> Matches:
    """All pairs of near-duplicates, whichever text of a pair would be kept.

    Raises: MachineError: the guard meets Korean texts and kiwipiepy is not installed.
    """
    spread = spread or Spread()
    candidates = find_candidates(texts, (rules or DuplicateRules()).threshold, spread)
    judge = _Judge(candidates, rules or DuplicateRules(), None, spread)
    return Matches(candidates.firsts, *judge.accept(candidates.pairs))


def find_duplicates(
    texts: Sequence[str],
    rules: DuplicateRules | None = None,
    *,
    scores: Sequence[float] | NDArray[np.float64] | None = None,
    groups: Sequence[Hashable] | NDArray[np.uint64] | None = None,
    spread: Spread | None = None,
) -> list[Duplicate]:
    """The texts to drop, in order. Of a cluster the best-scored text is kept, else the first.

    A text is dropped only in favour of a verified twin that is kept itself; in a chain of ever
    more different texts the far end is kept too. `groups` marks texts that are similar on purpose.
    The order of the texts decides between equals, and which neighbours a very full bucket compares.

    Raises: MachineError: the guard meets Korean texts and kiwipiepy is not installed.
    """
    rules, spread = rules or DuplicateRules(), spread or Spread()
    lowest = rules.threshold if groups is None else min(rules.threshold, rules.group_threshold)
    candidates = find_candidates(texts, lowest, spread)
    rank = _ranks(len(texts), scores)
    best = _best_copies(candidates.firsts, rank)
    best_rank = rank[best]
    numbers = None if groups is None else _numbers(groups)[best]
    judge = _Judge(candidates, rules, numbers, spread)
    pairs, similarity = judge.accept(candidates.pairs)
    cluster = first_connected(pairs, len(texts))
    more, more_similarity = judge.accept(_pairs_with_best(cluster, pairs, best_rank))
    twin, similarity_of = _choose(
        np.concatenate([pairs, more]), np.concatenate([similarity, more_similarity]), best_rank
    )
    gone = []
    copies = np.flatnonzero(best != np.arange(len(texts)))
    rows = np.union1d(copies, best[np.fromiter(twin, np.int64)])
    for row, first in zip(rows.tolist(), candidates.firsts[rows].tolist(), strict=True):
        if first in twin:
            kept, alike = int(best[twin[first]]), similarity_of[first]
            gone.append(Duplicate(row, kept, alike, int(cluster[first]), "near"))
        else:
            gone.append(Duplicate(row, int(best[first]), 1.0, int(cluster[first]), "exact"))
    return gone


def _ranks(count: int, scores: Sequence[float] | NDArray[np.float64] | None) -> NDArray[np.int64]:
    """(N,) int64: rank of each text by score, best first; equals keep their order."""
    if scores is None:
        return np.arange(count)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return rank


def _best_copies(firsts: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) int64: for each text the best-ranked one among its exact copies."""
    best = np.arange(firsts.size)
    by_rank = np.argsort(rank)[::-1]
    best[firsts[by_rank]] = by_rank
    return best[firsts]


def _numbers(groups: Sequence[Hashable] | NDArray[np.uint64]) -> NDArray[Any]:
    """(N,) numbers that are equal where groups are."""
    if isinstance(groups, np.ndarray):
        return groups
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(group, len(known)) for group in groups], np.int64)


PAIRS_AT_ONCE = 1 << 14
"""Pairs that are compared at a time: those of one call of an executor."""


@dataclass(frozen=True, slots=True)
class _Judge:
    """Compares pairs of candidates letter by letter, then word by word."""

    candidates: Candidates
    rules: DuplicateRules
    groups: NDArray[Any] | None
    spread: Spread

    def accept(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Those pairs that are duplicates, and their similarities."""
        starts = range(0, len(pairs), PAIRS_AT_ONCE)
        items = (self._compared(pairs[start : start + PAIRS_AT_ONCE]) for start in starts)
        accepted = np.zeros(len(pairs), np.bool_)
        similarities = [np.empty(0, np.float64)] * len(starts)
        what = "compared pairs of texts"
        # Without reading words, comparing two texts costs less than sending them.
        costly = len(pairs) if self.rules.guard else 0
        for index, result in self.spread.over_pairs(costly, compare, items, what):
            block, similarities[index] = result
            accepted[starts[index] : starts[index] + block.size] = block
        return pairs[accepted], np.concatenate([np.empty(0, np.float64), *similarities])

    def _compared(self, pairs_P2: NDArray[np.int64]) -> Compared:
        """Some pairs with their texts."""
        rules, related = self.rules, np.zeros(len(pairs_P2), np.bool_)
        if self.groups is not None:
            related = self.groups[pairs_P2[:, 0]] == self.groups[pairs_P2[:, 1]]
        indices = np.unique(pairs_P2)
        return Compared(
            self.candidates.texts(indices),
            np.searchsorted(indices, pairs_P2),
            np.where(related, rules.group_threshold, rules.threshold),
            ~related if rules.guard else np.zeros(len(pairs_P2), np.bool_),
        )


def _pairs_with_best(
    cluster: NDArray[np.int64], pairs: NDArray[np.int64], rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pairs of a cluster's best text with members that MinHash did not bring together with it."""
    if not len(pairs):
        return pairs
    members = np.flatnonzero(np.bincount(pairs.ravel()))
    members = members[np.lexsort((rank[members], cluster[members]))]
    labels = cluster[members]
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    sizes = np.diff(np.append(starts, len(labels)))
    best = np.repeat(members[starts], sizes)
    is_spoke = (members != best) & np.repeat(sizes > 2, sizes)
    best, members = best[is_spoke], members[is_spoke]
    spokes = np.sort(_packed(np.minimum(best, members), np.maximum(best, members)))
    missing = spokes[~np.isin(spokes, _packed(pairs[:, 0], pairs[:, 1]), assume_unique=True)]
    return np.stack([missing >> 32, missing & 0xFFFFFFFF], axis=1)


def _packed(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P,) pairs of indices as one number each, in the same order."""
    return low << 32 | high


def _choose(
    pairs: NDArray[np.int64], similarity: NDArray[np.float64], rank: NDArray[np.int64]
) -> tuple[dict[int, int], dict[int, float]]:
    """{dropped text: best-ranked twin that is kept}, and {dropped text: their similarity}."""
    swap = rank[pairs[:, 0]] > rank[pairs[:, 1]]
    ordered = np.where(swap[:, None], pairs[:, ::-1], pairs)
    order = np.lexsort((rank[ordered[:, 1]], rank[ordered[:, 0]]))
    twin: dict[int, int] = {}
    similarity_of: dict[int, float] = {}
    for start in range(0, len(order), PAIRS_AT_ONCE):
        block = order[start : start + PAIRS_AT_ONCE]
        for (better, worse), alike in zip(
            _rows(ordered[block]), similarity[block].tolist(), strict=True
        ):
            if better not in twin and worse not in twin:
                twin[worse] = better
                similarity_of[worse] = alike
    return twin, similarity_of


def _rows(pairs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs as plain numbers; columns first, which takes a third of `tolist`'s time."""
    return zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True)
