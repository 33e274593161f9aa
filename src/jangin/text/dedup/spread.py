"""Where the search for near-duplicates does its work: here, or in other processes and on nodes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jangin.core.executor import Executor, InProcess, map_all


@dataclass(frozen=True, slots=True)
class Spread:
    """An executor and a folder for what is large; by default this process and a temporary one.

    Other processes take a second or two to start, so they get nothing below `texts_from` texts or
    `pairs_from` pairs. The pieces that work is cut into do not depend on any of this.
    """

    executor: Executor = field(default_factory=InProcess)
    folder: Path | None = None
    """Seen by all that work; what is written there is deleted at the end."""
    texts_from: int = 100_000
    pairs_from: int = 20_000
    """Of the pairs a thousand a second are compared, where Korean words are read."""

    @property
    def directory(self) -> Path:
        """The folder; there is one while this is `opened`."""
        if self.folder is None:
            raise ValueError("only `opened` has a folder")
        return self.folder

    @contextmanager
    def opened(self) -> Iterator["Spread"]:
        """Itself, with a folder that exists."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder, prefix="near-duplicates-") as name:
            yield replace(self, folder=Path(name))

    def over_texts(
        self, count: int, work: Callable[..., Any], items: Iterable[Any], what: str
    ) -> Iterator[tuple[int, Any]]:
        """`map_all` for work on `count` texts: in this process where they are few."""
        return map_all(self._executor(count >= self.texts_from), work, items, what)

    def over_pairs(
        self, count: int, work: Callable[..., Any], items: Iterable[Any], what: str
    ) -> Iterator[tuple[int, Any]]:
        """`map_all` for pairs, of which `count` are costly: in this process where these are few."""
        return map_all(self._executor(count >= self.pairs_from), work, items, what)

    def _executor(self, is_much: bool) -> Executor:
        return self.executor if is_much else InProcess()
