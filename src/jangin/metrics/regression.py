"""Mean absolute error, relative error and error bands of predicted numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from jangin.core.errors import DataError, counted, counted_of
from jangin.metrics.statistics import Interval, bootstrap_mean, wilson_interval

Band = Literal["green", "orange", "red"]


@dataclass(frozen=True, slots=True)
class Bands:
    """A guess is green or orange by its absolute or its relative error, whichever is kinder.

    The defaults are those of the price recipe, in dollars.
    """

    green: float = 40.0
    green_share: float = 0.2
    orange: float = 80.0
    orange_share: float = 0.4

    def band(self, guess: float, truth: float) -> Band:
        """Where an error falls."""
        error = abs(guess - truth)
        share = error / abs(truth) if truth else math.inf if error else 0.0
        if error < self.green or share < self.green_share:
            return "green"
        if error < self.orange or share < self.orange_share:
            return "orange"
        return "red"


@dataclass(frozen=True, slots=True)
class NumberReport:
    """Grades of all rows. Unparsable answers are red in the bands and in nothing else."""

    n: int
    unparsable: int
    mean_error: Interval | None
    """Mean absolute error with a 95 % bootstrap interval; None where no answer was a number."""
    median_error: float
    rmse: float
    rmsle: float
    """Root mean squared error of ln(x + 1); a guess below 0 counts as 0."""
    r2: float | None
    """Share of the variance explained; None where all truths are equal."""
    green: Interval
    """Wilson's 95 % interval, as for the other two; shares of all n rows."""
    orange: Interval
    red: Interval


def grade_numbers(
    gold: Mapping[str, float],
    predicted: Mapping[str, float | None],
    *,
    clusters: Mapping[str, str] | None = None,
    bands: Bands | None = None,
    seed: int = 0,
) -> NumberReport:
    """Grade {row id: number} against {row id: truth}; None and NaN are unparsable answers.

    `clusters` names for each row what it belongs to, so that siblings are drawn together. Raises
    `DataError` where the rows differ or a truth is not a finite number.
    """
    _check(gold, predicted)
    bands = bands or Bands()
    parsed = [
        (row, guess, gold[row])
        for row, guess in predicted.items()
        if guess is not None and math.isfinite(guess)
    ]
    counts = {"green": 0, "orange": 0, "red": len(gold) - len(parsed)}
    for _, guess, truth in parsed:
        counts[bands.band(guess, truth)] += 1
    errors = [abs(guess - truth) for _, guess, truth in parsed]
    groups = [clusters[row] if clusters else row for row, _, _ in parsed]
    pairs = [(guess, truth) for _, guess, truth in parsed]
    return NumberReport(
        n=len(gold),
        unparsable=len(gold) - len(parsed),
        mean_error=bootstrap_mean(errors, groups, seed=seed) if errors else None,
        median_error=median(errors) if errors else math.nan,
        rmse=math.sqrt(_mean([error * error for error in errors])),
        rmsle=math.sqrt(_mean([_log_error(guess, truth) for guess, truth in pairs])),
        r2=_r2(pairs),
        green=wilson_interval(counts["green"], len(gold)),
        orange=wilson_interval(counts["orange"], len(gold)),
        red=wilson_interval(counts["red"], len(gold)),
    )


def _check(gold: Mapping[str, float], predicted: Mapping[str, float | None]) -> None:
    if gold.keys() != predicted.keys():
        missing, extra = len(gold.keys() - predicted.keys()), len(predicted.keys() - gold.keys())
        raise DataError(
            f"{counted_of(missing, len(gold), 'row', 'has', 'have')} no prediction and "
            f"{counted(extra, 'prediction has', 'predictions have')} no row. "
            "Predict every row once, under its id."
        )
    for row, truth in gold.items():
        if not math.isfinite(truth):
            raise DataError(f"row {row}: the truth is {truth}, not a number. Drop that row.")


def _log_error(guess: float, truth: float) -> float:
    return (math.log1p(max(guess, 0.0)) - math.log1p(max(truth, 0.0))) ** 2


def _r2(pairs: Sequence[tuple[float, float]]) -> float | None:
    mean = _mean([truth for _, truth in pairs])
    spread = sum((truth - mean) ** 2 for _, truth in pairs)
    return 1 - sum((guess - truth) ** 2 for guess, truth in pairs) / spread if spread else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
