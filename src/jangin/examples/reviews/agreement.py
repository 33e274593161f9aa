"""How far reviewers agree who decided on the same rows, and the rows on which they do not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jangin.core.digest import seeded_rank
from jangin.examples.reviews.log import Review, ReviewDecision

RESAMPLES = 1_000
LEVEL = 0.95


def wants_second(row_id: str, share: float, seed: int = 0) -> bool:
    """True if the row is of the share that two reviewers decide on."""
    return share > 0 and seeded_rank(seed, "double review", row_id) < share


def latest_verdicts(review: Review) -> dict[str, ReviewDecision]:
    """{reviewer: latest accept, edit or reject}, in order of each reviewer's first verdict.

    A decision that settles a disagreement is no independent one and is left out.
    """
    return {d.by: d for d in review.history if d.is_verdict and not d.resolves}


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row about which the first two reviewers decided differently."""

    review: Review
    first: ReviewDecision
    second: ReviewDecision
    settled: ReviewDecision | None
    """The third decision: one that says so, or one of another reviewer; None while it is open."""


def find_disagreement(review: Review) -> Disagreement | None:
    """The disagreement about a row, or None where fewer than two decided or both agree."""
    verdicts = latest_verdicts(review)
    if len(verdicts) < 2:
        return None
    names = list(verdicts)
    first, second = verdicts[names[0]], verdicts[names[1]]
    if (first.decision, first.after) == (second.decision, second.after):
        return None
    settling = [d for d in review.history if d.is_verdict and (d.resolves or d.by not in names[:2])]
    return Disagreement(review, first, second, settling[-1] if settling else None)


def is_contested(review: Review) -> bool:
    """True while two reviewers disagree about the row and nothing has settled it."""
    disagreement = find_disagreement(review)
    return disagreement is not None and disagreement.settled is None


@dataclass(frozen=True, slots=True)
class ReviewerAgreement:
    """Two people's verdicts on the same rows."""

    first: str
    second: str
    rows: int
    same: float
    """Share of the rows on which both chose the same of accept, edit and reject."""
    kappa: float | None
    """Cohen's kappa; None where it is not defined: both chose one verdict for all rows."""
    low: float | None
    high: float | None
    """95 % interval of kappa, by a bootstrap over rows."""


def agreement_of_reviewers(reviews: Iterable[Review]) -> list[ReviewerAgreement]:
    """The agreement of every two reviewers with common rows, those with the most rows first."""
    chosen: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for review in reviews:
        verdicts = latest_verdicts(review)
        for a, b in combinations(sorted(verdicts), 2):
            both = (verdicts[a].decision, verdicts[b].decision)
            chosen.setdefault((a, b), []).append(both)
    table = [_compare(names, rows) for names, rows in chosen.items()]
    return sorted(table, key=lambda row: (-row.rows, row.first, row.second))


def _compare(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> ReviewerAgreement:
    same = sum(a == b for a, b in rows) / len(rows)
    kappa, low, high = cohens_kappa(rows), None, None
    generator = np.random.default_rng(0)
    kinds = list(Counter(rows).items())
    share = np.array([count for _, count in kinds]) / len(rows)
    draws = generator.multinomial(len(rows), share, size=RESAMPLES)
    drawn = [_kappa({k: int(n) for (k, _), n in zip(kinds, draw, strict=True)}) for draw in draws]
    defined = [figure for figure in drawn if figure is not None]
    if kappa is not None and 2 * len(defined) >= RESAMPLES:
        low, high = map(float, np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return ReviewerAgreement(*names, len(rows), same, kappa, low, high)


def cohens_kappa(rows: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two raters' labels of N rows (Cohen 1960); None where not defined."""
    return _kappa(Counter(rows))


def _kappa(counts: Mapping[tuple[str, str], int]) -> float | None:
    total = sum(counts.values())
    left, right = Counter[str](), Counter[str]()
    for (a, b), count in counts.items():
        left[a] += count
        right[b] += count
    seen = sum(count for (a, b), count in counts.items() if a == b) / total
    chance = sum(left[label] * right[label] for label in left) / total**2
    return (seen - chance) / (1 - chance) if chance < 1 else None
