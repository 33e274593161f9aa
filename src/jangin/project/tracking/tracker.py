"""Interface of a tracker: its settings, the run that is sent to it, and what it takes.

A tracker works in a process of its own (`worker.py`), so it may block, print and raise anything.
"""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config
from jangin.core.digest import digest_value

Scalar = bool | int | float | str
State = Literal["running", "finished", "stopped"]


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics of one training step."""

    step: int
    at: float
    """Seconds since 1970, UTC."""
    values: Mapping[str, float]


class TrackedTable(BaseModel):
    """A table of results."""

    model_config = ConfigDict(frozen=True)

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar | None, ...], ...]


class RunContent(BaseModel):
    """Everything sent to trackers about one training, or about one evaluation without training."""

    model_config = ConfigDict(frozen=True)

    project: str
    variant: str
    stage: str
    key: str
    """Of the stage's artifact: the run is the same as long as this is."""
    state: State
    folder: Path
    """The artifact, or its unfinished folder."""
    project_folder: Path
    parameters: dict[str, Scalar]
    figures: dict[str, float] = Field(default_factory=dict)
    """Results that are one number each, such as `evaluate/test/tuned/right`."""
    tables: tuple[TrackedTable, ...] = ()
    files: tuple[Path, ...] = ()
    """Files outside `folder`, such as the report."""
    trackers: tuple[str, ...] = ()
    """`TrackerConfig.label` of the trackers that it is for."""

    @property
    def name(self) -> str:
        """What people see in a list of runs."""
        return f"{self.variant}-{self.stage}-{self.key[:8]}"


class TrackedRun(Protocol):
    """A run that a tracker has open."""

    @property
    def run_id(self) -> str:
        """By which `TrackerConfig.open` continues it."""
        ...

    def parameters(self, values: Mapping[str, Scalar]) -> None:
        """Record the settings; called once in the life of a run."""
        ...

    def metrics(self, points: Sequence[Point]) -> None:
        """Append metrics; steps only rise."""
        ...

    def table(self, table: TrackedTable) -> None:
        """Record or replace a table."""
        ...

    def file(self, path: Path, name: str) -> None:
        """Record or replace a file; `name` is its path inside the run, with `/`."""
        ...

    def close(self, state: State) -> None:
        """End the run, or this session of it; returns when everything is sent."""
        ...


class TrackerConfig(Config):
    """Settings of one kind of tracker; a subclass adds `type: Literal["name"]` and overrides."""

    later: ClassVar[frozenset[str]] = frozenset()
    """Settings that are newer than labels in stores: empty ones do not change the label."""
    largest_file_mib: float = Field(default=5.0, ge=0)
    """Files of the trained model up to this size in MiB are sent; larger ones, such as weights, are
    named with path, size and digest. 0 sends none."""

    @property
    def label(self) -> str:
        """Distinguishes trackers: the type and a digest of where it sends to."""
        where = self.model_dump(mode="json", exclude={"largest_file_mib"})
        where = {key: value for key, value in where.items() if value or key not in self.later}
        environment = [os.environ.get(name, "") for name in self.environment]
        return f"{getattr(self, 'type', '')}-{digest_value([where, environment])[:8]}"

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of environment variables that hold its destination."""
        return ()

    @property
    @abstractmethod
    def package(self) -> str:
        """The Python package that it needs; its pip extra has the name of the type."""

    @property
    @abstractmethod
    def destination(self) -> str:
        """Where it sends to, for messages."""

    @abstractmethod
    def open(self, run: RunContent, run_id: str | None, store: Path) -> TrackedRun:
        """Start a run, or continue `run_id`. May raise anything: it is tried again later."""
