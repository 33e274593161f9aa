"""Progress as bars or as lines, and the lines of a run."""

from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jangin.report.terminal.console import console, said, words
from jangin.report.terminal.counts import figures_made, what_was_made
from jangin.report.terminal.lines import ProgressLines, bar_name

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
STATE_STYLE = {"cached": "dim", "run": "bold", "resume": "bold yellow", "waits": "dim"}


class Bars:
    """Progress with an estimate of the time left; use as a context manager.

    A terminal shows bars. Into a file or a pipe go plain lines: one when a stage begins, and for
    work that takes longer than a few seconds one at its start, every 30 seconds, and at its end.
    """

    def __init__(self, lines: ProgressLines | None = None) -> None:
        """Choose bars or lines; `lines` are for an output that is no terminal."""
        self._lines = lines
        if lines is None and not console.is_terminal:
            self._lines = ProgressLines(lambda text: console.print(text, **PLAIN))
        self._bars = Progress(
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

    def begins(self, step: Any) -> None:
        """Print in plain lines that a stage begins, and why."""
        if self._lines is not None:
            verb = "resumes" if step.state == "resume" else "begins"
            say = words()
            if say.language == "ko":
                verb = say("terminal_resumes" if step.state == "resume" else "terminal_begins")
            self._lines.stage(step.stage.name, verb, "; ".join(map(say.reason, step.reasons)))

    def start(self, label: str, total: int | None) -> int:
        """Add a bar; returns its id."""
        if self._lines is not None:
            return self._lines.start(label, total)
        return int(self._bars.add_task(f"  {escape(bar_name(label))}", total=total, note=""))

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:
        """Advance a bar."""
        if self._lines is not None:
            self._lines.advance(bar, steps, note)
            return
        task = self._bars.tasks[self._bars.task_ids.index(bar)]  # type: ignore[arg-type]  # TaskID is an int
        self._bars.update(task.id, advance=steps, note=escape(said(note)) or task.fields["note"])

    def stop(self, bar: int) -> None:
        """Remove a bar."""
        if self._lines is not None:
            self._lines.stop(bar)
        else:
            self._bars.remove_task(bar)  # type: ignore[arg-type]  # TaskID is an int

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        console.print(f"  [yellow]![/] {escape(words().reason(text))}", highlight=False)


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
