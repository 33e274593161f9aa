"""Progress as bars or as lines, and the lines of a run."""

from collections.abc import Callable
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
    WorkAdvances,
    WorkBegins,
    WorkEnds,
)
from jangin.report.terminal.console import console, said, words
from jangin.report.terminal.counts import figures_made, what_was_made
from jangin.report.terminal.lines import ProgressLines, bar_name

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
