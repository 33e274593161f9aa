"""Progress as plain lines, for an output that is no terminal."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jangin.project.tracking.run_state import seconds_left
from jangin.report.terminal.console import said, words

EVERY_SECONDS = 30.0
"""Time between two lines on the same work."""
SHORT_SECONDS = 3.0
"""Work that ends within this time gets no line."""
MOST_MARKS = 100
"""Number of past events from which the speed is computed."""


@dataclass(slots=True)
class _Work:
    """One bar: what is done, and since when."""

    label: str
    total: int | None
    began: float
    said: float
    """Time of the last line; before the first one, that of the start."""
    done: int = 0
    note: str = ""
    lines: int = 0
    marks: list[tuple[float, int]] = field(default_factory=list)
    """(time, done) of the latest events."""


class ProgressLines:
    """Takes the events of progress bars and prints lines, from a thread of its own."""

    def __init__(
        self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`show` prints one line."""
        self._show = show
        self._clock = clock
        self._stage = ""
        self._work: dict[int, _Work] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread that prints lines also while no bar advances."""
        self._closed.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(1.0):
            self.tick()

    def stage(self, name: str, verb: str, reason: str) -> None:
        """Print that a stage begins or resumes."""
        self._stage = name
        self._show(f"{name:<11} {verb}" + (f": {reason}" if reason else ""))

    def start(self, label: str, total: int | None) -> int:
        """Begin some work; returns its id."""
        now = self._clock()
        with self._lock:
            self._next += 1
            self._work[self._next] = _Work(bar_name(label), total, now, now)
            return self._next

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:
        """Count finished steps; `note` is such as `loss 1.23`."""
        with self._lock:
            work = self._work[bar]
            work.done += steps
            work.note = note or work.note
            work.marks.append((self._clock(), work.done))
            del work.marks[:-MOST_MARKS]
        self.tick()

    def stop(self, bar: int) -> None:
        """End some work, with a line if it had any before."""
        with self._lock:
            work = self._work.pop(bar, None)
            if work is not None and work.lines:
                self._say(
                    work, words()("terminal_ended", time=duration(self._clock() - work.began))
                )

    def tick(self) -> None:
        """Print the lines that are due."""
        now = self._clock()
        with self._lock:
            for work in self._work.values():
                wait = EVERY_SECONDS if work.lines else SHORT_SECONDS
                if now - work.said >= wait:
                    work.said = now
                    self._say(work, time_left(work.marks, work.total))

    def _say(self, work: _Work, state: str) -> None:
        work.lines += 1
        of = "" if work.total is None else f"/{work.total:,} ({work.done / max(work.total, 1):.0%})"
        parts = [f"{work.done:,}{of}", state, said(work.note)]
        stage = f"{self._stage}: " if self._stage and not work.label.startswith(self._stage) else ""
        self._show(f"  {stage}{work.label}: {', '.join(part for part in parts if part)}")


def time_left(marks: list[tuple[float, int]], total: int | None) -> str:
    """`about 3 min left` at the speed of the events; empty while it is unknown."""
    left = seconds_left(marks, total)
    return "" if left is None else words()("terminal_left", time=duration(left))


def bar_name(label: str) -> str:
    """The work of a progress bar in the language of the terminal."""
    return words().known(f"runs_bar_{label}", said(label)) if words().language == "ko" else label


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 20 min`; `45초` in Korean."""
    if words().language == "ko":
        return words().duration(seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
