"""MinHash near-duplicate detection: each text to drop, the twin that is kept, their similarity.

normalised text -> exact copies -> MinHash candidates -> Levenshtein -> content words -> clusters.
Every pair is verified, so a wrong removal can only come from the threshold, never from hashing;
MinHash may miss pairs. Same texts in the same order give the same answer, on any machine and with
any number of threads.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jangin.text.dedup.components import first_connected
from jangin.text.dedup.lsh import Candidates, find_candidates


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
class Rules:
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


def find_matches(texts: Sequence[str], rules: Rules | None = None, *, threads: int = 1) -> Matches:
    """All pairs of near-duplicates, whichever text of a pair would be kept.

    Raises: MachineError: the guard meets Korean texts and kiwipiepy is not installed.
    """
    candidates = find_candidates(texts, (rules or Rules()).threshold, threads)
    judge = _Judge(candidates, rules or Rules(), None, threads)
    return Matches(candidates.firsts, *judge.accept(candidates.pairs))


def find_duplicates(
    texts: Sequence[str],
    rules: Rules | None = None,
    *,
    scores: Sequence[float] | NDArray[np.float64] | None = None,
    groups: Sequence[Hashable] | None = None,
    threads: int = 1,
) -> list[Duplicate]:
    """The texts to drop, in order. Of a cluster the best-scored text is kept, else the first.

    A text is dropped only in favour of a verified twin that is kept itself; in a chain of ever
    more different texts the far end is kept too. `groups` marks texts that are similar on purpose.
    The order of the texts decides between equals, and which neighbours a very full bucket compares.

    Raises: MachineError: the guard meets Korean texts and kiwipiepy is not installed.
    """
    rules = rules or Rules()
    lowest = rules.threshold if groups is None else min(rules.threshold, rules.group_threshold)
    candidates = find_candidates(texts, lowest, threads)
    rank = _ranks(len(texts), scores)
    best = _best_copies(candidates.firsts, rank)
    best_rank = rank[best]
    judge = _Judge(candidates, rules, groups and [groups[i] for i in best.tolist()], threads)
    pairs, similarity = judge.accept(candidates.pairs)
    cluster = first_connected(pairs, len(texts))
    more, more_similarity = judge.accept(_pairs_with_best(cluster, pairs, best_rank))
    twin, similarity_of = _choose(
        np.concatenate([pairs, more]), np.concatenate([similarity, more_similarity]), best_rank
    )
    gone = []
    stays = best.tolist()
    copies = np.flatnonzero(best != np.arange(len(texts)))
    rows = np.union1d(copies, best[np.fromiter(twin, np.int64)])
    for row, first in zip(rows.tolist(), candidates.firsts[rows].tolist(), strict=True):
        if first in twin:
            near = Duplicate(row, stays[twin[first]], similarity_of[first], cluster[first], "near")
            gone.append(near)
        else:
            gone.append(Duplicate(row, stays[first], 1.0, cluster[first], "exact"))
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


PAIRS_AT_ONCE = 1 << 18
"""Pairs whose texts are lists at the same time; millions of pairs would need gigabytes."""


@dataclass(frozen=True, slots=True)
class _Judge:
    """Compares pairs of candidates letter by letter, then word by word."""

    candidates: Candidates
    rules: Rules
    groups: Sequence[Hashable] | None
    threads: int

    def accept(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Those pairs that are duplicates, and their similarities."""
        texts = np.empty(self.candidates.firsts.size, np.object_)
        for index in _mentioned(pairs):
            texts[index] = self.candidates.text(index)
        parts = [
            self._alike(pairs[start : start + PAIRS_AT_ONCE], texts)
            for start in range(0, max(1, len(pairs)), PAIRS_AT_ONCE)
        ]
        alike, similarity, related = (np.concatenate(column) for column in zip(*parts, strict=True))
        if not self.rules.guard:
            return alike, similarity
        from jangin.text.content_words import same_content

        kept = np.ones(len(alike), np.bool_)
        guarded = np.flatnonzero(~related)
        compared = ((texts[a], texts[b]) for a, b in _rows(alike[guarded]))
        kept[guarded] = same_content(list(compared))
        return alike[kept], similarity[kept]

    def _alike(
        self, pairs: NDArray[np.int64], texts: NDArray[np.object_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Those pairs whose letters are alike, their similarities, whether they are of a group."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cpdist

        limit, related = self._limits(pairs)
        similarity = cpdist(
            texts[pairs[:, 0]].tolist(),
            texts[pairs[:, 1]].tolist(),
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=float(limit.min(initial=1.0)),
            dtype=np.float64,
            workers=self.threads,
        )
        accepted = similarity >= limit
        return pairs[accepted], similarity[accepted], related[accepted]

    def _limits(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Least similarity of each pair, and whether its texts are of one group."""
        related = np.zeros(len(pairs), np.bool_)
        if self.groups is not None:
            related[:] = [self.groups[a] == self.groups[b] for a, b in _rows(pairs)]
        return np.where(related, self.rules.group_threshold, self.rules.threshold), related


def _pairs_with_best(
    cluster: Sequence[int], pairs: NDArray[np.int64], rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pairs of a cluster's best text with members that MinHash did not bring together with it."""
    members = defaultdict(list)
    for text in _mentioned(pairs):
        members[cluster[text]].append(text)
    large = [group for group in members.values() if len(group) > 2]
    known = set(_rows(pairs[np.isin(pairs[:, 0], [text for group in large for text in group])]))
    missing = []
    for group in large:
        best = min(group, key=rank.__getitem__)
        spokes = ((min(best, other), max(best, other)) for other in group if other != best)
        missing += [pair for pair in spokes if pair not in known]
    return np.array(sorted(missing), np.int64).reshape(-1, 2)


def _choose(
    pairs: NDArray[np.int64], similarity: NDArray[np.float64], rank: NDArray[np.int64]
) -> tuple[dict[int, int], dict[int, float]]:
    """{dropped text: best-ranked twin that is kept}, and {dropped text: their similarity}."""
    swap = rank[pairs[:, 0]] > rank[pairs[:, 1]]
    ordered = np.where(swap[:, None], pairs[:, ::-1], pairs)
    order = np.lexsort((rank[ordered[:, 1]], rank[ordered[:, 0]]))
    twin: dict[int, int] = {}
    similarity_of: dict[int, float] = {}
    for (better, worse), alike in zip(
        _rows(ordered[order]), similarity[order].tolist(), strict=True
    ):
        if better not in twin and worse not in twin:
            twin[worse] = better
            similarity_of[worse] = alike
    return twin, similarity_of


def _rows(pairs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs as plain numbers; columns first, which takes a third of `tolist`'s time."""
    return zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True)


def _mentioned(pairs: NDArray[np.int64]) -> list[int]:
    """Every index in the pairs, each once, ascending."""
    seen = np.zeros(int(pairs.max(initial=-1)) + 1, np.bool_)
    seen[pairs] = True
    return np.flatnonzero(seen).tolist()
