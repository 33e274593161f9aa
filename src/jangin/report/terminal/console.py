"""The console of results and that of errors."""

import os
import re
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

if TYPE_CHECKING:
    from jangin.report.i18n.translate import Words

WIDTH_OF_FILES = 120
"""Width in columns where the output is a file or a pipe."""


_chosen: list[str] = []
"""The language of `--language`; empty for that of the locale."""


def choose_language(language: str) -> None:
    """Speak `ko` or `en` from now on; `auto` for the language of the locale."""
    _chosen[:] = [] if language == "auto" else [language]


def words() -> "Words":
    """The words of `--language`, else of LC_ALL, LC_MESSAGES or LANG: Korean, else English."""
    from jangin.report.i18n.translate import Words

    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, [*_chosen, *names]), "")
    return Words("ko" if locale.lower().startswith("ko") else "en")


def said(text: str) -> str:
    """A sentence or a list of them in the language of the terminal; as it is where unknown."""
    return words().reason(text)


def pad(text: str, width: int) -> str:
    """The text and as many spaces as fill a column; a Korean syllable takes two."""
    return text + " " * (width - cell_len(text))


def heading(title: str) -> str:
    """The heading of a column, or another word of a table."""
    return words().known("head_" + re.sub(r"\W+", "_", title.lower()).strip("_"), title)


def _console(*, stderr: bool) -> Console:
    terminal = Console(stderr=stderr)
    return terminal if terminal.is_terminal else Console(stderr=stderr, width=WIDTH_OF_FILES)


console = _console(stderr=False)
errors = _console(stderr=True)
