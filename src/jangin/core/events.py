"""What work reports about itself while it lasts: one stream of typed events.

Stages and the runner emit events with keys and values. Terminal, record of the run, trackers and
the log of a job are subscribers; each makes its own sentences.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MOST_MARKS = 100
"""Past events of a piece of work from which its speed is computed."""


@dataclass(frozen=True, slots=True)
class WorkBegins:
    """A piece of work begins that is shown as a bar."""

    work: int
    """Id, unique among processes."""
    label: str
    total: int | None
    """Number of its steps; None if unknown."""


@dataclass(frozen=True, slots=True)
class WorkAdvances:
    """Steps of a piece of work are done."""

    work: int
    steps: int
    note: str
    """Short, such as `loss 1.23`; empty to keep the one before."""


@dataclass(frozen=True, slots=True)
class WorkEnds:
    """A piece of work is done, or given up."""

    work: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for a person: a warning or a note."""

    text: str
    source: Literal["stage", "tracker"] = "stage"


@dataclass(frozen=True, slots=True)
class TrainingResumes:
    """Training continues from a checkpoint."""

    step: int
    """Step of the checkpoint."""
    total: int

    @property
    def text(self) -> str:
        """The line that a terminal shows."""
        return f"resuming at step {self.step} of {self.total}"


@dataclass(frozen=True, slots=True)
class RunBegins:
    """A run of stages has its id in the ledger."""

    run: int


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """What a run is going to do: each different step once."""

    steps: Sequence[tuple[str, tuple[str, ...], Any]]
    """(names of variants as shown, variants, `PlannedStage`)."""


@dataclass(frozen=True, slots=True)
class StepBegins:
    """The work on an artifact begins or resumes."""

    step: Any
    """A `PlannedStage`, as in `StepEnds`."""


@dataclass(frozen=True, slots=True)
class StepEnds:
    """An artifact is finished, just now or long ago."""

    step: Any


Event = (
    WorkBegins
    | WorkAdvances
    | WorkEnds
    | Notice
    | TrainingResumes
    | RunBegins
    | RunPlanned
    | StepBegins
    | StepEnds
)
Subscriber = Callable[[Event], None]
_BETWEEN_PROCESSES = {
    kind.__name__: kind for kind in (WorkBegins, WorkAdvances, WorkEnds, Notice, TrainingResumes)
}


def packed(event: Event) -> dict[str, Any]:
    """An event of a stage as JSON values, for another process."""
    return {"event": type(event).__name__, **asdict(event)}


def unpacked(values: Mapping[str, Any]) -> Event:
    """The event that `packed` made these values of."""
    fields = {name: value for name, value in values.items() if name != "event"}
    return _BETWEEN_PROCESSES[values["event"]](**fields)


class Progress:
    """A stream of events: what is emitted goes to every subscriber, in the emitting thread."""

    def __init__(self, *subscribers: Subscriber) -> None:
        """Without subscribers nothing is shown; the lines of text are kept all the same."""
        self._subscribers = subscribers
        self.messages: list[str] = []
        """Lines so far."""

    def emit(self, event: Event) -> None:
        """Give an event to the subscribers; raises what they raise."""
        if isinstance(event, Notice | TrainingResumes):
            self.messages.append(event.text)
        for subscriber in self._subscribers:
            subscriber(event)

    def start(self, label: str, total: int | None) -> int:
        """Begin a piece of work; returns its id. `total` is None if unknown."""
        work = secrets.randbits(62)
        self.emit(WorkBegins(work, label, total))
        return work

    def advance(self, work: int, steps: int = 1, note: str = "") -> None:
        """Steps of it are done; `note` is such as `loss 1.23`."""
        self.emit(WorkAdvances(work, steps, note))

    def stop(self, work: int) -> None:
        """It is done, or given up."""
        self.emit(WorkEnds(work))

    def message(self, text: str) -> None:
        """One line that stays on the screen: a warning or a note."""
        self.emit(Notice(text))


@dataclass(slots=True)
class Work:
    """A piece of work as its events tell it."""

    label: str
    total: int | None
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    note: str = ""
    marks: list[tuple[float, int]] = field(default_factory=list)
    """(time, done) of the latest events."""

    def advance(self, event: WorkAdvances, now: float) -> None:
        """Count its steps."""
        self.done += event.steps
        self.note = event.note or self.note
        self.marks.append((now, self.done))
        del self.marks[:-MOST_MARKS]
