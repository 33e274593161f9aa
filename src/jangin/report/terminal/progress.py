"""Progress as bars or as lines, and the lines of a run."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as BarsOfRich
from rich.text import Text

from jangin.core.events import (
    Event,
    Notice,
    Progress,
    StepBegins,
    StepEnds,
    TrainingResumes,
    Work,
    WorkAdvances,
    WorkBegins,
    WorkEnds,
)
from jangin.project.failures import failed_rows
from jangin.project.tracking.run_record import seconds_left
from jangin.report.i18n.translate import Words
from jangin.report.terminal.console import console, said, words

# What a stage made, in a few counts for its line.


MADE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "load": (("documents", "documents"), ("pages", "pages"), ("unreadable", "unreadable")),
    "read": (("examples", "rows"), ("unread", "unread")),
    "chunk": (("chunks", "chunks"), ("documents", "documents")),
    "index": (("passages", "passages"),),
    "queries": (("queries", "queries"),),
    "search": (("snippets", "snippets"),),
    "rank": (("ranked", "snippets kept"),),
    "synthesize": (("examples", "questions"), ("choices", "multiple-choice questions")),
    "evolve": (("evolved", "evolved questions"),),
    "paraphrase": (("paraphrases", "paraphrases"), ("originals", "questions")),
    "judge": (("judged", "judged"), ("read", "questions")),
    "curate": (("kept", "rows kept"), ("dropped", "dropped")),
    "split": (
        ("train", "to train on"),
        ("validation", "validation"),
        ("held_out_paraphrases", "held-out paraphrases"),
        ("held_out_styles", "in held-out styles"),
        ("unseen_sections", "unseen sections"),
        ("test", "test"),
    ),
    "select": (("chosen", "chosen:"), ("questions", "questions")),
    "pretrain": (("steps", "steps"), ("rows", "rows")),
    "sft": (("steps", "steps"), ("rows", "rows"), ("lost_rows", "lost rows")),
    "continue_sft": (("steps", "steps"), ("rows", "rows"), ("lost_rows", "lost rows")),
    "preferences": (("pairs", "pairs"), ("dropped", "dropped")),
    "dpo": (("steps", "steps"), ("pairs", "pairs")),
    "evaluate": (("questions", "questions"),),
}
"""{stage: (key of its summary, words after the figure)}; a mapping of counts is added up."""
NOT_SHOWN = frozenset(("failed", "rejected", "left_out", "content_match_version", "facts_version"))
"""Keys of summaries that `failed` and `rejected` summarise, and the version of a measure."""


def what_was_made(step: Any) -> Iterator[str]:
    """Counts of what the stage made and lost, most important first, then its other figures."""
    if step.artifact is None:
        return
    summary = dict(step.artifact.manifest.summary)
    for key, noun in MADE.get(step.stage.name, ()):
        value = summary.pop(key, None)
        if isinstance(value, str):
            yield f"{noun} {value}"
        elif value or key not in ("test", "held_out_styles"):
            yield from _count(value, noun)
    failed = failed_rows(step.artifact)
    rejected = int(summary.get("failed") or 0) - len(failed)
    if failed:
        yield f"{len(failed):,} failed"
    if rejected > 0:
        yield f"{rejected:,} rejected"
    for name, value in summary.items():
        figure = isinstance(value, int | float) and not isinstance(value, bool)
        if figure and name not in NOT_SHOWN:
            yield f"{name.replace('_', ' ')} {_figure(value)}"


def figures_made(step: Any, words: Words) -> Iterator[str]:
    """The same in another language: the names of the figures, as the pages have them."""
    if step.artifact is None:
        return
    summary = step.artifact.manifest.summary
    for key, _ in MADE.get(step.stage.name, ()):
        value = summary.get(key)
        if isinstance(value, dict):
            value = sum(part for part in value.values() if isinstance(part, int))
        if isinstance(value, int | float) and (
            value or key not in ("unread", "unreadable", "test")
        ):
            yield f"{words.figure(key)} {_figure(value)}"
    failed = failed_rows(step.artifact)
    if failed:
        yield f"{words('terminal_failed')} {len(failed):,}"


def _count(value: object, words: str) -> Iterator[str]:
    if isinstance(value, dict):
        value = sum(part for part in value.values() if isinstance(part, int))
    if isinstance(value, int | float) and (value or words not in ("unread", "unreadable")):
        shown = re.sub(r"s( kept)?$", r"\1", words) if value == 1 else words
        yield f"{_figure(value)} {shown}"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


# Progress as plain lines, for an output that is no terminal.


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


PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
STATE_STYLE = {"cached": "dim", "run": "bold", "resume": "bold yellow", "waits": "dim"}


class Bars(Progress):
    """A stream of events that a terminal shows; use as a context manager.

    A terminal shows bars with an estimate of the time left. Into a file or a pipe go plain lines:
    one when a stage begins, and for work that takes longer than a few seconds one at its start,
    every 30 seconds, and at its end.
    """

    def __init__(
        self,
        lines: ProgressLines | None = None,
        step_ends: Callable[[Any], None] | None = None,
        write: Callable[[str], None] | None = None,
    ) -> None:
        """Choose bars or lines; `lines` are for an output that is no terminal.

        `step_ends` shows a finished step, by default as `step_line`; `write` gets each line as
        plain text in place of the terminal.
        """
        super().__init__(self._take)
        self._write = write
        self.step_ends = step_ends or (lambda step: self.print(step_line(step)))
        self._lines = lines
        if lines is None and not console.is_terminal:
            self._lines = ProgressLines(lambda text: console.print(text, **PLAIN))
        self._bars = BarsOfRich(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        if self._lines is not None:
            self._lines.open()
        else:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bars from the screen."""
        if self._lines is not None:
            self._lines.close()
        else:
            self._bars.stop()

    def print(self, line: str) -> None:
        """Print a line in rich's markup above the bars."""
        if self._write is not None:
            self._write(Text.from_markup(line).plain)
        else:
            console.print(line, highlight=False)

    def _take(self, event: Event) -> None:
        match event:
            case WorkBegins() | WorkAdvances() | WorkEnds():
                if self._lines is not None:
                    self._lines.take(event)
                else:
                    self._move(event)
            case Notice() | TrainingResumes():
                self.print(f"  [yellow]![/] {escape(words().reason(event.text))}")
            case StepBegins():
                self._step_begins(event.step)
            case StepEnds():
                self.step_ends(event.step)

    def _move(self, event: WorkBegins | WorkAdvances | WorkEnds) -> None:
        if isinstance(event, WorkBegins):
            name = f"  {escape(bar_name(event.label))}"
            self._tasks[event.work] = self._bars.add_task(name, total=event.total, note="")
        elif isinstance(event, WorkEnds):
            self._bars.remove_task(self._tasks.pop(event.work))
        else:
            task = self._bars.tasks[self._bars.task_ids.index(self._tasks[event.work])]
            note = escape(said(event.note)) or task.fields["note"]
            self._bars.update(task.id, advance=event.steps, note=note)

    def _step_begins(self, step: Any) -> None:
        """Print in plain lines that a stage begins, and why."""
        if self._lines is not None:
            verb = "resumes" if step.state == "resume" else "begins"
            say = words()
            if say.language == "ko":
                verb = say("terminal_resumes" if step.state == "resume" else "terminal_begins")
            self._lines.stage(step.stage.name, verb, "; ".join(map(say.reason, step.reasons)))


def step_line(step: Any, width: int | None = None) -> str:
    """One line of a run: stage, what was done, how long, what came out.

    `width`: of the line in columns; default: that of the console.
    """
    style = STATE_STYLE[step.state]
    did = {"cached": "up to date", "run": "made", "resume": "finished"}[step.state]
    unit, say, counts = "s", words(), what_was_made(step)
    if say.language == "ko":
        did, unit = say(f"runs_did_{step.state}"), "초"
        counts = figures_made(step, say)
    seconds = "" if step.state == "cached" else f"{step.seconds:6.1f} {unit}"
    did += " " * (10 - cell_len(did))
    shown = ""
    for part in counts:
        if len(shown) + len(part) > (width or console.width) - 40:
            break
        shown += f"{part}  "
    return f"[{style}]{step.stage.name:<11}[/] {did} {seconds:>9}  [dim]{escape(shown)}[/]"
