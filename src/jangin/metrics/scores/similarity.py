"""Similarity of two texts by the names that OpenAI's `text_similarity` grader uses, each 0 to 1.

Words are runs of letters and digits, case folded after NFC, so that Hangul counts. Where both
texts have no word, they are equal (1) or not (0).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt

from jangin.metrics.scores.rouge_l import rouge_l
from jangin.text.normalize import collapse_spaces, fold_case, nfc, word_runs

Ngram = tuple[str, ...]

METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA = 0.9, 3.0, 0.5
"""Weight of recall, exponent and weight of the fragmentation penalty. Source: Lavie and Agarwal
2007, whose values NLTK uses too."""
COSINE_ORDER = 3
"""Characters in an n-gram of `cosine`."""


def fuzzy_match(text: str, reference: str) -> float:
    """Normalised indel similarity of characters, rapidfuzz's `fuzz.ratio` / 100."""
    from rapidfuzz import fuzz

    return float(fuzz.ratio(nfc(text), nfc(reference))) / 100


def bleu(text: str, reference: str) -> float:
    """Sentence BLEU of sacrebleu with its `13a` tokens, exponential smoothing and effective order.

    Source: Papineni et al. 2002; smoothing by Chen and Cherry 2014, method 3.
    """
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU(effective_order=True).sentence_score(nfc(text), [nfc(reference)]).score
    return min(1.0, float(score) / 100)


def gleu(text: str, reference: str) -> float:
    """The smaller of precision and recall of word 1- to 4-grams. Source: Wu et al. 2016."""
    words, expected = word_runs(text), word_runs(reference)
    counts, wanted = (
        Counter(ngram for order in range(1, 5) for ngram in _ngrams(side, order))
        for side in (words, expected)
    )
    if not counts or not wanted:
        return float(words == expected)
    return (counts & wanted).total() / max(counts.total(), wanted.total())


def meteor(text: str, reference: str) -> float:
    """Harmonic mean of word precision and recall, less a penalty for scattered matches.

    Words match when they are equal: METEOR's stems and synonyms exist for a few languages only,
    and not for Korean. Source: Lavie and Agarwal 2007, equations 1 to 4.
    """
    words, expected = word_runs(text), word_runs(reference)
    pairs = _aligned(words, expected)
    if not pairs:
        return float(words == expected)
    precision, recall = len(pairs) / len(words), len(pairs) / len(expected)
    mean = precision * recall / (METEOR_ALPHA * precision + (1 - METEOR_ALPHA) * recall)
    chunks = 1 + sum((i + 1, j + 1) != following for (i, j), following in pairwise(pairs))
    penalty: float = METEOR_GAMMA * (chunks / len(pairs)) ** METEOR_BETA
    return mean * (1 - penalty)


def cosine(text: str, reference: str) -> float:
    """Cosine of the counts of character trigrams, spaces collapsed and ends padded.

    No model is needed, and Korean particles lower it only a little; OpenAI's own compares
    embeddings of a hosted model instead.
    """
    left, right = (_trigrams(side) for side in (text, reference))
    norm = sqrt(_dot(left, left) * _dot(right, right))
    return min(1.0, _dot(left, right) / norm) if norm else float(left == right)


def rouge_n(order: int) -> Callable[[str, str], float]:
    """F1 of word n-grams of one order. Source: Lin 2004, equation 1, as precision and recall."""

    def score(text: str, reference: str) -> float:
        words, expected = word_runs(text), word_runs(reference)
        counts, wanted = (Counter(_ngrams(side, order)) for side in (words, expected))
        if not counts or not wanted:
            return float(words == expected)
        return 2 * (counts & wanted).total() / (counts.total() + wanted.total())

    return score


SIMILARITIES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    "cosine": cosine,
    **{f"rouge_{order}": rouge_n(order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}
"""{name in OpenAI's API: function of a text and its reference}."""


def _ngrams(words: Sequence[str], order: int) -> list[Ngram]:
    return [tuple(words[i : i + order]) for i in range(len(words) - order + 1)]


def _aligned(words: Sequence[str], expected: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions of equal words: from left to right, each time the longest run."""
    free = {word: [j for j, other in enumerate(expected) if other == word] for word in set(words)}
    pairs: list[tuple[int, int]] = []
    i = 0
    while i < len(words):
        starts = [(_run_length(words[i:], expected[j:], j, free), -j) for j in free[words[i]]]
        length, start = max(starts, default=(0, 0))
        for k in range(length):
            pairs.append((i + k, k - start))
            free[words[i + k]].remove(k - start)
        i += max(1, length)
    return pairs


def _run_length(
    words: Sequence[str], expected: Sequence[str], start: int, free: dict[str, list[int]]
) -> int:
    """How many words at the start of both are equal and not paired yet."""
    length = 0
    for word, other in zip(words, expected, strict=False):
        if word != other or start + length not in free[word]:
            break
        length += 1
    return length


def _trigrams(text: str) -> Counter[str]:
    bare = collapse_spaces(fold_case(text))
    padded = f" {bare} " if bare else ""
    return Counter(padded[i : i + COSINE_ORDER] for i in range(len(padded) - COSINE_ORDER + 1))


def _dot(left: Counter[str], right: Counter[str]) -> int:
    return sum(count * right[key] for key, count in left.items())
