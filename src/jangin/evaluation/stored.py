"""Read the tables of an evaluation, with content match graded by the current rules.

Answers are generated once and stored; whether one is right in content is computed again from the
stored answer where the evaluation is older than the measure or its rules.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from jangin.core.parquet import read_table
from jangin.core.records import Record
from jangin.core.store import Artifact
from jangin.evaluation.results import (
    Comparison,
    Result,
    content_pairs,
    content_shares,
    in_content,
)
from jangin.evaluation.tasks.prediction import Prediction, by_set_and_system
from jangin.metrics.content_match import VERSION

R = TypeVar("R", bound=Record)


_kept: ContextVar[dict[Path, list[Prediction]] | None] = ContextVar("_kept", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Within it, the answers of each evaluation are read from the disk only once."""
    kept = _kept.get()
    token = _kept.set({} if kept is None else kept)
    try:
        yield
    finally:
        _kept.reset(token)


def read_predictions(artifact: Artifact) -> list[Prediction]:
    """Answers of all systems; none where the artifact has none."""
    kept = _kept.get()
    if kept is None:
        return _read_predictions(artifact)
    if artifact.path not in kept:
        kept[artifact.path] = _read_predictions(artifact)
    return list(kept[artifact.path])


def _read_predictions(artifact: Artifact) -> list[Prediction]:
    rows = read_rows(artifact, "predictions", Prediction)
    if grades_are_current(artifact):
        return rows
    return [
        row.model_copy(
            update={
                "content_match": in_content(row.prediction, row.gold, row.other_golds, row.question)
            }
        )
        for row in rows
    ]


def read_results(artifact: Artifact) -> list[Result]:
    """One row for each test set and system."""
    rows = read_rows(artifact, "results", Result)
    if grades_are_current(artifact):
        return rows
    groups = by_set_and_system(read_predictions(artifact))
    return [
        row.model_copy(update=content_shares(groups[row.evidence_set, row.system])) for row in rows
    ]


def read_comparisons(artifact: Artifact) -> list[Comparison]:
    """Every pair of systems on every test set."""
    rows = read_rows(artifact, "comparisons", Comparison)
    if grades_are_current(artifact):
        return rows
    groups = {
        key: {p.example_id: p for p in group}
        for key, group in by_set_and_system(read_predictions(artifact)).items()
    }
    filled = []
    for row in rows:
        a, b = groups[row.evidence_set, row.a], groups[row.evidence_set, row.b]
        filled.append(row.model_copy(update=content_pairs([(a[name], b[name]) for name in a])))
    return filled


def grades_are_current(artifact: Artifact) -> bool:
    """True for stored grades of the present rules, and where answers are labels or numbers."""
    if artifact.manifest.config.get("task", {}).get("type", "answers") != "answers":
        return True
    return artifact.manifest.summary.get("content_match_version") == VERSION


def read_rows(artifact: Artifact, kind: str, record: type[R]) -> list[R]:
    """Rows of a table of an evaluation; none where it has no such table."""
    path = artifact.path / f"{kind}.parquet"
    return read_table(path, record) if path.exists() else []
