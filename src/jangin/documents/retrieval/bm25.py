"""A full-text index in memory: BM25 over morphemes and over letter bigrams, summed.

Morphemes find `계약을` by `계약`; bigrams find what the analyser cuts wrongly, and any language.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jangin.text.korean import bigrams, morphemes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

K1, B = 0.9, 0.4
"""Saturation and length, as Anserini sets them for passages."""
BLOCK_CELLS = 20_000_000
"""Scores that are held at once."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found."""

    place: int
    """Number of the text in the index, from 0."""
    score: float
    """0: no term in common; 1: no text could hold more of the query."""


@dataclass(slots=True)
class Bm25:
    """Okapi BM25 (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative).

    A score is divided by the most that any text could get for the query, so that scores of
    different queries, and of different kinds of terms, can be compared and added.
    """

    weights: "csr_matrix"
    """Weight of each term in each text, shape [texts, terms]."""
    vocabulary: dict[str, int]
    idf: "NDArray[np.float64]"
    """By term."""
    idf_unknown: float
    """Of a term that no text holds."""

    @classmethod
    def build(cls, texts: Iterable[Sequence[str]]) -> "Bm25":
        """An index of texts, each given as its terms."""
        import numpy as np
        from scipy.sparse import csr_matrix

        vocabulary: dict[str, int] = {}
        terms: list[int] = []
        counts: list[int] = []
        starts, lengths = [0], []
        for text in texts:
            for term, count in Counter(text).items():
                terms.append(vocabulary.setdefault(term, len(vocabulary)))
                counts.append(count)
            starts.append(len(terms))
            lengths.append(len(text))
        total = len(lengths)
        columns, frequency = np.array(terms, np.int64), np.array(counts, np.float64)
        found_in = np.bincount(columns, minlength=len(vocabulary))
        idf = np.log(1 + (total - found_in + 0.5) / (found_in + 0.5))
        relative = np.array(lengths, np.float64) / max(float(np.mean(lengths or [0])), 1.0)
        penalty = K1 * (1 - B + B * np.repeat(relative, np.diff(starts)))
        weights = idf[columns] * frequency * (K1 + 1) / (frequency + penalty)
        shape = (total, len(vocabulary))
        unknown = float(np.log(1 + (total + 0.5) / 0.5))
        return cls(csr_matrix((weights, columns, starts), shape), vocabulary, idf, unknown)

    def queries(self, queries: Iterable[Sequence[str]]) -> "csr_matrix":
        """Queries as rows that give normalised scores when multiplied, shape [queries, terms]."""
        from scipy.sparse import csr_matrix

        columns: list[int] = []
        values: list[float] = []
        starts = [0]
        for query in queries:
            terms = sorted(set(query))
            known = [self.vocabulary[term] for term in terms if term in self.vocabulary]
            unknown = len(terms) - len(known)
            most = (K1 + 1) * (float(self.idf[known].sum()) + unknown * self.idf_unknown)
            columns += known
            values += [1 / most for _ in known]
            starts.append(len(columns))
        return csr_matrix((values, columns, starts), (len(starts) - 1, len(self.vocabulary)))


@dataclass(slots=True)
class PassageIndex:
    """Finds the passages that answer a question, by the mean of both BM25 scores."""

    size: int
    parts: tuple[Bm25, Bm25]
    """By morphemes, by bigrams."""

    @classmethod
    def build(
        cls, texts: Sequence[str], track: Callable[[Sequence[str]], Iterable[str]] = iter
    ) -> "PassageIndex":
        """An index of texts; `track` may draw a bar. Raises `MachineError` as `morphemes` does."""
        analysed = zip(track(texts), morphemes(texts), strict=True)
        by_morphemes = Bm25.build(terms for _, terms in analysed)
        return cls(len(texts), (by_morphemes, Bm25.build(map(bigrams, texts))))

    def search(self, queries: Sequence[str], most: int) -> Iterator[list[Hit]]:
        """For each query at most so many hits, best first; ties in the order of the texts.

        A text without a term in common is never a hit.
        """
        import numpy as np

        if not self.size:
            yield from ([] for _ in queries)
            return
        rows = max(1, BLOCK_CELLS // self.size)
        for start in range(0, len(queries), rows):
            for scores in self.scores(queries[start : start + rows]):
                least = np.partition(scores, -most)[-most] if most < self.size else 0.0
                found = np.flatnonzero((scores >= least) & (scores > 0))
                best = found[np.argsort(-scores[found], kind="stable")][:most]
                yield [Hit(int(place), round(float(scores[place]), 6)) for place in best]

    def scores(self, queries: Sequence[str]) -> "NDArray[np.float64]":
        """Scores of all texts, shape [queries, texts]."""
        by_morphemes, by_bigrams = self._multipliers(queries)
        total: NDArray[np.float64] = (by_morphemes @ self.parts[0].weights.T).toarray()
        total += (by_bigrams @ self.parts[1].weights.T).toarray()
        return total / 2

    def score_pairs(
        self, queries: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> "NDArray[np.float64]":
        """Scores of (number of the query, number of the text), without those of all others."""
        import numpy as np

        rows = [row for row, _ in pairs]
        places = [place for _, place in pairs]
        total = np.zeros(len(pairs))
        for part, multipliers in zip(self.parts, self._multipliers(queries), strict=True):
            product = multipliers[rows].multiply(part.weights[places])
            total += np.asarray(product.sum(axis=1)).ravel()
        return total / 2

    def _multipliers(self, queries: Sequence[str]) -> tuple["csr_matrix", "csr_matrix"]:
        by_morphemes = self.parts[0].queries(morphemes(queries))
        return by_morphemes, self.parts[1].queries(map(bigrams, queries))
