"""Record a run while it lasts, so that other processes can follow it: see `run_state`.

A run never fails because its record cannot be written.
"""

import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from jangin.core.errors import JanginError
from jangin.core.events import (
    Event,
    Notice,
    RunBegins,
    RunPlanned,
    StepBegins,
    StepEnds,
    TrainingResumes,
    Work,
    WorkAdvances,
    WorkBegins,
    WorkEnds,
)

# What a run records about itself, as other processes read it.
#
#     <store>/runs/<token>/state.json   steps, progress bars, memory; replaced at most once a second
#     <store>/runs/<token>/log.jsonl    lines of the run, only appended to
#     <store>/runs/<token>/lock         held (flock) while its process lives
#
# A token begins with the time, so tokens sort by age.


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


TICK_SECONDS = 1.0
"""Between two writes of the state."""
QUIET_SECONDS = 5.0
"""The same while nothing happens."""
KEPT = 500
"""Records of runs that are kept; older ones are deleted."""


def _bar_state(work: Work, now: float) -> BarState:
    left = seconds_left(work.marks, work.total)
    return BarState(
        label=work.label,
        total=work.total,
        done=work.done,
        note=work.note,
        seconds=round(now - work.began, 1),
        seconds_left=None if left is None else round(left, 1),
    )


class RunRecord:
    """A subscriber that records a run in a file for other processes."""

    def __init__(self, folder: Path, state: RunState) -> None:
        """Record in `folder`, which exists, beginning with `state`."""
        self._folder = folder
        self._state = state
        self._steps: dict[tuple[str, str], StepState] = {}
        self._home: dict[tuple[str, str], tuple[str, str]] = {}
        """{(variant, stage): that of the first variant with the same step}."""
        self._bars: dict[int, Work] = {}
        self._lock = threading.Lock()
        self._changed = True
        self._written = float("-inf")
        self._closed = threading.Event()

    def take(self, event: Event) -> None:
        """Record what an event tells."""
        match event:
            case Notice() | TrainingResumes():
                self._log("message", text=event.text)
            case RunBegins():
                self._update(run=event.run)
            case RunPlanned():
                self._plan(event)
            case StepBegins():
                self._begin(event.step)
            case StepEnds():
                self._finish(event.step)
            case WorkBegins() | WorkAdvances() | WorkEnds():
                self._move(event)

    def _move(self, event: WorkBegins | WorkAdvances | WorkEnds) -> None:
        with self._lock:
            if isinstance(event, WorkBegins):
                self._bars[event.work] = Work(event.label, event.total)
            elif isinstance(event, WorkEnds):
                self._bars.pop(event.work, None)
            elif event.work in self._bars:
                self._bars[event.work].advance(event, time.monotonic())
            self._changed = True

    def _plan(self, plan: RunPlanned) -> None:
        with self._lock:
            for shown, variants, step in plan.steps:
                home = (step.variant, step.stage.name)
                self._steps[home] = _step_state(step).model_copy(update={"shared_by": shown})
                self._home |= dict.fromkeys(((name, home[1]) for name in variants), home)
        self._update(phase="running")

    def _begin(self, step: Any) -> None:
        at = time.time()
        state = _step_state(step).model_copy(update={"state": "running", "began_at": at})
        self._set_step(state)
        self._log(
            "resumes" if step.state == "resume" else "begins",
            variant=step.variant,
            stage=step.stage.name,
            text="; ".join(step.reasons),
        )

    def _finish(self, step: Any) -> None:
        event: LineKind = "cached"
        if step.state != "cached":
            event = "finished" if step.state == "resume" else "made"
        self._set_step(_step_state(step).model_copy(update={"done": True}))
        self._log(event, variant=step.variant, stage=step.stage.name, seconds=step.seconds)

    def end(self, phase: Phase, outcome: str = "") -> None:
        """Write the last state."""
        with self._lock:
            for name, step in self._steps.items():
                if step.state == "running":
                    self._steps[name] = step.model_copy(update={"state": "interrupted"})
            self._bars.clear()
        if outcome:
            self._log("error", text=outcome)
        self._update(phase=phase, outcome=outcome)
        self._closed.set()
        self.write()

    def watch(self) -> None:
        """Write the state until the run ends; the body of a thread."""
        while not self._closed.wait(TICK_SECONDS):
            if self._changed or time.monotonic() - self._written > QUIET_SECONDS:
                self.write()

    def write(self) -> None:
        """Replace the file of the state."""
        with self._lock:
            self._changed = False
            self._written = now = time.monotonic()
            memory = _memory_bytes()
            self._state = self._state.model_copy(
                update={
                    "updated_at": time.time(),
                    "steps": tuple(self._steps.values()),
                    "bars": tuple(_bar_state(bar, now) for bar in self._bars.values()),
                    "memory_bytes": memory,
                    "peak_memory_bytes": max(memory, self._state.peak_memory_bytes),
                }
            )
            write_state(self._folder, self._state)

    def _update(self, **fields: object) -> None:
        with self._lock:
            self._state = self._state.model_copy(update=fields)
            self._changed = True

    def _set_step(self, state: StepState) -> None:
        """Replace the state of a step, unless another variant has finished the same one."""
        with self._lock:
            home = self._home.get((state.variant, state.stage), (state.variant, state.stage))
            known = self._steps.get(home)
            if known is not None and known.done and known.key == state.key:
                return
            if known is not None and known.done:
                home = (state.variant, state.stage)  # its inputs came out differently
            shown = known.shared_by if known is not None and not known.done else state.variant
            self._steps[home] = state.model_copy(update={"variant": home[0], "shared_by": shown})
            self._changed = True

    def _log(self, event: LineKind, **fields: str | float) -> None:
        add_line(self._folder, now_line(event, **fields))


def _step_state(step: Any) -> StepState:
    return StepState(
        variant=step.variant,
        stage=step.stage.name,
        state=step.state,
        reasons=step.reasons,
        key=step.key,
        seconds=round(step.seconds, 3),
    )


@contextmanager
def recorded(store: Path, token: str = "", **about: object) -> Iterator[RunRecord]:
    """Record what the events in this block tell, and how it ends.

    `token` is that of a record that was begun for this process; `about` are fields of `RunState`.
    """
    folder = store / FOLDER / (token or new_token())
    with ExitStack() as held:
        with suppress(OSError):  # a run without a record is better than no run
            if not token:
                create_record(folder)
                _delete_old(folder.parent)
            held.enter_context(hold(folder))
        state = first_state("planning", **about)
        record = RunRecord(folder, state)
        record.write()
        writer = threading.Thread(target=record.watch, daemon=True)
        writer.start()
        phase: Phase = "failed"
        outcome = ""
        try:
            yield record
            phase = "done"
        except KeyboardInterrupt:
            phase = "stopped"
            raise
        except BaseException as error:
            outcome = str(error) if isinstance(error, JanginError) else f"{error!r}"
            raise
        finally:
            record.end(phase, outcome)
            writer.join()


def first_state(phase: Phase, **about: object) -> RunState:
    """The state of a run that begins now."""
    now = time.time()
    given = {"process": os.getpid(), "started_at": now, "updated_at": now, "phase": phase}
    return RunState.model_validate({**given, **about})


def new_token() -> str:
    """A name for a run that no other run has."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{secrets.token_hex(2)}"


def create_record(folder: Path) -> None:
    """Create the folder of a record. Raises `OSError`."""
    folder.mkdir(parents=True)
    (folder / LOCK).touch()


@contextmanager
def hold(folder: Path) -> Iterator[BinaryIO]:
    """Hold the lock of a record; a process that was given the lock holds it already.

    Raises `OSError` where there is no record.
    """
    with (folder / LOCK).open("rb+", buffering=0) as stream:
        with suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield stream


def write_state(folder: Path, state: RunState) -> None:
    """Replace the state of a record; a reader sees the old one or the new one."""
    partial = folder / f"{STATE}.partial"
    with suppress(OSError):  # the run matters more than its record, as on a full disk
        partial.write_text(state.model_dump_json(), encoding="utf-8")
        partial.replace(folder / STATE)


def write_first_state(folder: Path, state: RunState) -> None:
    """Write the state of a record, unless the run itself has written one by now."""
    partial = folder / f"{STATE}.first"
    try:
        partial.write_text(state.model_dump_json(), encoding="utf-8")
        (folder / STATE).hardlink_to(partial)
    except FileExistsError:
        pass
    except OSError:  # there are disks without links
        if not (folder / STATE).exists():
            write_state(folder, state)
    finally:
        with suppress(OSError):
            partial.unlink()


def now_line(event: LineKind, **fields: str | float) -> LogLine:
    """A line of a log with the time of now."""
    return LogLine.model_validate({"at": round(time.time(), 3), "event": event, **fields})


def end_unrecorded(folder: Path, phase: Phase, outcome: str) -> None:
    """Write the end of a run that failed before it recorded itself; nothing if it has an end."""
    with suppress(OSError, ValidationError):
        state = RunState.model_validate_json((folder / STATE).read_bytes())
        if state.phase not in ENDED:
            if outcome:
                add_line(folder, now_line("error", text=outcome))
            write_state(folder, state.model_copy(update={"phase": phase, "outcome": outcome}))


def add_line(folder: Path, line: LogLine) -> None:
    """Append a line to the log of a record."""
    with suppress(OSError), (folder / LOG).open("ab", buffering=0) as stream:
        stream.write(line.model_dump_json().encode() + b"\n")


def _delete_old(runs: Path) -> None:
    names = sorted(path.name for path in runs.iterdir() if TOKEN.fullmatch(path.name))
    for name in names[:-KEPT]:
        shutil.rmtree(runs / name, ignore_errors=True)


def _memory_bytes() -> int:
    """Resident memory of this process and of those that it started; 0 where that is unknown."""
    total = _resident(os.getpid())
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            total += sum(map(_resident, map(int, (task / "children").read_text().split())))
    return total


def _resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
