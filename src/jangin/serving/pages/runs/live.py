"""Events of a running run for its page, from the last one that the page has seen.

A `Follower` is asked again and again; `position` says how far it is, as one word that a browser
sends back as `Last-Event-ID`, so that nothing is lost or sent twice when the connection breaks.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jangin.project.tracking.run_state import (
    LogLine,
    RecordedRun,
    StepState,
    find_run,
    live_runs,
    read_log,
)
from jangin.serving.pages.runs.curves import METRICS, Curves, read_points, thinned
from jangin.serving.pages.runs.history import folder_of

TAIL_BYTES = 16_384
"""Of the log that a page shows at first."""
_POSITION = re.compile(r"(\d{8}T\d{6}-\d+-[0-9a-f]{4})~(\d+)~([0-9a-f]{16})?~(\d+)")

Kind = Literal["begun", "status", "log", "points", "end"]


@dataclass(frozen=True, slots=True)
class Training:
    """The training that a run works on."""

    variant: str
    stage: str
    key: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that is new."""

    kind: Kind
    run: RecordedRun | None = None
    lines: tuple[LogLine, ...] = ()
    training: Training | None = None
    points: Curves | None = None
    reset: bool = False
    """The points are those of a training that the page does not show yet."""

    @property
    def point_data(self) -> dict[str, Any]:
        """The points as JSON."""
        assert self.training is not None  # noqa: S101  of this kind
        assert self.points is not None  # noqa: S101  of this kind
        about = {"stage": self.training.stage, "variant": self.training.variant}
        return {**about, "reset": self.reset, **self.points.data}


@dataclass(slots=True)
class Follower:
    """One page that follows the runs of a store."""

    store: Path
    token: str = ""
    log: int = 0
    key: str = ""
    """First 16 characters of the training's key."""
    metrics: int = 0
    _seen: object = field(default=None, repr=False)

    @classmethod
    def at(cls, store: Path, position: str) -> "Follower":
        """Continue where a page stopped; from the present where the position is none."""
        match = _POSITION.fullmatch(position)
        if match is None:
            return cls(store)
        return cls(store, match[1], int(match[2]), match[3] or "", int(match[4]))

    @property
    def position(self) -> str:
        """How far it is; empty while it follows nothing."""
        return f"{self.token}~{self.log}~{self.key}~{self.metrics}" if self.token else ""

    def poll(self) -> list[Event]:
        """What is new; an `end` is the last event of a run."""
        run = find_run(self.store, self.token) if self.token else None
        if run is None:
            running = live_runs(self.store)
            if not running:
                self.token = ""
                return []
            self.token, self.log, self.key, self.metrics = running[0].token, 0, "", 0
            return [Event("begun", running[0])]
        events = []
        lines, self.log = read_log(run.folder, self.log)
        if lines:
            events.append(Event("log", run, tuple(lines)))
        events += self._points(run)
        sign = (run.phase, run.state.updated_at)
        if sign != self._seen:
            self._seen = sign
            events.append(Event("status", run))
        if not run.alive:
            events.append(Event("end", run))
            self.token = ""
        return events

    def _points(self, run: RecordedRun) -> list[Event]:
        training = training_of(run, self.store)
        if training is None:
            return []
        reset = training.key[:16] != self.key
        if reset:
            self.key, self.metrics = training.key[:16], 0
        points = read_points(training.folder, self.metrics)
        if points.end < self.metrics:
            return []  # the file is being replaced
        if not points.steps and not reset:
            return []
        self.metrics = points.end
        return [Event("points", run, training=training, points=thinned(points), reset=reset)]


def training_of(run: RecordedRun, store: Path) -> Training | None:
    """The training that runs, else the last one of the run that has written figures."""
    newest: Training | None = None
    for step in run.state.steps:
        if step.state == "cached" or not (step.state == "running" or step.done):
            continue
        folder = folder_of(store, step.stage, step.key)
        if folder is not None and step.state == "running":
            # A rebuilt artifact is still there under its name; the work is in the other folder.
            folder = folder.with_name(f"{step.key[:16]}.partial")
        if folder is not None and (folder / METRICS).exists():
            newest = Training(step.variant, step.stage, step.key, folder)
    return newest


def running_step(run: RecordedRun) -> StepState | None:
    """The step that the run works on."""
    steps = [step for step in run.state.steps if step.state in ("running", "interrupted")]
    return steps[-1] if steps else None
