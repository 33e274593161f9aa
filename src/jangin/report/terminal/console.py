"""The console of results and that of errors."""

import os
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from jangin.report.i18n.translate import Words

WIDTH_OF_FILES = 120
"""Width in columns where the output is a file or a pipe."""


def words() -> "Words":
    """The words of the language that LC_ALL, LC_MESSAGES or LANG name: Korean, else English."""
    from jangin.report.i18n.translate import Words

    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "")
    return Words("ko" if locale.lower().startswith("ko") else "en")


def _console(*, stderr: bool) -> Console:
    terminal = Console(stderr=stderr)
    return terminal if terminal.is_terminal else Console(stderr=stderr, width=WIDTH_OF_FILES)


console = _console(stderr=False)
errors = _console(stderr=True)
