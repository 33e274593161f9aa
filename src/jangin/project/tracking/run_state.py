"""What a run records about itself, as other processes read it.

    <store>/runs/<token>/state.json   steps, progress bars, memory; replaced at most once a second
    <store>/runs/<token>/log.jsonl    lines of the run, only appended to
    <store>/runs/<token>/lock         held (flock) while its process lives

A token begins with the time, so tokens sort by age.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

FOLDER = "runs"
"""Name of the folder in the store."""
STATE, LOG, LOCK = "state.json", "log.jsonl", "lock"
TOKEN = re.compile(r"\d{8}T\d{6}-\d+-[0-9a-f]{4}")
MOST_LOG_BYTES = 262_144
"""Read at once from a log."""

Phase = Literal["starting", "planning", "running", "done", "stopped", "failed"]
LineKind = Literal[
    "begins", "resumes", "made", "finished", "cached", "message", "error", "stopping"
]
ENDED = frozenset(("done", "stopped", "failed"))


class StepState(BaseModel):
    """One step of a run."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    variant: str
    """Of those that share the step, the first."""
    stage: str
    shared_by: str = ""
    """Names of all variants, or `all`."""
    state: Literal["cached", "resume", "run", "waits", "running", "interrupted"]
    """As planned until it begins; `cached` and `run` with `done` for finished ones."""
    reasons: tuple[str, ...] = ()
    key: str = ""
    done: bool = False
    seconds: float = 0.0
    began_at: float | None = None


class BarState(BaseModel):
    """One progress bar."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    label: str
    total: int | None
    done: int
    note: str
    seconds: float
    """Since it began."""
    seconds_left: float | None
    """At the speed of the last events; None while that is unknown."""


class RunState(BaseModel):
    """A run at one moment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    process: int
    started_at: float
    """Seconds since 1970, as all times here."""
    updated_at: float
    phase: Phase
    project: str = ""
    """Project file relative to the store, as the ledger names it."""
    variants: tuple[str, ...] = ()
    last: str = ""
    """Last stage to run, with those that it needs; empty for all."""
    retry_failed: bool = False
    run: int = 0
    """Its id in the ledger; 0 before it has one."""
    outcome: str = ""
    """Why it failed."""
    steps: tuple[StepState, ...] = ()
    bars: tuple[BarState, ...] = ()
    memory_bytes: int = 0
    """Resident memory of the process and of those that it started."""
    peak_memory_bytes: int = 0


class LogLine(BaseModel):
    """One line of the log of a run."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: float
    event: LineKind
    variant: str = ""
    stage: str = ""
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run that left a record."""

    token: str
    folder: Path
    state: RunState
    alive: bool

    @property
    def phase(self) -> str:
        """Its phase; `killed` where the process is gone without an end."""
        killed = not self.alive and self.state.phase not in ENDED
        return "killed" if killed else self.state.phase


def seconds_left(marks: Sequence[tuple[float, int]], total: int | None) -> float | None:
    """Seconds to `total` at the speed of `marks` (time, done); None while that is unknown."""
    if total is None or len(marks) < 2:
        return None
    (began, first), (now, done) = marks[0], marks[-1]
    if done <= first or now <= began or done >= total:
        return None
    return (now - began) / (done - first) * (total - done)


def recorded_runs(store: Path, most: int | None = None) -> Iterator[RecordedRun]:
    """The runs of a store that left a record, the newest first."""
    try:
        names = sorted((path.name for path in (store / FOLDER).iterdir()), reverse=True)
    except OSError:
        return
    tokens = [name for name in names if TOKEN.fullmatch(name)]
    for token in tokens[:most]:
        run = find_run(store, token)
        if run is not None:
            yield run


def find_run(store: Path, token: str) -> RecordedRun | None:
    """The run with this token; None where there is none or its state cannot be read."""
    if not TOKEN.fullmatch(token):
        return None
    folder = store / FOLDER / token
    # First the lock: a run that ends in between has then written its end.
    alive = is_alive(folder)
    try:
        state = RunState.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValidationError):
        return None
    return RecordedRun(token, folder, state, alive)


def live_runs(store: Path) -> list[RecordedRun]:
    """The runs whose process lives, the newest first."""
    return [run for run in recorded_runs(store) if run.alive]


def is_alive(folder: Path) -> bool:
    """True while a process holds the lock of this run."""
    try:
        with (folder / LOCK).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_log(
    folder: Path, offset: int = 0, most: int = MOST_LOG_BYTES
) -> tuple[list[LogLine], int]:
    """Complete lines of a log from a byte on, and the byte after the last of them.

    `offset` below 0 counts from the end; the first line is then left out where it is cut.
    """
    try:
        with (folder / LOG).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            stream.seek(start)
            if offset < 0 and start:
                start += len(stream.readline())
            data = stream.read(most)
    except OSError:
        return [], max(offset, 0)
    data = data[: data.rfind(b"\n") + 1]
    return list(_lines(data)), start + len(data)


def _lines(data: bytes) -> Iterator[LogLine]:
    for line in data.splitlines():
        try:
            yield LogLine.model_validate_json(line)
        except ValidationError:
            continue  # cut by a full disk
