"""What a metric declares: its names, direction, range, kind of gold answer and function."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

GoldKind = Literal["text", "label", "number"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of one answer against one gold answer, averaged over questions."""

    name: str
    """As stored in results and written in project files; never renamed."""
    display: Mapping[str, str]
    """{language: name in tables and reports}, for `en` and `ko`."""
    right: Mapping[str, str]
    """{language: name of the share of right answers shown beside it}."""
    gold: GoldKind
    """What the gold answer must be; `number` and `label` golds are checked before any question
    is asked."""
    score: Callable[[Any, Any], float]
    """(answer, gold) -> score; both parsed as `gold` says: a text, a `LabelPosition`, a float."""
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    """Worst or least to best or largest; scores in [0, 1] are shown as shares."""
    unparsable: str = ""
    """Column heading for answers that could not be parsed; empty where every answer can."""

    @property
    def is_share(self) -> bool:
        """True if scores are in [0, 1]; others are in the units of the gold numbers."""
        return self.range == (0.0, 1.0)

    @property
    def digits(self) -> int:
        """Decimals of a mean score that is not shown in percent."""
        return 3 if self.is_share else 2

    def best(self, scores: Iterable[float]) -> float:
        """The best of the scores against several gold answers."""
        return max(scores) if self.higher_is_better else min(scores)
