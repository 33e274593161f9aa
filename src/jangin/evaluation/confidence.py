"""How far an answer can be trusted: how often such ones were right on held-out questions.

For each status of a trace, held-out questions are sorted by similarity into groups of at least
`LEAST`; neighbouring groups are pooled until the share of right answers grows with similarity, as
isotonic regression does (Zadrozny and Elkan 2002, Transforming classifier scores into accurate
multiclass probability estimates).
"""

from collections.abc import Sequence

from jangin.core.errors import counted
from jangin.core.records import Example, Record
from jangin.core.store import Artifact
from jangin.evaluation.stored import grades_are_current, read_predictions, read_rows
from jangin.evaluation.tasks.task import Prediction
from jangin.inference.ask import TaughtQuestions, Trace, TraceStatus

LEAST = 20
"""Questions that a share rests on at least; with fewer it is not shown as one."""


class ConfidenceGroup(Record):
    """Held-out questions whose traces are alike."""

    status: TraceStatus
    low: float
    """Least similarity of the group, included ..."""
    high: float
    """... and the one where the next group begins."""
    n: int
    right: int
    """Answers whose facts were right."""

    @property
    def share(self) -> float | None:
        """Share of right answers; None with too few questions."""
        return self.right / self.n if self.n >= LEAST else None


def calibrate(
    predictions: Sequence[Prediction], train: Sequence[Example], system: str = "tuned"
) -> list[ConfidenceGroup]:
    """Groups of the held-out questions of one system; none where answers are labels or numbers."""
    held_out = [
        p
        for p in predictions
        if p.system == system and p.evidence_set != "seen_questions" and p.form is not None
    ]
    if not held_out or not train:
        return []
    taught = TaughtQuestions(train)
    points: dict[TraceStatus, list[tuple[float, bool]]] = {}
    for p in held_out:
        trace = taught.trace(p.question, p.prediction)
        points.setdefault(trace.status, []).append((trace.similarity, p.right))
    return [group for status, pairs in points.items() for group in _groups(status, sorted(pairs))]


def _groups(status: TraceStatus, points: Sequence[tuple[float, bool]]) -> list[ConfidenceGroup]:
    starts = list(range(0, max(1, len(points) - LEAST + 1), LEAST))
    pooled: list[list[tuple[float, bool]]] = []
    for start, end in zip(starts, [*starts[1:], len(points)], strict=True):
        pooled.append(list(points[start:end]))
        while len(pooled) > 1 and _share(pooled[-2]) >= _share(pooled[-1]):
            last = pooled.pop()
            pooled[-1] += last
    edges = [0.0, *(group[0][0] for group in pooled[1:]), 1.0]
    return [
        ConfidenceGroup(
            status=status, low=low, high=high, n=len(group), right=sum(r for _, r in group)
        )
        for group, low, high in zip(pooled, edges[:-1], edges[1:], strict=True)
    ]


def _share(points: Sequence[tuple[float, bool]]) -> float:
    return sum(right for _, right in points) / len(points)


def read_confidence(artifact: Artifact, train: Sequence[Example]) -> list[ConfidenceGroup]:
    """The groups of an evaluation; computed from its answers where it is older than they."""
    if grades_are_current(artifact) and (artifact.path / "confidence.parquet").exists():
        return read_rows(artifact, "confidence", ConfidenceGroup)
    return calibrate(read_predictions(artifact), train)


def group_of(groups: Sequence[ConfidenceGroup], trace: Trace) -> ConfidenceGroup | None:
    """The held-out questions whose traces are like this one; None without any.

    A question of the test itself has none: that its trace is alike says nothing about it.
    """
    alike = [group for group in groups if group.status == trace.status]
    return next((g for g in reversed(alike) if g.low <= trace.similarity), None)


def in_words(group: ConfidenceGroup | None) -> str:
    """The confidence with the number of questions that it rests on."""
    if group is None:
        return "no held-out question was answered like this"
    if group.share is None:
        return (
            "too few held-out questions were answered like this for a confidence "
            f"({group.right} of {group.n} were right)"
        )
    return (
        f"confidence {100 * group.share:.0f} %: of {counted(group.n, 'held-out question')} "
        f"answered like this {group.right} were right"
    )
