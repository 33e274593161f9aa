"""Filter state of `curate`: the rows, the decision about each, and the twin that survives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from jangin.core.records import Dropped, Example
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.curation.review_effects import is_by_hand

Rule = Literal[
    "review",
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


def duplicate(rule: Rule, reason: str, twin: int | None) -> Decision:
    """The decision to drop a row in favour of its twin, whose index is `twin`."""
    return drop(rule, reason, twin)


def preference(row: Example) -> float:
    """Which of two twins is kept (the higher).

    What a person accepted or added, then originals, then evolved ones, then by mean score.
    """
    mean = sum(score.value for score in row.scores) / max(len(row.scores), 1)
    return mean + {"original": 4, "evolved": 2, "paraphrase": 0}[row.kind] + 8 * is_by_hand(row)


@dataclass(slots=True)
class FilterState:
    """All rows and the decisions to drop some of them; every filter sees what is left."""

    rows: list[Example]
    """All rows; a row that joins another family is replaced."""
    decisions: dict[int, Decision] = field(default_factory=dict)
    """{index of a dropped row: why}."""
    moved: set[int] = field(default_factory=set)
    """Indices of rows that joined another family."""

    def left(self) -> list[int]:
        """Indices of the rows that no rule has dropped, in order."""
        return [index for index in range(len(self.rows)) if index not in self.decisions]

    def apply(self, reason_of: Callable[[int], str], rule: Rule) -> None:
        """Drop every row for which `reason_of` returns a reason."""
        for index in self.left():
            if reason := reason_of(index):
                self.decisions[index] = drop(rule, reason)

    def drop_paraphrases(self, rule: Rule) -> None:
        """Drop the paraphrases of every row that the rule dropped: they have its answer."""
        dropped = {self.rows[i].id: d for i, d in self.decisions.items() if d.rule == rule}
        for index in self.left():
            row = self.rows[index]
            if row.kind == "paraphrase" and row.parent in dropped:
                first = dropped[row.parent].reason
                reason = f"a wording of {row.parent}, which was left out: {first}"
                self.decisions[index] = drop(rule, reason)

    def drop_duplicates(self, find: Callable[[list[int]], Mapping[int, Decision]]) -> None:
        """Drop what `find` decides to drop of the rows that are left.

        Rows whose twin is of another family go first, with their descendants; then `find` is
        called again. So a row is never dropped for a twin that is dropped itself.
        """
        while True:
            decisions = find(self.left())
            across = {i: d for i, d in decisions.items() if self._is_across_families(i, d)}
            self.decisions.update(across or decisions)
            if not across:
                return
            self._settle_descendants(across)

    def _is_across_families(self, index: int, decision: Decision) -> bool:
        """True if a question, not a paraphrase, is dropped in favour of another family."""
        row = self.rows[index]
        return (
            row.kind != "paraphrase"
            and decision.twin is not None
            and self.rows[decision.twin].family != row.family
        )

    def _settle_descendants(self, dropped: Mapping[int, Decision]) -> None:
        """Drop paraphrases of dropped questions; what evolved from them joins the twin's family.

        In a family of its own it could get into another split than the twin.
        """
        by_id = {self.rows[index].id: decision for index, decision in dropped.items()}
        by_family = {
            self.rows[index].family: by_id[self.rows[index].id]
            for index in dropped
            if self.rows[index].kind == "original"
        }
        parents = {row.id: row.parent for row in self.rows}
        evolved = {row.id for row in self.rows if row.kind == "evolved"}
        for index in self.left():
            row = self.rows[index]
            if row.kind != "evolved" and (row.parent in by_id or row.parent not in evolved):
                decision = by_id.get(row.parent) or by_family.get(row.family)
                if decision is not None:
                    reason = f"its original was left out ({decision.rule}): {decision.reason}"
                    self.decisions[index] = duplicate("family", reason, decision.twin)
                continue
            decision, ancestor = by_family.get(row.family), row.parent
            while decision is None and ancestor:
                decision, ancestor = by_id.get(ancestor), parents.get(ancestor, "")
            if decision is not None and decision.twin is not None:
                family = self.rows[decision.twin].family
                self.rows[index] = row.model_copy(update={"family": family})
                self.moved.add(index)

    def dropped(self) -> list[Dropped]:
        """Records of the dropped rows, in order, each with the twin that survives."""
        return [self._record(index, self.decisions[index]) for index in sorted(self.decisions)]

    def _record(self, index: int, decision: Decision) -> Dropped:
        twin = decision.twin
        while twin in self.decisions:
            twin = self.decisions[twin].twin
        survivor = "" if twin is None else self.rows[twin].id
        if twin != decision.twin:
            reason = f"{decision.reason}; that one gave way to {survivor}"
            decision = drop(decision.rule, reason)
        return decision.dropped(self.rows[index], survivor)
