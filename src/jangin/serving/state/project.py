"""The project of a server: its file, its store, and what was made last."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jangin.core.digest import short_digest
from jangin.core.store import Artifact
from jangin.examples.formats.additions import FILES
from jangin.examples.reviews.log import LOG
from jangin.project.file import LoadedProject, open_project
from jangin.project.plan import stages_until
from jangin.project.session import Session, open_session

FRESH_SECONDS = 0.5
"""How long what is on disk is taken to be what it was."""


@dataclass(frozen=True)
class VariantState:
    """What there is of a variant."""

    name: str
    last: Mapping[str, Artifact]
    """{stage: the newest artifact that a run of this variant made or used}, of stages that are on,
    in the order in which data flows; they may be out of date by now."""
    _current: Callable[[], Mapping[str, Artifact]]

    @cached_property
    def current(self) -> Mapping[str, Artifact]:
        """{stage: artifact} of those that are up to date; reads the digests of all inputs."""
        return self._current()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The project at one moment."""

    project: LoadedProject
    variants: Mapping[str, VariantState]
    version: str
    """Changes whenever the project file or an artifact does."""


_Times = tuple[tuple[str, int, int], ...]
"""(path, modification time in ns, size) of files."""


class OpenProject:
    """The project of a server; safe to use from several threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`path`: of the project file, which need not exist yet."""
        self.path = path.absolute()
        self.folder = self.path.parent
        self._clock = clock
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[_Times, _Times], LoadedProject] | None = None
        self._snapshot: tuple[object, Snapshot] | None = None
        self._checked = -FRESH_SECONDS

    @property
    def store(self) -> Path:
        """Folder of the artifacts."""
        return self.folder / "store"

    @property
    def name_in_ledger(self) -> str:
        """The project file relative to the store, as runs are recorded under."""
        return os.path.relpath(self.path.resolve(), self.store.resolve())

    @property
    def exists(self) -> bool:
        """True once there is a project file."""
        return self.path.is_file()

    def loaded(self) -> LoadedProject:
        """The project file as it is now; raises `ConfigError` with a line per problem."""
        with self._lock:
            return self._load()

    def _load(self) -> LoadedProject:
        files = [self.path, *(self.folder / name for name in FILES.values())]
        # The review is on by itself once there is a log, and documents that it replaces are not
        # read; other decisions leave the project the same.
        seen = (_times(files), _times([self.folder / LOG]))
        if self._loaded is None or self._loaded[0] != seen:
            loaded, old = open_project(self.path), self._loaded
            if old is not None and old[0][0] == seen[0] and old[1].variants == loaded.variants:
                loaded = old[1]
            self._loaded = (seen, loaded)
        return self._loaded[1]

    def session(self) -> AbstractContextManager[Session]:
        """The project with its store, for a short piece of work in one thread."""
        return open_session(self.loaded(), creates_store=False)

    def snapshot(self) -> Snapshot:
        """What was made so far; raises `ConfigError` where the project file is wrong."""
        with self._lock:
            loaded = self._load()
            now = self._clock()
            known = self._snapshot
            same_file = known is not None and known[1].project is loaded
            if known and same_file and now - self._checked < FRESH_SECONDS:
                return known[1]
            seen = _times(_signs_of_change(loaded))
            if known is None or not same_file or known[0] != seen:
                known = self._snapshot = (seen, self._look(loaded))
            self._checked = now
            return known[1]

    def _look(self, loaded: LoadedProject) -> Snapshot:
        with open_session(loaded, creates_store=False) as session:
            last = {name: _last_artifacts(session, name) for name in loaded.variants}
        keys = {
            name: {stage: artifact.manifest.key for stage, artifact in artifacts.items()}
            for name, artifacts in last.items()
        }
        file_digest = short_digest(self.path.read_text("utf-8"))
        version = short_digest({"file": file_digest, "artifacts": keys})
        known = self._snapshot and self._snapshot[1]
        if known and known.version == version and known.project is loaded:
            return known
        states = {
            name: VariantState(name, artifacts, self._current_of(name))
            for name, artifacts in last.items()
        }
        return Snapshot(loaded, states, version)

    def _current_of(self, variant: str) -> Callable[[], Mapping[str, Artifact]]:
        def current() -> Mapping[str, Artifact]:
            with self.session() as session:
                return session.artifacts(variant)

        return current


def _last_artifacts(session: Session, variant: str) -> dict[str, Artifact]:
    """The newest artifact of each stage that is on, as the runs of the variant recorded them."""
    services = session.services(variant)
    on = [stage.name for stage, _ in stages_until(session.project.variants[variant], None)]
    last: dict[str, Artifact] = {}
    for keys in services.ledger.last_runs(services.project, variant):
        for stage in on:
            if stage in last or stage not in keys:
                continue
            artifact = session.store.find(stage, keys[stage])
            if artifact is not None:
                last[stage] = artifact
        if len(last) == len(on):
            break
    return {stage: last[stage] for stage in on if stage in last}


def _signs_of_change(loaded: LoadedProject) -> Iterator[Path]:
    """Files and folders whose modification times change when an artifact is finished or deleted."""
    store = loaded.folder / "store"
    yield store
    yield from (store / name for name in ("ledger.sqlite", "ledger.sqlite-wal"))
    if store.is_dir():
        yield from sorted(path for path in store.iterdir() if path.is_dir())


def _times(paths: "Iterator[Path] | list[Path]") -> _Times:
    times = []
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116  # called for every request
        except OSError:
            continue
        times.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(times)
