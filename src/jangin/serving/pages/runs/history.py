"""The history of runs: what the ledger and the records of runs know, and what changed between two.

Nothing here changes the store; a page of a ledger with 100,000 steps is one scan of an index.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jangin.core.ledger import ROWS_FAILED, Ledger, RunRow, Spend, StepRow
from jangin.core.store import Artifact, Store
from jangin.project.failures import failed_rows
from jangin.project.plan import changed_inputs, changed_settings
from jangin.project.stages import STAGES
from jangin.project.tracking.run_record import RecordedRun, recorded_runs

PAGE = 25
MOST_RECORDS = 500
LEDGER = "ledger.sqlite"
_SENTENCE = re.compile(r"done, ([\d,]+) rows? failed")
"""What older ledgers say of rows that failed, with commas from 1,000 on."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run with what it did."""

    row: RunRow
    steps: tuple[StepRow, ...]
    record: RecordedRun | None
    """None for a run from before runs recorded themselves, or whose record was deleted."""

    @property
    def id(self) -> int:
        """Its id in the ledger."""
        return self.row.id

    @property
    def alive(self) -> bool:
        """True while its process lives."""
        return self.record is not None and self.record.alive

    @property
    def state(self) -> str:
        """`running`, `done`, `rows_failed`, `stopped`, `failed` or `killed`."""
        outcome = self.row.outcome
        if outcome is None:
            return "running" if self.alive else "killed"
        if outcome.startswith(ROWS_FAILED) or _SENTENCE.fullmatch(outcome):
            return "rows_failed" if self.failed_rows else "done"
        return outcome.partition(":")[0]

    @property
    def reason(self) -> str:
        """Why it failed, if it did."""
        outcome = self.row.outcome or ""
        return outcome.partition(": ")[2] if outcome.startswith("failed: ") else ""

    @property
    def failed_rows(self) -> int:
        """Rows that failed."""
        outcome = self.row.outcome or ""
        sentence = _SENTENCE.fullmatch(outcome)
        number = sentence[1].replace(",", "") if sentence else outcome.removeprefix(ROWS_FAILED)
        return int(number) if number.isdecimal() else 0

    @property
    def worked(self) -> tuple[StepRow, ...]:
        """Steps that were not up to date already."""
        return tuple(step for step in self.steps if step.state != "cached")

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants whose stages have run, in order."""
        return tuple(dict.fromkeys(step.variant for step in self.steps))

    @property
    def began(self) -> datetime:
        """When it began, UTC."""
        return datetime.fromisoformat(self.row.started_at)

    @property
    def seconds(self) -> float | None:
        """How long it took, or has lasted; None for one that was killed."""
        if self.row.ended_at is None and not self.alive:
            return None
        end = datetime.fromisoformat(self.row.ended_at) if self.row.ended_at else datetime.now(UTC)
        return (end - self.began).total_seconds()


def past_runs(
    store: Path, project: str, before: int | None = None, limit: int = PAGE
) -> tuple[list[PastRun], bool]:
    """A page of the runs of a project file, newest first, and whether there are older ones."""
    ledger = Ledger.for_reading(store / LEDGER)
    if ledger is None:
        return [], False
    try:
        rows = ledger.run_records(project, before, limit + 1)
        steps = ledger.steps_of([row.id for row in rows[:limit]])
    finally:
        ledger.close()
    records = _records(store)
    by_run: dict[int, list[StepRow]] = {}
    for step in steps:
        by_run.setdefault(step.run, []).append(step)
    runs = [
        PastRun(row, tuple(by_run.get(row.id, ())), records.get(row.id)) for row in rows[:limit]
    ]
    return runs, len(rows) > limit


def find_past_run(store: Path, run: int) -> PastRun | None:
    """One run of the store."""
    ledger = Ledger.for_reading(store / LEDGER)
    if ledger is None:
        return None
    try:
        row = ledger.run_record(run)
        steps = ledger.steps_of([run])
    finally:
        ledger.close()
    return None if row is None else PastRun(row, tuple(steps), _records(store).get(run))


def _records(store: Path) -> dict[int, RecordedRun]:
    return {record.state.run: record for record in recorded_runs(store, MOST_RECORDS)}


@dataclass(frozen=True, slots=True)
class Spending:
    """Cost of the requests of all runs of a project file."""

    usd: float = 0.0
    unpriced: int = 0
    calls: int = 0
    rows: tuple[Spend, ...] = ()


def spending(store: Path, project: str) -> Spending:
    """What the ledger says now of a project file, which is named relative to the store."""
    ledger = Ledger.for_reading(store / LEDGER)
    if ledger is None:
        return Spending()
    try:
        rows = tuple(ledger.spend(project))
        usd = ledger.spent_usd(project)
    finally:
        ledger.close()
    unpriced = sum(row.unpriced for row in rows)
    return Spending(usd, unpriced, sum(row.calls for row in rows), rows)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a summary, of two artifacts; None where one does not have it."""

    name: str
    before: object
    after: object

    @property
    def difference(self) -> float | None:
        """After minus before, of numbers."""
        numbers = (self.before, self.after)
        if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            return None
        return float(self.after) - float(self.before)  # type: ignore[arg-type]  # numbers


@dataclass(frozen=True, slots=True)
class StageChange:
    """What differs between two artifacts of a stage."""

    variant: str
    stage: str
    kind: str
    """`changed`, `new` (only the later run has it), `gone`, or `unknown`: one was deleted."""
    settings: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


def changes_between(store: Path, before: PastRun, after: PastRun) -> list[StageChange]:
    """What differs between the artifacts of two runs, in the order in which data flows."""
    first, second = _keys(before), _keys(after)
    order = [stage.name for stage in STAGES]
    pairs = sorted({*first, *second}, key=lambda pair: (pair[0], order.index(pair[1])))
    changes = []
    for variant, stage in pairs:
        keys = first.get((variant, stage), ""), second.get((variant, stage), "")
        if keys[0] != keys[1]:
            changes.append(_change(Store(store), variant, stage, *keys))
    return changes


def _keys(run: PastRun) -> dict[tuple[str, str], str]:
    known = {stage.name for stage in STAGES}
    return {
        (step.variant, step.stage): step.key
        for step in run.steps
        if step.key and step.state != "interrupted" and step.stage in known
    }


def _change(store: Store, variant: str, stage: str, before: str, after: str) -> StageChange:
    if not before or not after:
        return StageChange(variant, stage, "new" if after else "gone")
    old, new = store.find(stage, before), store.find(stage, after)
    if old is None or new is None:
        return StageChange(variant, stage, "unknown")
    return StageChange(
        variant,
        stage,
        "changed",
        changed_settings(old.manifest.config, new.manifest.config),
        changed_inputs(old.manifest.inputs, new.manifest.inputs),
        tuple(_figures(old.manifest.summary, new.manifest.summary)),
    )


def _figures(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[Figure]:
    flat = dict(_flat("", before)), dict(_flat("", after))
    names = dict.fromkeys((*flat[0], *flat[1]))
    return [
        Figure(name, flat[0].get(name), flat[1].get(name))
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]


def _flat(path: str, value: Any) -> Sequence[tuple[str, object]]:
    if isinstance(value, dict):
        return [
            row
            for key, inner in value.items()
            for row in _flat(f"{path}.{key}" if path else str(key), inner)
        ]
    return [] if isinstance(value, list) else [(path, value)]


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rows of one artifact that failed, with their most frequent reasons."""

    variant: str
    stage: str
    count: int
    reasons: tuple[tuple[str, int], ...]


def failures_of_run(store: Path, run: PastRun, most: int = 5) -> list[FailedRows]:
    """The failed rows of the artifacts that a run made or used."""
    failures = []
    seen: set[str] = set()
    for (variant, stage), key in _keys(run).items():
        artifact = Store(store).find(stage, key)
        if artifact is None or key in seen:
            continue
        seen.add(key)
        rows = failed_rows(artifact)
        if rows:
            counts: dict[str, int] = {}
            for row in rows:
                counts[row.reason] = counts.get(row.reason, 0) + 1
            often = sorted(counts.items(), key=lambda item: -item[1])[:most]
            failures.append(FailedRows(variant, stage, len(rows), tuple(often)))
    return failures


def training_folders(store: Path, run: PastRun) -> list[tuple[str, str, Path]]:
    """(variant, stage, folder) of the trainings of a run, finished or not; each once."""
    folders: dict[Path, tuple[str, str, Path]] = {}
    for step in run.steps:
        folder = folder_of(store, step.stage, step.key)
        if folder is not None and (folder / "metrics.jsonl").exists():
            folders.setdefault(folder, (step.variant, step.stage, folder))
    return list(folders.values())


def folder_of(store: Path, stage: str, key: str) -> Path | None:
    """The folder of an artifact, finished or not."""
    if not re.fullmatch("[0-9a-f]{16,64}", key) or stage not in {s.name for s in STAGES}:
        return None
    finished = store / stage / key[:16]
    return finished if finished.exists() else Store(store).partial(stage, key)


def artifact_of(store: Path, step: StepRow) -> Artifact | None:
    """The artifact of a step, or None if it was deleted."""
    return Store(store).find(step.stage, step.key) if step.key else None
