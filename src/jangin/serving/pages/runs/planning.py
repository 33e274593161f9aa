"""The plan of a project for its page: computed beside the requests, and kept until it changes.

Planning reads the digests of all inputs and may read documents for 15 seconds.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jangin.core.digest import short_digest
from jangin.core.errors import ConfigError, JanginError
from jangin.documents.load import LoadConfig
from jangin.documents.readers.folder import ReasonGroup, by_reason
from jangin.project.failures import Failures, failures_of
from jangin.project.file import LoadedProject
from jangin.project.plan import (
    Unrecorded,
    base_dependent_chunks,
    unrecorded_calls,
)
from jangin.project.session import Session, open_session
from jangin.project.setup.forecast import Forecast, forecast
from jangin.serving.state.project import OpenProject
from jangin.views.plan import PlanFigures, plan_figures

MOST_FILES = 20_000
"""Files of the documents that are looked at for changes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do and cost."""

    version: str
    figures: PlanFigures
    warnings: tuple[str, ...]
    """Why teachers could not be opened, chunks that variants could share."""
    unread: tuple[ReasonGroup, ...]
    """Files of the folder that are not read."""
    failures: tuple[Failures, ...]
    unrecorded: tuple[Unrecorded, ...]
    """Stages that would stop because recorded replies do not cover their calls."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of the plan at the moment."""

    plan: Plan | None
    """Of an earlier version while `working`."""
    working: bool
    problem: str = ""
    """Why there is none, such as a folder without documents."""


@dataclass(slots=True)
class Plans:
    """The newest plan of one project; safe to use from several threads."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _plan: Plan | None = None
    _problem: tuple[str, str] = ("", "")
    """(version, why there is no plan)."""
    _working: str = ""
    """Version that is being computed."""

    def ask(self, project: OpenProject) -> Answer:
        """The plan of the project as it is now; computing starts where it is not known."""
        version = version_of(project)
        with self._lock:
            if self._plan is not None and self._plan.version == version:
                return Answer(self._plan, working=False)
            if self._problem[0] == version:
                return Answer(None, working=False, problem=self._problem[1])
            if not self._working:
                self._working = version
                work = threading.Thread(target=self._compute, args=(project, version), daemon=True)
                work.start()
            return Answer(self._plan, working=True)

    def forget(self) -> None:
        """A run has begun: what it will do is no plan for the time after it."""
        with self._lock:
            self._plan = None

    def _compute(self, project: OpenProject, version: str) -> None:
        plan, problem = None, ""
        try:
            plan = make_plan(project, version)
        except JanginError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  the page reports it, a thread cannot
            problem = repr(error)
        with self._lock:
            self._working = ""
            self._problem = (version, problem) if problem else ("", "")
            self._plan = plan or self._plan


def make_plan(project: OpenProject, version: str) -> Plan:
    """Compute the plan; raises as `forecast`."""
    with open_session(project.loaded(), creates_store=False) as session:
        names = list(session.project.variants)
        result = forecast(session, names)
        unread = [row for name in names for row in session.unread_files(name)]
        figures = plan_figures(result.steps, session.budget, result.likely)
        keys = _missing_key(session, result)
    chunks = base_dependent_chunks(result.steps)
    return Plan(
        version,
        figures,
        (*result.refusals, *keys, *([chunks] if chunks else [])),
        tuple(by_reason(dict.fromkeys(unread))),
        tuple(failures_of(result.steps)),
        tuple(unrecorded_calls(result.steps)),
    )


def _missing_key(session: Session, result: Forecast) -> list[str]:
    """What a run would say before any work, where a teacher's key is not set."""
    try:
        session.check_keys(result.steps)
    except ConfigError as error:
        return [str(error)]
    return []


def version_of(project: OpenProject) -> str:
    """Changes with the project file, its artifacts, documents and other files beside it."""
    snapshot = project.snapshot()
    return short_digest([snapshot.version, *_files_of(snapshot.project)])


def _files_of(loaded: LoadedProject) -> Sequence[tuple[str, int, int]]:
    """(path, time, size) of what stages may read outside the store."""
    folders = {loaded.folder: False}
    for variant in loaded.variants.values():
        config = variant.stage_config("load")
        if isinstance(config, LoadConfig):
            folders[loaded.folder / config.folder] = True
    store = loaded.folder / "store"
    files: list[tuple[str, int, int]] = []
    for folder, deep in folders.items():
        for path in _walk(folder, store, deep=deep):
            if len(files) >= MOST_FILES:
                break
            try:
                status = path.stat()
            except OSError:
                continue
            files.append((str(path), status.st_mtime_ns, status.st_size))
    return sorted(files)


def _walk(folder: Path, store: Path, *, deep: bool) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        here = Path(root)
        yield from (here / name for name in names if not name.startswith("."))
        folders[:] = [
            name
            for name in folders
            if deep
            and not name.startswith(".")
            and here / name != store
            and not (here / name / "server.sqlite").exists()
        ]
