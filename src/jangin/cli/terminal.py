"""The message after Ctrl-C, and questions with a yes or no answer, on the console."""

import select
import sys
from typing import Any

from rich.console import Console

from jangin.report.terminal.console import console, errors

__all__ = ("INTERRUPTED", "STOPPED", "Stopped", "confirm", "console", "errors")

INTERRUPTED = 130
STOPPED = "[yellow]Stopped.[/] Finished work is kept; run the same command again to resume."


class Stopped(SystemExit):
    """Ctrl-C in a command that has its own message about what was written."""

    def __init__(self, text: str) -> None:
        """Exit with the code of an interrupted program."""
        super().__init__(INTERRUPTED)
        self.text = text


def confirm(question: str) -> bool:
    """True if the user answers yes, which is the default."""
    from rich.prompt import Confirm

    class Patient(Confirm):
        """Polls stdin: polars restarts an interrupted read, so Ctrl-C would have no effect."""

        @classmethod
        def get_input(cls, console: Console, prompt: Any, *_: Any, **__: Any) -> str:
            console.print(prompt, end="")
            while not select.select([sys.stdin], [], [], 0.1)[0]:
                pass
            return input()

    return Patient.ask(question, default=True, console=console)
