"""Rows, what has been decided about each, and the twin that stays in the end."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from jangin.core.records import Dropped, Example

Rule = Literal[
    "empty",
    "score",
    "characters",
    "tokens",
    "exact_duplicate",
    "conflicting_answer",
    "near_duplicate",
    "semantic_duplicate",
    "family",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a row goes, and the row that stays in its place."""

    index: int
    rule: Rule
    reason: str
    twin: int | None = None


def preference(row: Example) -> float:
    """Which of two twins stays: originals, then evolved ones, then by mean score."""
    mean = sum(score.value for score in row.scores) / max(len(row.scores), 1)
    return mean + {"original": 4, "evolved": 2, "paraphrase": 0}[row.kind]


@dataclass(slots=True)
class Sieve:
    """The rows and what has been decided about them so far."""

    rows: list[Example]
    """Changed in one thing only: rows that join another family."""
    out: dict[int, Verdict] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    """Rows whose family is another one now."""

    def left(self) -> list[int]:
        """Rows that no rule has taken."""
        return [index for index in range(len(self.rows)) if index not in self.out]

    def apply(self, judge: Callable[[int], str], rule: Rule) -> None:
        """Take every row for which `judge` gives a reason."""
        for index in self.left():
            if reason := judge(index):
                self.out[index] = Verdict(index, rule, reason)

    def follow(self, rule: Rule) -> None:
        """Take the paraphrases of every row that the rule took: they have its answer."""
        gone = {self.rows[index].id: v for index, v in self.out.items() if v.rule == rule}
        for index in self.left():
            row = self.rows[index]
            if row.kind == "paraphrase" and row.parent in gone:
                reason = f"a wording of {row.parent}, which was left out: {gone[row.parent].reason}"
                self.out[index] = Verdict(index, rule, reason)

    def settle(self, find: Callable[[list[int]], list[Verdict]]) -> None:
        """Take what `find` takes; what ends a line first, so that no twin is lost."""
        while True:
            verdicts = find(self.left())
            lines = [verdict for verdict in verdicts if self._ends_line(verdict)]
            self.out.update({verdict.index: verdict for verdict in lines or verdicts})
            if not lines:
                return
            self._take_lines(lines)

    def _ends_line(self, verdict: Verdict) -> bool:
        """True if a question gave way to one of another family."""
        row = self.rows[verdict.index]
        return (
            row.kind != "paraphrase"
            and verdict.twin is not None
            and self.rows[verdict.twin].family != row.family
        )

    def _take_lines(self, verdicts: Iterable[Verdict]) -> None:
        """Wordings of these questions go too; what evolved from them joins the twin's family.

        Left in a family of its own it could end up in another split than the twin.
        """
        ended = {self.rows[verdict.index].id: verdict for verdict in verdicts}
        families = {
            self.rows[verdict.index].family: verdict
            for verdict in ended.values()
            if self.rows[verdict.index].kind == "original"
        }
        parents = {row.id: row.parent for row in self.rows}
        evolved = {row.id for row in self.rows if row.kind == "evolved"}
        for index in self.left():
            row = self.rows[index]
            if row.kind != "evolved" and (row.parent in ended or row.parent not in evolved):
                verdict = ended.get(row.parent) or families.get(row.family)
                if verdict is not None:
                    reason = f"its original was left out ({verdict.rule}): {verdict.reason}"
                    self.out[index] = Verdict(index, "family", reason, verdict.twin)
                continue
            verdict, ancestor = families.get(row.family), row.parent
            while verdict is None and ancestor:
                verdict, ancestor = ended.get(ancestor), parents.get(ancestor, "")
            if verdict is not None and verdict.twin is not None:
                family = self.rows[verdict.twin].family
                self.rows[index] = row.model_copy(update={"family": family})
                self.moved.add(index)

    def dropped(self) -> list[Dropped]:
        """The rows that go, in order, each with the twin that stays in the end."""
        return [self._drop(self.out[index]) for index in sorted(self.out)]

    def _drop(self, verdict: Verdict) -> Dropped:
        twin, reason = verdict.twin, verdict.reason
        while twin in self.out:
            twin = self.out[twin].twin
        final = "" if twin is None else self.rows[twin].id
        if twin != verdict.twin:
            reason += f"; that one gave way to {final}"
        example = self.rows[verdict.index]
        return Dropped(example=example, rule=verdict.rule, reason=reason, twin=final)
