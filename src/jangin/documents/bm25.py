"""In-memory BM25 index: the mean of the scores over morphemes and over letter bigrams.

Morphemes match `계약을` with `계약`; bigrams match words that the analyser cuts wrongly, and work
for any language.
"""

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.text.korean import bigrams, morphemes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


K1, B = 0.9, 0.4
"""Term saturation and length normalisation, with Anserini's values for passages."""
PARTS = ("morphemes", "bigrams")
"""Names of the files of the two indexes."""
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
    """Weight of each term in each text, (texts, terms) float64, or float32 if read from a file."""
    vocabulary: dict[str, int]
    idf: "NDArray[np.float64]"
    """Inverse document frequency of each term, (terms,) float64."""
    idf_unknown: float
    """Inverse document frequency of a term that is in no text."""
    _postings: "csr_matrix | None" = None

    @classmethod
    def build(cls, texts: Iterable[Sequence[str]]) -> "Bm25":
        """An index of texts, each given as its terms."""
        import numpy as np
        from scipy.sparse import csr_matrix

        vocabulary: dict[str, int] = {}
        terms, counts = array("i"), array("i")
        starts, lengths = [0], []
        for text in texts:
            for term, count in Counter(text).items():
                terms.append(vocabulary.setdefault(term, len(vocabulary)))
                counts.append(count)
            starts.append(len(terms))
            lengths.append(len(text))
        total = len(lengths)
        columns, frequency = np.array(terms, np.int32), np.array(counts, np.float64)
        del terms, counts
        idf = _idf(np.bincount(columns, minlength=len(vocabulary)), total)
        relative = np.array(lengths, np.float64) / max(float(np.mean(lengths or [0])), 1.0)
        penalty = K1 * (1 - B + B * np.repeat(relative, np.diff(starts)))
        weights = idf[columns] * frequency * (K1 + 1) / (frequency + penalty)
        shape = (total, len(vocabulary))
        return cls(
            csr_matrix((weights, columns, starts), shape), vocabulary, idf, _idf_unknown(total)
        )

    @property
    def postings(self) -> "csr_matrix":
        """`weights` by term, (terms, texts): a search reads only the rows of its terms."""
        if self._postings is None:
            self._postings = self.weights.T.tocsr()
        return self._postings

    def save(self, folder: Path, name: str) -> None:
        """Write the postings, float32, and the terms to files that begin with `name`."""
        import numpy as np

        postings = self.postings
        np.save(folder / f"{name}.weights.npy", postings.data.astype(np.float32))
        np.save(folder / f"{name}.texts.npy", postings.indices)
        np.save(folder / f"{name}.starts.npy", postings.indptr)
        (folder / f"{name}.json").write_text(
            json.dumps({"texts": postings.shape[1], "terms": list(self.vocabulary)}), "utf-8"
        )

    @classmethod
    def load(cls, folder: Path, name: str) -> "Bm25":
        """The index that `save` wrote; its postings stay on disk until a query reads them."""
        import numpy as np
        from scipy.sparse import csr_matrix

        stored = json.loads((folder / f"{name}.json").read_text("utf-8"))
        total, terms = stored["texts"], stored["terms"]
        weights, texts, starts = (
            np.load(folder / f"{name}.{part}.npy", mmap_mode="r")
            for part in ("weights", "texts", "starts")
        )
        postings = csr_matrix((weights, texts, starts), (len(terms), total))
        idf = _idf(np.diff(starts), total)
        vocabulary = {term: number for number, term in enumerate(terms)}
        return cls(postings.T, vocabulary, idf, _idf_unknown(total), postings)

    def queries(self, queries: Iterable[Sequence[str]]) -> "csr_matrix":
        """Query weights, (queries, terms); times `postings` they are normalised scores."""
        import numpy as np
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
        typed = np.array(values, self.weights.dtype)
        return csr_matrix((typed, columns, starts), (len(starts) - 1, len(self.vocabulary)))

    def share(self, term: str, text: int) -> float:
        """Weight of one term in one text; 0 where the text does not have it."""
        column = self.vocabulary.get(term)
        return 0.0 if column is None else float(self.postings[column, text])


def _idf(document_frequency: "NDArray[np.int64]", total: int) -> "NDArray[np.float64]":
    """Lucene's inverse document frequency by document frequency, of `total` texts."""
    import numpy as np

    idf: NDArray[np.float64] = np.log(
        1 + (total - document_frequency + 0.5) / (document_frequency + 0.5)
    )
    return idf


def _idf_unknown(total: int) -> float:
    return math.log(1 + (total + 0.5) / 0.5)


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

    def save(self, folder: Path) -> None:
        """Write both indexes to files of a folder."""
        for name, part in zip(PARTS, self.parts, strict=True):
            part.save(folder, name)

    @classmethod
    def load(cls, folder: Path) -> "PassageIndex":
        """The index that `save` wrote."""
        by_morphemes, by_bigrams = (Bm25.load(folder, name) for name in PARTS)
        return cls(by_morphemes.weights.shape[0], (by_morphemes, by_bigrams))

    def matched(self, query: str, texts: Sequence[int]) -> list[tuple[str, ...]]:
        """Words of a query that each of these texts has, those first that count most."""
        (words,) = morphemes([query])
        every = [{word: self.parts[0].share(word, text) for word in words} for text in texts]
        return [
            tuple(sorted((word for word in shares if shares[word]), key=lambda word: -shares[word]))
            for shares in every
        ]

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
        total: NDArray[np.float64] = (by_morphemes @ self.parts[0].postings).toarray()
        total += (by_bigrams @ self.parts[1].postings).toarray()
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
