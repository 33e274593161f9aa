"""The message after Ctrl-C, questions with a yes or no answer, single keys, and the editor."""

import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from jangin.core.errors import MachineError
from jangin.report.terminal.console import console, errors

__all__ = (
    "INTERRUPTED",
    "STOPPED",
    "Stopped",
    "confirm",
    "console",
    "edit_text",
    "errors",
    "read_key",
)

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
                pass  # Ctrl-C is handled between two calls
            return input()

    return Patient.ask(question, default=True, console=console)


def edit_text(text: str) -> str | None:
    """The text after the user edited it in $VISUAL, $EDITOR, nano or vi; None if the editor failed.

    Raises: MachineError: there is no editor.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    command = shlex.split(named) if named else [shutil.which("nano") or shutil.which("vi") or ""]
    if not command[0] or shutil.which(command[0]) is None:
        raise MachineError(
            f"the editor {command[0] or 'nano'!r} was not found. Set one with: export EDITOR=vim"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.txt"
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([*command, str(path)], check=False)  # noqa: S603  the user's own editor
        if done.returncode:
            return None
        return path.read_text(encoding="utf-8")


JAMO = dict(
    zip(
        "ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔㅁㄴㅇㄹㅎㅗㅓㅏㅣㅋㅌㅊㅍㅠㅜㅡ",
        "qwertyuiopasdfghjklzxcvbnm",
        strict=True,
    )
)
"""What a Korean keyboard (2-set) sends for a Latin key: the input method need not be switched."""


def read_key() -> str:
    """One key from the terminal, in lower case: a letter, or the escape sequence of an arrow.

    Keys that were typed ahead are not lost. Empty at the end of the input.
    """
    import termios
    import tty

    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    try:
        tty.setcbreak(source, termios.TCSANOW)
        data = os.read(source, 1)
        if data == b"\x1b" and select.select([source], [], [], 0.05)[0]:
            data += os.read(source, 2)
        # The first byte of a UTF-8 character says how many follow.
        elif data and data[0] >= 0xC0:
            data += os.read(source, 1 + (data[0] >= 0xE0) + (data[0] >= 0xF0))
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)
    key = data.decode(errors="replace")
    return JAMO.get(key, key.lower())
