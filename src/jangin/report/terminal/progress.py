"""Progress bars and the lines of a run."""

from types import TracebackType
from typing import Any, Self

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

from jangin.report.terminal.console import console

STATE_STYLE = {"cached": "dim", "run": "bold", "resume": "bold yellow", "waits": "dim"}


class Bars:
    """Progress bars with an estimate of the time left; use as a context manager."""

    def __init__(self) -> None:
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
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bars from the screen."""
        self._bars.stop()

    def start(self, label: str, total: int | None) -> int:
        """Add a bar; returns its id."""
        return int(self._bars.add_task(f"  {escape(label)}", total=total, note=""))

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:
        """Advance a bar."""
        task = self._bars.tasks[self._bars.task_ids.index(bar)]  # type: ignore[arg-type]  # TaskID is an int
        self._bars.update(task.id, advance=steps, note=escape(note) or task.fields["note"])

    def stop(self, bar: int) -> None:
        """Remove a bar."""
        self._bars.remove_task(bar)  # type: ignore[arg-type]  # TaskID is an int

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        console.print(f"  [yellow]![/] {escape(text)}", highlight=False)


def step_line(step: Any) -> str:
    """One line of a run: stage, what was done, how long, what came out."""
    style = STATE_STYLE[step.state]
    did = {"cached": "up to date", "run": "made", "resume": "finished"}[step.state]
    seconds = "" if step.state == "cached" else f"{step.seconds:6.1f} s"
    counts = step.artifact.manifest.summary if step.artifact is not None else {}
    shown = ""
    for name, value in sorted(counts.items(), key=lambda item: _calm(*item)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        index = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        part = f"{name.replace('_', ' ')} {index}"
        if len(shown) + len(part) > console.width - 40:
            break
        shown += f"{part}  "
    return f"[{style}]{step.stage.name:<11}[/] {did:<10} {seconds:>9}  [dim]{escape(shown)}[/]"


def _calm(name: str, value: object) -> bool:
    """False for counts of losses, which are sorted first."""
    return not (
        name in ("unreadable", "failed", "dropped", "malformed_replies", "lost_rows") and value
    )
