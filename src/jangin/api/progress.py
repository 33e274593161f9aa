"""How the work of `run` is shown: bars, lines, nothing, or as the caller wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

from jangin.core.stage import Progress, SilentProgress

Shown = Literal["bars", "lines"] | Callable[[str], None] | Progress | None


@dataclass(frozen=True, slots=True)
class Display:
    """A `Progress`, and what takes the beginning and the line of each stage."""

    progress: Progress
    begins: Callable[[Any], None]
    line: Callable[[str], None]
    """Gets text in rich's markup."""


@contextmanager
def displayed(wanted: Shown) -> Iterator[Display]:
    """Show progress as wanted.

    `bars` are lines where the output is no terminal. A function gets each line as plain text.

    Raises: TypeError: it is none of the ways to show progress.
    """
    from jangin.report.terminal.console import console
    from jangin.report.terminal.lines import ProgressLines
    from jangin.report.terminal.progress import PLAIN, Bars

    if wanted is None:
        yield Display(SilentProgress(), _nothing, _nothing)
    elif wanted in ("bars", "lines"):
        lines = None if wanted == "bars" else ProgressLines(lambda t: console.print(t, **PLAIN))
        with Bars(lines) as bars:
            yield Display(bars, bars.begins, lambda text: console.print(text, highlight=False))
    elif hasattr(wanted, "advance"):
        yield Display(cast(Progress, wanted), _nothing, _nothing)
    elif callable(wanted):
        write = wanted

        class Written(Bars):
            """Lines for a function, messages too."""

            def message(self, text: str) -> None:
                write(f"  ! {text}")

        with Written(ProgressLines(write)) as bars:
            yield Display(bars, bars.begins, _plain(write))
    else:
        raise TypeError(f"progress is {wanted!r}. Give bars, lines, None or a function.")


def _nothing(_event: object) -> None:
    """The callback of `progress=None`."""


def _plain(write: Callable[[str], None]) -> Callable[[str], None]:
    from rich.text import Text

    return lambda text: write(Text.from_markup(text).plain)
