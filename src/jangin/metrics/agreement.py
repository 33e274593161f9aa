"""How often a grader agrees with the verdicts of people, and in which direction it errs."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.metrics.statistics import Interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """A grader beside people, on the same answers."""

    right: int
    """Answers that people call right ..."""
    wrong: int
    """... and wrong."""
    false_rights: int
    """Wrong answers that the grader calls right."""
    false_wrongs: int
    """Right answers that the grader calls wrong."""

    @classmethod
    def of(cls, graded: Sequence[bool], labelled: Sequence[bool]) -> "Agreement":
        """Of the grader's verdicts and those of people, in the same order."""
        pairs = list(zip(graded, labelled, strict=True))
        return cls(
            right=sum(labelled),
            wrong=len(pairs) - sum(labelled),
            false_rights=sum(given and not label for given, label in pairs),
            false_wrongs=sum(label and not given for given, label in pairs),
        )

    @property
    def agreement(self) -> Interval:
        """Share of all answers on which both agree, with Wilson's 95 % interval."""
        n = self.right + self.wrong
        return wilson_interval(n - self.false_rights - self.false_wrongs, n)

    @property
    def false_right(self) -> Interval:
        """Share of the wrong answers that the grader calls right, with Wilson's 95 % interval."""
        return wilson_interval(self.false_rights, self.wrong)

    @property
    def false_wrong(self) -> Interval:
        """Share of the right answers that the grader calls wrong, with Wilson's 95 % interval."""
        return wilson_interval(self.false_wrongs, self.right)
