"""Progress as plain lines, for an output that is no terminal."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jangin.core.events import Work, WorkAdvances, WorkBegins, WorkEnds
from jangin.project.tracking.run_state import seconds_left
from jangin.report.terminal.console import said, words

EVERY_SECONDS = 30.0
"""Time between two lines on the same work."""
SHORT_SECONDS = 3.0
"""Work that ends within this time gets no line."""


@dataclass(slots=True)
class _ShownWork:
    """A piece of work, and when it was last told of."""

    work: Work
    said: float
    """Time of the last line; before the first one, that of the start."""
    lines: int = 0


class ProgressLines:
    """Takes the events of progress bars and prints lines, from a thread of its own."""

    def __init__(
        self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`show` prints one line."""
        self._show = show
        self._clock = clock
        self._stage = ""
        self._work: dict[int, _ShownWork] = {}
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

    def take(self, event: WorkBegins | WorkAdvances | WorkEnds) -> None:
        """Count finished steps; work that had lines gets one at its end."""
        now = self._clock()
        with self._lock:
            if isinstance(event, WorkBegins):
                work = Work(bar_name(event.label), event.total, now)
                self._work[event.work] = _ShownWork(work, now)
            elif isinstance(event, WorkAdvances):
                self._work[event.work].work.advance(event, now)
            elif (ended := self._work.pop(event.work, None)) is not None and ended.lines:
                time = duration(now - ended.work.began)
                self._say(ended, words()("terminal_ended", time=time))
        if isinstance(event, WorkAdvances):
            self.tick()

    def tick(self) -> None:
        """Print the lines that are due."""
        now = self._clock()
        with self._lock:
            for shown in self._work.values():
                wait = EVERY_SECONDS if shown.lines else SHORT_SECONDS
                if now - shown.said >= wait:
                    shown.said = now
                    self._say(shown, time_left(shown.work.marks, shown.work.total))

    def _say(self, shown: _ShownWork, state: str) -> None:
        shown.lines += 1
        work = shown.work
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
