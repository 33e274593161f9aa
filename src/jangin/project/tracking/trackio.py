"""Trackio: a local database with a page of its own, or a Space on the Hugging Face Hub."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jangin.project.tracking.tracker import (
    Point,
    RunContent,
    Scalar,
    State,
    TrackedTable,
    TrackerConfig,
)


class TrackioConfig(TrackerConfig):
    """Trackio. Its page is opened by `trackio show`."""

    type: Literal["trackio"]
    project: str = ""
    """Name of the project there. Empty: that of this project."""
    space: str = ""
    """Space on the Hub such as `ORG/NAME`. Empty: a database on this machine."""

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of environment variables that hold its destination."""
        return ("TRACKIO_DIR", *(() if self.space else ("TRACKIO_SPACE_ID",)))

    @property
    def package(self) -> str:
        """The Python package that it needs."""
        return "trackio"

    @property
    def destination(self) -> str:
        """Where it sends to, for messages."""
        return self.space or os.environ.get("TRACKIO_SPACE_ID", "") or "its local database"

    def open(
        self,
        run: RunContent,
        run_id: str | None,
        store: Path,  # noqa: ARG002  the interface's name
    ) -> "TrackioRun":
        """Start a run, or continue `run_id`."""
        import trackio

        name = run_id or run.name
        opened = trackio.init(
            project=self.project or run.project,
            name=name,
            group=run.variant,
            space_id=self.space or None,
            config=dict(run.parameters),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return TrackioRun(opened, name)


class TrackioRun:
    """A run of Trackio."""

    def __init__(self, run: Any, run_id: str) -> None:
        self.run = run
        self.run_id = run_id

    def parameters(self, values: Mapping[str, Scalar]) -> None:
        """Nothing: they are given when the run is opened."""

    def metrics(self, points: Sequence[Point]) -> None:
        """Append metrics."""
        for point in points:
            self.run.log(dict(point.values), step=point.step)

    def table(self, table: TrackedTable) -> None:
        """Record a table."""
        import trackio

        rows = [list(row) for row in table.rows]
        self.run.log({table.name: trackio.Table(columns=list(table.columns), data=rows)})

    def file(self, path: Path, name: str) -> None:
        """Leave the file where it is: Trackio keeps metrics and tables."""

    def close(self, state: State) -> None:  # noqa: ARG002  Trackio knows no state
        """Send what is left."""
        self.run.finish()
