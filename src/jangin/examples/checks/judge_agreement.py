"""How far a judge's scores agree with people's: rank correlation, weighted kappa, mean difference.

Each figure has a percentile interval from a bootstrap that draws whole families, because a
question and what evolved from it are scored alike.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jangin.core.records import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEW = 30
"""With fewer scored examples the figures are shown as an impression, not as a finding."""
RESAMPLES = 2_000
LEVEL = 0.95


class Agreement(Record):
    """One figure with its 95 % interval; None where it is not defined, as without any variance."""

    measure: str
    """`spearman`, `kendall` (tau-b), `weighted_kappa` (quadratic) or `mean_difference`."""
    n: int
    value: float | None
    low: float | None
    high: float | None


def compare(
    judged: Sequence[float], human: Sequence[float], families: Sequence[str], seed: int = 0
) -> list[Agreement]:
    """Agreement of two scores on the scale 1 to 5, row by row; `mean_difference` is judge - human.

    Raises ValueError where there are no rows.
    """
    if not judged:
        raise ValueError("no scores to compare")
    judge_N, human_N = np.asarray(judged, np.float64), np.asarray(human, np.float64)
    draws = _draws(families, np.random.default_rng(seed))
    agreement = []
    for name, measure in MEASURES.items():
        value = measure(judge_N, human_N)
        drawn = [measure(judge_N[rows], human_N[rows]) for rows in draws]
        defined = [figure for figure in drawn if figure is not None]
        low = high = None
        if value is not None and 2 * len(defined) >= len(drawn):
            low, high = map(float, np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        agreement.append(Agreement(measure=name, n=len(judged), value=value, low=low, high=high))
    return agreement


def advice(agreement: Sequence[Agreement]) -> str:
    """How reliable the figures are, in one sentence or two."""
    spearman = next(row for row in agreement if row.measure == "spearman")
    if spearman.value is None or spearman.low is None or spearman.high is None:
        return (
            f"{spearman.n} human scores do not vary enough to say whether the judge agrees. "
            "Score good and bad examples."
        )
    text = f"Spearman {spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}]"
    text += f" with {spearman.n} human scores"
    if spearman.n < FEW:
        return f"{text}: too few to rely on. Score at least {FEW}."
    if spearman.low <= 0:
        return f"{text}: this could be chance. Score more examples, or do not use this judge."
    return f"{text}."


def _draws(families: Sequence[str], generator: "np.random.Generator") -> "list[NDArray[np.int64]]":
    """Rows of each resample: as many families as there are, with all their rows."""
    _, member_of = np.unique(np.asarray(families), return_inverse=True)
    members = [np.flatnonzero(member_of == family) for family in range(member_of.max() + 1)]
    return [
        np.concatenate([members[family] for family in drawn])
        for drawn in generator.integers(0, len(members), size=(RESAMPLES, len(members)))
    ]


def spearman(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Pearson's correlation of the ranks, ties at their mean."""
    a, b = _ranks(judge_N), _ranks(human_N)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else None


def _ranks(values_N: "Floats") -> "Floats":
    _, inverse, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[inverse]
    return ranks


def kendall(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Tau-b: pairs in the same order less pairs in the other, with ties taken off both scales."""
    _, row_N = np.unique(judge_N, return_inverse=True)
    _, column_N = np.unique(human_N, return_inverse=True)
    table = np.zeros((row_N.max() + 1, column_N.max() + 1))
    np.add.at(table, (row_N, column_N), 1)
    below = table[::-1].cumsum(0)[::-1]
    right = below[:, ::-1].cumsum(1)[:, ::-1]
    same = float((table[:-1, :-1] * right[1:, 1:]).sum())
    other = float((table[:-1, 1:] * below.cumsum(1)[1:, :-1]).sum())
    pairs = _pairs(np.array([len(judge_N)]))
    untied = [pairs - _pairs(table.sum(axis)) for axis in (0, 1)]
    scale = float(np.sqrt(untied[0] * untied[1]))
    return (same - other) / scale if scale else None


def _pairs(counts: "Floats") -> float:
    """Pairs within groups of these sizes."""
    return float((counts * (counts - 1) / 2).sum())


def weighted_kappa(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Cohen's kappa with quadratic weights over the five grades; fractions are rounded."""
    # Not `metrics.classification.weighted_kappa`: that one counts in integers and differs in the
    # last bits in half of all cases, and this figure is stored.
    a, b = (np.clip(np.rint(values_N), 1, 5) for values_N in (judge_N, human_N))
    seen = float(np.mean((a - b) ** 2))
    expected = float(np.mean(a * a) - 2 * np.mean(a) * np.mean(b) + np.mean(b * b))
    return 1 - seen / expected if expected else None


def mean_difference(judge_N: "Floats", human_N: "Floats") -> float | None:
    """How much more the judge gives, in grades."""
    return float(np.mean(judge_N - human_N))


MEASURES: "dict[str, Callable[[Floats, Floats], float | None]]" = {
    "spearman": spearman,
    "kendall": kendall,
    "weighted_kappa": weighted_kappa,
    "mean_difference": mean_difference,
}
