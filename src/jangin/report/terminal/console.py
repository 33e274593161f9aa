"""The console of results and that of errors."""

from rich.console import Console

WIDTH_OF_FILES = 120
"""Width in columns where the output is a file or a pipe."""


def _console(*, stderr: bool) -> Console:
    terminal = Console(stderr=stderr)
    return terminal if terminal.is_terminal else Console(stderr=stderr, width=WIDTH_OF_FILES)


console = _console(stderr=False)
errors = _console(stderr=True)
