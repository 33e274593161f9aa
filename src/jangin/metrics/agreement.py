"""How often a grader, and a judge beside it, agree with people, and in which direction they err."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

from jangin.metrics.statistics import Interval, wilson_interval

Opinion = Literal["right", "wrong", "undecided"]
"""What a judge says of an answer; undecided where it says one thing once and another thing then."""
ENOUGH = 20
"""Labels from which on a judge is called calibrated."""


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
    unclear: int = 0
    """Of the false wrongs, those that it says it cannot judge."""

    @classmethod
    def of(
        cls, graded: Sequence[bool], labelled: Sequence[bool], unclear: Sequence[bool] = ()
    ) -> "Agreement":
        """Of the grader's verdicts and those of people, in the same order."""
        pairs = list(zip(graded, labelled, strict=True))
        return cls(
            right=sum(labelled),
            wrong=len(pairs) - sum(labelled),
            false_rights=sum(given and not label for given, label in pairs),
            false_wrongs=sum(label and not given for given, label in pairs),
            unclear=sum(a and b for a, b in zip(labelled, unclear, strict=False)),
        )

    @property
    def n(self) -> int:
        """Answers with both verdicts."""
        return self.right + self.wrong

    @property
    def agreement(self) -> Interval:
        """Share of all answers on which both agree, with Wilson's 95 % interval."""
        return wilson_interval(self.n - self.false_rights - self.false_wrongs, self.n)

    @property
    def false_right(self) -> Interval:
        """Share of the wrong answers that the grader calls right, with Wilson's 95 % interval."""
        return wilson_interval(self.false_rights, self.wrong)

    @property
    def false_wrong(self) -> Interval:
        """Share of the right answers that the grader calls wrong, with Wilson's 95 % interval."""
        return wilson_interval(self.false_wrongs, self.right)

    @property
    def discernment(self) -> Interval:
        """Share of right answers called right minus that of wrong ones; 0 is no better than chance.

        With the hybrid score interval: Newcombe 1998, method 10, from Wilson's two intervals.
        """
        kept, taken = wilson_interval(self.right - self.false_wrongs, self.right), self.false_right
        gain = kept.estimate - taken.estimate
        down = hypot(kept.estimate - kept.low, taken.high - taken.estimate)
        up = hypot(kept.high - kept.estimate, taken.estimate - taken.low)
        return Interval(gain, gain - down, gain + up)


Standing = Literal["few", "unproven", "behind", "level"]
"""What labels say of a judge: they are too few; they do not show that it tells right from wrong
answers; it agrees with people less often than the grader; at least as often."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A grader and a judge beside people, on the same answers."""

    grader: Agreement
    """Of all answers."""
    judge: Agreement
    """Of those on which the judge is decided."""
    both: Agreement
    """Of those on which judge and grader say the same."""

    @classmethod
    def of(
        cls, graded: Sequence[bool], opinions: Sequence[Opinion], labelled: Sequence[bool]
    ) -> "Calibration":
        """Of the verdicts of grader, judge and people, in the same order."""
        rows = list(zip(graded, opinions, labelled, strict=True))
        decided = [(o == "right", label) for _, o, label in rows if o != "undecided"]
        same = [(g, label) for g, o, label in rows if o == ("right" if g else "wrong")]
        return cls(
            Agreement.of(graded, labelled),
            Agreement.of([given for given, _ in decided], [label for _, label in decided]),
            Agreement.of([given for given, _ in same], [label for _, label in same]),
        )

    @property
    def n(self) -> int:
        """Answers with a label of a person and an opinion of the judge, decided or not."""
        return self.grader.n

    @property
    def parts(self) -> dict[str, Agreement]:
        """{`grader`, `judge` or `both`: its agreement}."""
        return {"grader": self.grader, "judge": self.judge, "both": self.both}

    @property
    def standing(self) -> Standing:
        """What the labels say of the judge."""
        if self.n < ENOUGH:
            return "few"
        if self.judge.discernment.low <= 0:
            return "unproven"
        ahead = self.judge.agreement.estimate >= self.grader.agreement.estimate
        return "level" if ahead else "behind"
