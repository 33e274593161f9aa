"""Distributions of counts in bounded memory, and epochs that suit a number of examples."""

from collections import Counter

_EXACT = 2048
"""Larger values are counted with three significant digits."""
_EPOCHS, _MOST_EPOCHS = 3, 25
_FEW_ROWS, _MANY_ROWS = 100, 25_000


class Spread:
    """Counts of whole numbers from 0; values above 2048 are rounded to three digits."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._rows = 0
        self._total = 0
        self._least = 0
        self._most = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self._least = min(self._least, value) if self._rows else value
        self._most = max(self._most, value)
        self._rows += 1
        self._total += value
        self._counts[value if value <= _EXACT else _rounded(value)] += 1

    @property
    def total(self) -> int:
        """Sum of all values, exact."""
        return self._total

    def over(self, limit: int) -> int:
        """Number of values above a limit, as far as rounding tells."""
        return sum(count for value, count in self._counts.items() if value > limit)

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of all values does not exceed."""
        reached, values = 0, sorted(self._counts)
        for value in values:
            reached += self._counts[value]
            if reached >= share * self._rows:
                return min(max(value, self._least), self._most)
        return self._most

    def summary(self) -> dict[str, float | int]:
        """Smallest, largest, mean, median, and the 10th and 90th percentile."""
        return {
            "min": self._least,
            "max": self._most,
            "mean": round(self._total / self._rows, 2) if self._rows else 0.0,
            "median": self.quantile(0.5),
            "p10": self.quantile(0.1),
            "p90": self.quantile(0.9),
            "total": self._total,
        }


def _rounded(value: int) -> int:
    unit: int = 10 ** (len(str(value)) - 3)
    return value // unit * unit


def suggested_epochs(examples: int) -> int:
    """Number of epochs by number of examples: 3, more for few examples and fewer for very many.

    The rule of OpenAI's cookbook, *Data preparation and analysis for chat model fine-tuning*.
    """
    if examples <= 0:
        return _EPOCHS
    if examples * _EPOCHS < _FEW_ROWS:
        return min(_MOST_EPOCHS, _FEW_ROWS // examples)
    if examples * _EPOCHS > _MANY_ROWS:
        return max(1, _MANY_ROWS // examples)
    return _EPOCHS
