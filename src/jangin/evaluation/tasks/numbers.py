"""Task `numbers`: a number such as a price, and its figures: errors, R², colour bands."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from jangin.core.config import Added
from jangin.core.errors import DataError
from jangin.core.records import Record
from jangin.evaluation.tasks.task import (
    Grade,
    Prediction,
    ResultTable,
    TaskConfig,
    TestSet,
    by_set_and_system,
)
from jangin.metrics.regression import Bands, grade_numbers
from jangin.metrics.scores.metric import GoldKind
from jangin.metrics.scores.table import find_metric
from jangin.text.numbers import DecimalMark, read_number


class NumbersTask(TaskConfig):
    """A number, such as a price; an answer is right if it falls into the green band."""

    gold: ClassVar[GoldKind] = "number"
    invalid_gold_remedy: ClassVar[str] = "Drop the rows, or choose another task under evaluate."

    type: Literal["numbers"]
    green: float = Field(default=40.0, ge=0)
    """Green below this absolute error, in the units of the truth ..."""
    green_share: float = Field(default=0.2, ge=0)
    """... or below this share of the truth."""
    orange: float = Field(default=80.0, ge=0)
    """Orange below this absolute error ..."""
    orange_share: float = Field(default=0.4, ge=0)
    """... or below this share of the truth; red otherwise."""
    decimal: Added[DecimalMark] = "point"
    """Decimal mark of answers and truths: `comma` reads `12,50` as 12.5 and `1.299` as 1299."""

    @property
    def bands(self) -> Bands:
        """The four limits."""
        return Bands(self.green, self.green_share, self.orange, self.orange_share)

    @property
    def invalid_gold(self) -> str:
        """Fixed: no number can be read."""
        return "that is not a number"

    def is_valid_gold(self, answer: str) -> bool:
        """True where a number can be read."""
        return read_number(answer, self.decimal) is not None

    def grade(self, answer: str, golds: Sequence[str], row: str = "") -> Grade:
        """Score is the absolute error; None for an unparsable answer.

        Raises: DataError: the gold answer is not a number.
        """
        truth = gold_number(golds[0], row, self.decimal)
        guess = read_number(answer, self.decimal)
        if guess is None:
            return Grade(right=False, score=None, parsed="", unparsable=True)
        right = self.bands.band(guess, truth) == "green"
        return Grade(right, find_metric(self.metric).score(guess, truth), f"{guess:g}")

    def tables(self, predictions: Sequence[Prediction], seed: int) -> list[ResultTable]:
        """`number_results`."""
        rows = number_results(predictions, self, seed)
        return [ResultTable("number_results", NumberResult, rows)]


class NumberResult(Record):
    """One system's numbers on one test set."""

    evidence_set: TestSet
    system: str
    n: int
    unparsable: int
    mean_error: float | None
    """Mean absolute error over the answers that were parsed, with a 95 % bootstrap interval."""
    mean_error_low: float | None
    mean_error_high: float | None
    median_error: float | None
    rmse: float | None
    rmsle: float | None
    r2: float | None
    green: float
    """Shares of all n by band; unparsable answers are red."""
    green_low: float
    green_high: float
    orange: float
    red: float


def gold_number(gold: str, row: str, decimal: DecimalMark = "point") -> float:
    """The gold answer as a number.

    Raises: DataError: it is not a number; `row` names the example.
    """
    truth = read_number(gold, decimal)
    if truth is None:
        raise DataError(
            f"row {row}: answer {gold[:60]!r} is not a number. Drop the row, or choose another "
            "task under evaluate."
        )
    return truth


def number_results(
    predictions: Sequence[Prediction], task: NumbersTask, seed: int = 0
) -> list[NumberResult]:
    """One row for each test set and system."""
    rows = []
    for (test_set, system), group in by_set_and_system(predictions).items():
        report = grade_numbers(
            {p.example_id: gold_number(p.gold, p.example_id, task.decimal) for p in group},
            {
                p.example_id: None if p.unparsable else read_number(p.prediction, task.decimal)
                for p in group
            },
            clusters={p.example_id: p.family for p in group},
            bands=task.bands,
            seed=seed,
        )
        mean = report.mean_error
        rows.append(
            NumberResult(
                evidence_set=test_set,
                system=system,
                n=report.n,
                unparsable=report.unparsable,
                mean_error=mean.estimate if mean else None,
                mean_error_low=mean.low if mean else None,
                mean_error_high=mean.high if mean else None,
                median_error=report.median_error if mean else None,
                rmse=report.rmse if mean else None,
                rmsle=report.rmsle if mean else None,
                r2=report.r2,
                green=report.green.estimate,
                green_low=report.green.low,
                green_high=report.green.high,
                orange=report.orange.estimate,
                red=report.red.estimate,
            )
        )
    return rows
