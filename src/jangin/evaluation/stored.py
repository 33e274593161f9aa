"""Read the tables of an evaluation, with free answers graded by the current rules.

Answers are generated once and stored; whether the facts of one are right is computed again from the
stored answer where the evaluation is older than those rules. No model is asked. Of an answer that
the rules cannot judge, the word of a person decides, as far as there is one.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jangin.core.parquet import arrow_schema, batches_of, read_columns, read_records, read_table
from jangin.core.records import Chunk, Record, SplitExample
from jangin.core.store import MANIFEST, Artifact
from jangin.evaluation.results import (
    Comparison,
    Evidence,
    Result,
    evidence_of,
    graded_pairs,
    graded_shares,
    regrade,
)
from jangin.evaluation.second_opinion import OpinionRow
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.tasks.table import DEFAULT_TASK
from jangin.evaluation.tasks.task import Prediction, by_set_and_system
from jangin.metrics.facts import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R", bound=Record)


_decisions: ContextVar[Mapping[tuple[str, str, str], bool] | None] = ContextVar(
    "_decisions", default=None
)
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


@contextmanager
def deciding(labels: Mapping[tuple[str, str, str], bool]) -> Iterator[None]:
    """Within it, unclear answers are right or wrong as people say.

    `labels`: {(question, expected answer, answer): whether a person calls it right}.
    """
    token, kept = _decisions.set(labels), _kept.set({})
    try:
        yield
    finally:
        _kept.reset(kept)
        _decisions.reset(token)


def read_predictions(artifact: Artifact) -> list[Prediction]:
    """Answers of all systems; none where the artifact has none."""
    kept = _kept.get()
    if kept is None:
        return _read_predictions(artifact)
    if artifact.path not in kept:
        kept[artifact.path] = _read_predictions(artifact)
    return list(kept[artifact.path])


def _read_predictions(artifact: Artifact) -> list[Prediction]:
    rows = _graded(artifact)
    labels = _decisions.get()
    return [_decided(row, labels) for row in rows] if labels else rows


def _decided(row: Prediction, labels: Mapping[tuple[str, str, str], bool]) -> Prediction:
    label = labels.get((row.question, row.gold, row.prediction)) if row.unclear else None
    if label is None:
        return row
    return row.model_copy(update={"right": label, "unclear": False, "reason": "read"})


def _graded(artifact: Artifact) -> list[Prediction]:
    if grades_are_current(artifact):
        return read_rows(artifact, "predictions", Prediction)
    inputs = artifact.manifest.inputs
    read = (inputs.get("splits", ""), inputs.get("chunks", ""))
    return list(_regraded(artifact.path, artifact.manifest.content, *read))


@lru_cache(maxsize=8)
def _regraded(folder: Path, _content: str, splits: str, chunks: str) -> tuple[Prediction, ...]:
    """The answers of an older evaluation with present grades; kept, as pages read them often.

    `splits` and `chunks` are the contents of the artifacts that it read.
    """
    path = folder / "predictions.parquet"
    rows = read_table(path, Prediction) if path.exists() else []
    evidence = _evidence_behind(folder.parent.parent, splits, chunks, {p.example_id for p in rows})
    return tuple(regrade(row, evidence.get(row.example_id, ())) for row in rows)


def read_evidence(artifact: Artifact, ids: set[str]) -> Evidence:
    """Evidence and passages of examples with these ids, as far as the store still has them."""
    inputs = artifact.manifest.inputs
    read = (inputs.get("splits", ""), inputs.get("chunks", ""))
    return _evidence_behind(artifact.path.parent.parent, *read, ids)


def _evidence_behind(store: Path, splits: str, chunks: str, ids: set[str]) -> Evidence:
    """Evidence and passages of examples, as far as the store still has what was evaluated."""
    examples = [
        row.example
        for path in _tables_with(store / "split", "splits", splits)
        for row in read_records(path, SplitExample)
        if row.example.id in ids
    ]
    passages = _tables_with(store / "chunk", "chunks", chunks)
    return evidence_of(examples, (row for path in passages for row in read_records(path, Chunk)))


def _tables_with(stage: Path, kind: str, content: str) -> list[Path]:
    """The table of a stage's artifact with this content; none where it is gone."""
    for manifest in stage.glob(f"*/{MANIFEST}") if content else ():
        table = manifest.with_name(f"{kind}.parquet")
        if table.exists() and json.loads(manifest.read_bytes()).get("content") == content:
            return [table]
    return []


def read_results(artifact: Artifact) -> list[Result]:
    """One row for each test set and system."""
    rows = read_rows(artifact, "results", Result)
    if _is_as_stored(artifact):
        return rows
    groups = by_set_and_system(read_predictions(artifact))
    return [
        row.model_copy(update=graded_shares(groups[row.evidence_set, row.system])) for row in rows
    ]


def read_comparisons(artifact: Artifact) -> list[Comparison]:
    """Every pair of systems on every test set."""
    rows = read_rows(artifact, "comparisons", Comparison)
    if _is_as_stored(artifact):
        return rows
    groups = {
        key: {p.example_id: p for p in group}
        for key, group in by_set_and_system(read_predictions(artifact)).items()
    }
    filled = []
    for row in rows:
        a, b = groups[row.evidence_set, row.a], groups[row.evidence_set, row.b]
        filled.append(row.model_copy(update=graded_pairs([(a[name], b[name]) for name in a])))
    return filled


def read_slices(artifact: Artifact) -> list[Slice]:
    """Parts of the test sets; none where the evaluation is too small for any."""
    if _is_as_stored(artifact):
        return read_rows(artifact, "slices", Slice)
    return slice_predictions(read_predictions(artifact), DEFAULT_TASK)


def read_opinions(artifact: Artifact) -> list[OpinionRow]:
    """The judge's opinions beside the present grades; none without a second opinion."""
    rows = read_rows(artifact, "opinions", OpinionRow)
    if not rows or grades_are_current(artifact):
        return rows
    grades = {(p.evidence_set, p.system, p.example_id): p.right for p in read_predictions(artifact)}
    return [row.beside(right=grades[row.evidence_set, row.system, row.example_id]) for row in rows]


def current_table(artifact: Artifact, kind: str) -> "pa.Table":
    """A table of any stage with its columns, where it is graded by the current rules.

    Raises: UnreadableStoreError: the table is damaged or missing.
    """
    import pyarrow as pa

    readers: dict[str, tuple[Callable[[Artifact], Sequence[Record]], type[Record]]] = {
        "predictions": (read_predictions, Prediction),
        "results": (read_results, Result),
        "comparisons": (read_comparisons, Comparison),
        "slices": (read_slices, Slice),
        "opinions": (read_opinions, OpinionRow),
    }
    if kind not in readers or _is_as_stored(artifact):
        return read_columns(artifact.path / f"{kind}.parquet")
    read, record = readers[kind]
    return pa.Table.from_batches(batches_of(read(artifact), record), arrow_schema(record))


def _is_as_stored(artifact: Artifact) -> bool:
    """True where the stored grades hold: the rules are the same, and no person decided one."""
    if not grades_are_current(artifact):
        return False
    return not _decisions.get() or all(row.reason != "read" for row in read_predictions(artifact))


def grades_are_current(artifact: Artifact) -> bool:
    """True for stored grades of the present rules, and where answers are labels or numbers."""
    if artifact.manifest.config.get("task", {}).get("type", "answers") != "answers":
        return True
    return artifact.manifest.summary.get("facts_version") == VERSION


def read_rows(artifact: Artifact, kind: str, record: type[R]) -> list[R]:
    """Rows of a table of an evaluation; none where it has no such table."""
    path = artifact.path / f"{kind}.parquet"
    return read_table(path, record) if path.exists() else []
