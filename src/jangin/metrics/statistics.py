"""Wilson intervals, McNemar and permutation tests, cluster bootstrap, Holm correction.

Sources: Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22;
Newcombe 1998, Statistics in Medicine 17, 857-872; McNemar 1947, Psychometrika 12, the exact form by
the binomial distribution; Efron 1979, Bootstrap methods, Annals of Statistics 7; Holm 1979,
Scandinavian Journal of Statistics 6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWS_AT_ONCE = 4_000_000
_COMPILED_FROM = 20_000_000
"""Draws from which the compiled kernel is worth it; its random numbers are not numpy's."""
_EXACT_UP_TO = 16
"""Maximum number of clusters for which all sign patterns are tried."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval and the estimate inside it."""

    estimate: float
    low: float
    high: float


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; [0, 1] where n is 0.

    It takes the `n` answers as independent. Source: Wilson 1927, equation 4 of Newcombe 1998.
    """
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: a sign test on the discordant questions.

    `only_a` and `only_b` count the questions that one system got right and the other wrong.
    A question on which both agree carries no information about their difference.
    """
    discordant = only_a + only_b
    term = tail = 1
    for k in range(min(only_a, only_b)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << discordant))


Grade = tuple[bool, bool]
"""Whether an answer is right, and whether that is unclear; no answer is both."""


def mcnemar_p_unclear(a: Sequence[Grade], b: Sequence[Grade]) -> float | None:
    """McNemar's p with every unclear answer against the better of two systems.

    It is 1 where that system would no longer be the better one, and None without unclear answers.
    `a[j]` and `b[j]` grade the answers to one question.
    """
    pairs = list(zip(a, b, strict=True))
    if not any(unclear for pair in pairs for _, unclear in pair):
        return None
    if sum(right for right, _ in a) < sum(right for right, _ in b):
        pairs = [(y, x) for x, y in pairs]
    better = sum(x[0] and not any(y) for x, y in pairs)
    other = sum(any(y) and not x[0] for x, y in pairs)
    return mcnemar_p(better, other) if better > other else 1.0


def smallest_visible_difference(n: int, alpha: float = 0.05) -> float | None:
    """Smallest difference of two shares that the exact McNemar test could see with n questions.

    That is the best case, in which every question that changes changes in the same direction.
    None when even n such changes would not reach p < alpha: then the test can show nothing.
    """
    changes = 1
    while mcnemar_p(changes, 0) >= alpha:
        changes += 1
    return changes / n if changes <= n else None


def bootstrap_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a mean; whole clusters are drawn, with replacement.

    `clusters[i]` names the cluster of `values[i]`. When all values are equal the interval has no
    width, however few they are: for shares of 0 or 1 use `wilson_interval` as well.
    Source: Efron 1979; clusters, Davison and Hinkley 1997, Bootstrap Methods, section 3.8.

    Raises: ValueError: there are no values.
    """
    import numpy as np

    if not values:
        raise ValueError("no values to draw from")
    _, member_of = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(member_of, weights=np.asarray(values)).astype(np.float64)
    sizes = np.bincount(member_of).astype(np.float64)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))


def bootstrap_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Paired cluster bootstrap of mean(a) - mean(b); row i of both is the same question."""
    differences = [left - right for left, right in zip(a, b, strict=True)]
    return bootstrap_mean(differences, clusters, resamples=resamples, seed=seed, level=level)


def permutation_p(
    differences: Sequence[float],
    clusters: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p of the paired permutation test: a cluster's differences all change sign or none.

    Under the null hypothesis the two systems are exchangeable in each cluster. All patterns of
    signs are tried for up to 16 clusters, else `resamples` drawn ones, where the observed pattern
    counts as one of them. Source: Good, Permutation Tests, 2nd ed., section 3.2; the +1 is
    Phipson and Smyth 2010.

    Raises: ValueError: there are no values.
    """
    import numpy as np

    if not differences:
        raise ValueError("no values to compare")
    _, member_of = np.unique(np.asarray(clusters), return_inverse=True)
    sums_C = np.bincount(member_of, weights=np.asarray(differences, dtype=np.float64))
    observed = abs(float(sums_C.sum()))
    slack = 1e-9 * float(np.abs(sums_C).sum())
    count = len(sums_C)
    if count <= _EXACT_UP_TO:
        patterns = np.arange(1 << count)[:, None] >> np.arange(count) & 1
        reached = np.abs((1 - 2 * patterns) @ sums_C) >= observed - slack
        return float(reached.mean())
    generator = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // count)
    hits = 0
    for start in range(0, resamples, block):
        signs = generator.integers(0, 2, size=(min(block, resamples - start), count), dtype=np.int8)
        hits += int((np.abs((1.0 - 2.0 * signs) @ sums_C) >= observed - slack).sum())
    return (hits + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given, valid for the whole family at once.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for step, index in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def _resampled_means(
    sums: "NDArray[np.float64]",
    sizes: "NDArray[np.float64]",
    resamples: int,
    generator: "np.random.Generator",
) -> "NDArray[np.float64]":
    """(R,) float64: mean of each of `resamples` draws of C clusters, in blocks that fit memory.

    `sums` and `sizes` are (C,) float64.
    """
    import numpy as np

    count = len(sums)
    if count * resamples >= _COMPILED_FROM:
        from jangin.metrics.bootstrap_kernel import resampled_means

        means_R: NDArray[np.float64] = resampled_means(
            sums, sizes, resamples, int(generator.integers(0, 2**63))
        )
        return means_R
    block = max(1, _DRAWS_AT_ONCE // count)
    means = []
    for start in range(0, resamples, block):
        drawn = generator.integers(0, count, size=(min(block, resamples - start), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
