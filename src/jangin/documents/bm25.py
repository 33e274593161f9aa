"""In-memory BM25 index: the mean of the scores over morphemes and over letter bigrams.

Morphemes match `계약을` with `계약`; bigrams match words that the analyser cuts wrongly, and work
for any language.
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
"""Term saturation and length normalisation, with Anserini's values for passages."""
BLOCK_CELLS = 20_000_000
"""Maximum number of scores in memory at once, 8 bytes each."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One text that matches a query."""

    index: int
    """Position of the text in the index, from 0."""
    score: float
    """0: no term in common; 1: the most that any text could score for this query."""


@dataclass(slots=True)
class Bm25:
    """Okapi BM25 (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative).

    A score is divided by the maximum that any text could reach for the query, so that scores of
    different queries and of different kinds of terms can be compared and added.
    """

    weights: "csr_matrix"
    """Weight of each term in each text, (texts, terms) float64."""
    vocabulary: dict[str, int]
    idf: "NDArray[np.float64]"
    """Inverse document frequency of each term, (terms,) float64."""
    idf_unknown: float
    """Inverse document frequency of a term that is in no text."""

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
        document_frequency = np.bincount(columns, minlength=len(vocabulary))
        idf = np.log(1 + (total - document_frequency + 0.5) / (document_frequency + 0.5))
        relative = np.array(lengths, np.float64) / max(float(np.mean(lengths or [0])), 1.0)
        penalty = K1 * (1 - B + B * np.repeat(relative, np.diff(starts)))
        weights = idf[columns] * frequency * (K1 + 1) / (frequency + penalty)
        shape = (total, len(vocabulary))
        unknown = float(np.log(1 + (total + 0.5) / 0.5))
        return cls(csr_matrix((weights, columns, starts), shape), vocabulary, idf, unknown)

    def queries(self, queries: Iterable[Sequence[str]]) -> "csr_matrix":
        """Query weights, (queries, terms) float64; times `weights.T` they are normalised scores."""
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
    """Ranks passages for a question by the mean of both BM25 scores."""

    size: int
    parts: tuple[Bm25, Bm25]
    """The index over morphemes, then the one over bigrams."""

    @classmethod
    def build(
        cls, texts: Sequence[str], track: Callable[[Sequence[str]], Iterable[str]] = iter
    ) -> "PassageIndex":
        """An index of texts; `track` may draw a progress bar.

        Raises: MachineError: kiwipiepy is not installed.
        """
        analysed = zip(track(texts), morphemes(texts), strict=True)
        by_morphemes = Bm25.build(terms for _, terms in analysed)
        return cls(len(texts), (by_morphemes, Bm25.build(map(bigrams, texts))))

    def search(self, queries: Sequence[str], limit: int) -> Iterator[list[Hit]]:
        """At most `limit` hits for each query, best first; ties in the order of the texts.

        A text without a term in common is never a hit.
        """
        import numpy as np

        if not self.size:
            yield from ([] for _ in queries)
            return
        rows = max(1, BLOCK_CELLS // self.size)
        for start in range(0, len(queries), rows):
            for scores in self.scores(queries[start : start + rows]):
                least = np.partition(scores, -limit)[-limit] if limit < self.size else 0.0
                matches = np.flatnonzero((scores >= least) & (scores > 0))
                best = matches[np.argsort(-scores[matches], kind="stable")][:limit]
                yield [Hit(int(index), round(float(scores[index]), 6)) for index in best]

    def scores(self, queries: Sequence[str]) -> "NDArray[np.float64]":
        """Scores of all texts for all queries, (queries, texts) float64, dense."""
        by_morphemes, by_bigrams = self._multipliers(queries)
        total: NDArray[np.float64] = (by_morphemes @ self.parts[0].weights.T).toarray()
        total += (by_bigrams @ self.parts[1].weights.T).toarray()
        return total / 2

    def score_pairs(
        self, queries: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> "NDArray[np.float64]":
        """Scores of some pairs only, (pairs,) float64 in their order, each 0 to 1.

        A pair is (index into `queries`, index of the text). Memory grows with the terms of the
        pairs, not with queries times texts.
        """
        import numpy as np

        rows = [row for row, _ in pairs]
        texts = [text for _, text in pairs]
        total = np.zeros(len(pairs))
        for part, multipliers in zip(self.parts, self._multipliers(queries), strict=True):
            product = multipliers[rows].multiply(part.weights[texts])
            total += np.asarray(product.sum(axis=1)).ravel()
        return total / 2

    def _multipliers(self, queries: Sequence[str]) -> tuple["csr_matrix", "csr_matrix"]:
        by_morphemes = self.parts[0].queries(morphemes(queries))
        return by_morphemes, self.parts[1].queries(map(bigrams, queries))
