"""Pairwise comparison: by a judge that sees every pair in both orders, or by people who see one.

A judge that changes its mind when the order changes has no opinion: that pair is a tie. People see
each pair once, in a random order, so that a preference for a position only adds noise.
Source: Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench, section 3.4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from jangin.metrics.statistics import Interval, bootstrap_mean, mcnemar_p, wilson_interval

Winner = Literal["a", "b", "tie"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One question, judged once with `a` shown first and once with `b` shown first."""

    id: str
    cluster: str
    """What the question belongs to, such as its document."""
    a_first: Winner
    b_first: Winner
    a_length: int
    """Characters of the answer."""
    b_length: int

    @property
    def consistent(self) -> bool:
        """True if the order made no difference."""
        return self.a_first == self.b_first

    @property
    def winner(self) -> Winner:
        """Who won in both orders; a tie where they differ."""
        return self.a_first if self.consistent else "tie"


@dataclass(frozen=True, slots=True)
class PairwiseReport:
    """System `a` against system `b`."""

    n: int
    wins: int
    """Questions that `a` won in both orders."""
    losses: int
    ties: int
    """Called ties, and the inconsistent ones."""
    inconsistent: int
    win_rate: Interval
    """(wins + ties / 2) / n, with a 95 % bootstrap interval over clusters."""
    p_value: float
    """Exact sign test on the questions that one of them won."""
    first_shown: Interval | None
    """Share of all verdicts for one side that went to the answer shown first; 0.5 is no bias."""
    longer_won: Interval | None
    """Share of won questions that the longer answer won; None where lengths never differed."""
    length_correlation: float | None
    """Pearson's r of length difference and verdict (1, 0, -1); None without variation."""


def pairwise_report(judgements: Sequence[Judgement], seed: int = 0) -> PairwiseReport:
    """Win rate, sign test and position and length bias of a judge's verdicts.

    Raises: ValueError: there are no judgements.
    """
    winners = [judgement.winner for judgement in judgements]
    wins, losses = winners.count("a"), winners.count("b")
    points = [{"a": 1.0, "tie": 0.5, "b": 0.0}[winner] for winner in winners]
    shown = [
        side == first
        for judgement in judgements
        for side, first in ((judgement.a_first, "a"), (judgement.b_first, "b"))
        if side != "tie"
    ]
    longer = [
        (judgement.winner == "a") == (judgement.a_length > judgement.b_length)
        for judgement in judgements
        if judgement.winner != "tie" and judgement.a_length != judgement.b_length
    ]
    return PairwiseReport(
        n=len(judgements),
        wins=wins,
        losses=losses,
        ties=winners.count("tie"),
        inconsistent=sum(not judgement.consistent for judgement in judgements),
        win_rate=bootstrap_mean(points, [j.cluster for j in judgements], seed=seed),
        p_value=mcnemar_p(wins, losses),
        first_shown=wilson_interval(sum(shown), len(shown)) if shown else None,
        longer_won=wilson_interval(sum(longer), len(longer)) if longer else None,
        length_correlation=_correlation(
            [float(j.a_length - j.b_length) for j in judgements], [2 * p - 1 for p in points]
        ),
    )


@dataclass(frozen=True, slots=True)
class SelfPreference:
    """Win rate of a system with itself as the judge, compared with other judges."""

    n: int
    """Questions that all of them judged."""
    own: float
    """Its win rate with itself as the judge."""
    others: float
    """Its mean win rate with the other judges."""
    gain: Interval
    """The difference, with a paired 95 % bootstrap interval over clusters."""


def self_preference(
    points: Mapping[str, Mapping[str, float]],
    judge: str,
    clusters: Mapping[str, str],
    seed: int = 0,
) -> SelfPreference | None:
    """Win rate of a system with itself as the judge minus its win rate with the other judges.

    `points` is {judge: {question: 1, 0.5 or 0 for the system that `judge` is}}, `clusters` is
    {question: cluster}. None where it did not judge or judged alone, or no question was judged by
    all.
    """
    others = [given for name, given in points.items() if name != judge]
    mine = points.get(judge, {})
    common = [question for question in mine if all(question in given for given in others)]
    if not others or not common:
        return None
    own = [mine[question] for question in common]
    mean = [sum(given[question] for given in others) / len(others) for question in common]
    gains = [a - b for a, b in zip(own, mean, strict=True)]
    return SelfPreference(
        n=len(common),
        own=sum(own) / len(common),
        others=sum(mean) / len(common),
        gain=bootstrap_mean(gains, [clusters[question] for question in common], seed=seed),
    )


@dataclass(frozen=True, slots=True)
class PersonsChoice:
    """One person's choice between two answers, which were shown in a random order."""

    question: str
    """Id."""
    cluster: str
    """What the question belongs to, such as its document."""
    judge: str
    first: Literal["a", "b"]
    """Whose answer was shown first."""
    winner: Winner
    both_bad: bool = False
    """True where neither answer would do; `winner` is then a tie."""


@dataclass(frozen=True, slots=True)
class BlindReport:
    """System `a` against system `b`, judged by people."""

    n: int
    """Questions."""
    verdicts: int
    """Of all judges together."""
    judges: int
    wins: int
    """Questions for which most of the judges who preferred one answer preferred that of `a`."""
    losses: int
    ties: int
    both_bad: int
    """Verdicts that neither answer would do."""
    win_rate: Interval
    """Mean share of a question's verdicts for `a`, where a tie counts half; 95 %."""
    p_value: float
    """Exact sign test on the questions that one of them won."""
    first_shown: Interval | None
    """Share of verdicts for one side that went to the answer shown first; 0.5 is no bias."""
    shared: int
    """Questions with several judges."""
    agreement: float | None
    """Share of pairs of judges with the same verdict on the same question."""


def blind_report(verdicts: Sequence[PersonsChoice], seed: int = 0) -> BlindReport:
    """Win rate, sign test, position bias and agreement of people's verdicts.

    A question counts once, however many judged it. The interval is a bootstrap over clusters;
    where all questions have the same result it would have no width, so it is Wilson's there.

    Raises: ValueError: there are no verdicts.
    """
    if not verdicts:
        raise ValueError("no verdicts")
    points: dict[str, list[float]] = {}
    clusters = {verdict.question: verdict.cluster for verdict in verdicts}
    for verdict in verdicts:
        point = {"a": 1.0, "tie": 0.5, "b": 0.0}[verdict.winner]
        points.setdefault(verdict.question, []).append(point)
    means = [sum(given) / len(given) for given in points.values()]
    wins, losses = sum(mean > 0.5 for mean in means), sum(mean < 0.5 for mean in means)
    decided = [verdict for verdict in verdicts if verdict.winner != "tie"]
    chose_first = sum(verdict.winner == verdict.first for verdict in decided)
    pairs = [pair for given in points.values() for pair in combinations(given, 2)]
    return BlindReport(
        n=len(means),
        verdicts=len(verdicts),
        judges=len({verdict.judge for verdict in verdicts}),
        wins=wins,
        losses=losses,
        ties=len(means) - wins - losses,
        both_bad=sum(verdict.both_bad for verdict in verdicts),
        win_rate=_win_rate(means, [clusters[question] for question in points], seed),
        p_value=mcnemar_p(wins, losses),
        first_shown=wilson_interval(chose_first, len(decided)) if decided else None,
        shared=sum(len(given) > 1 for given in points.values()),
        agreement=sum(one == two for one, two in pairs) / len(pairs) if pairs else None,
    )


def _win_rate(means: Sequence[float], clusters: Sequence[str], seed: int) -> Interval:
    if len(set(means)) > 1:
        return bootstrap_mean(means, clusters, seed=seed)
    estimate = means[0]
    n = len(means)
    low = wilson_interval(math.floor(estimate * n), n).low
    return Interval(estimate, low, wilson_interval(math.ceil(estimate * n), n).high)


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    xx = sum((x - mean_x) ** 2 for x in xs)
    yy = sum((y - mean_y) ** 2 for y in ys)
    if not xx or not yy:
        return None
    xy = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return xy / math.sqrt(xx * yy)
