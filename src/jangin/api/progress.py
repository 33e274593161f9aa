"""How the work of `run` is shown: bars, lines, nothing, or as the caller wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from jangin.core.events import Progress

Shown = Literal["bars", "lines"] | Callable[[str], None] | Progress | None


@contextmanager
def displayed(wanted: Shown, title: Callable[[Any], str]) -> Iterator[Progress]:
    """Show progress as wanted; `title` goes before the line of a finished step.

    `bars` are lines where the output is no terminal. A function gets each line as plain text.

    Raises: TypeError: it is none of the ways to show progress.
    """
    from jangin.report.terminal.console import console
    from jangin.report.terminal.lines import ProgressLines
    from jangin.report.terminal.progress import PLAIN, Bars, step_line

    write = None
    if wanted is None:
        yield Progress()
        return
    if isinstance(wanted, Progress):
        yield wanted
        return
    if wanted in ("bars", "lines"):
        lines = None if wanted == "bars" else ProgressLines(lambda t: console.print(t, **PLAIN))
    elif callable(wanted):
        write = wanted
        lines = ProgressLines(write)
    else:
        raise TypeError(f"progress is {wanted!r}. Give bars, lines, None, a function or Progress.")
    with Bars(lines, lambda step: bars.print(title(step) + step_line(step)), write) as bars:
        yield bars
