"""TensorBoard event files, written without torch or TensorFlow."""

import time
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


class TensorboardConfig(TrackerConfig):
    """TensorBoard. Files are not copied: they are on this machine already."""

    type: Literal["tensorboard"]
    folder: Path = Path()
    """Folder of the event files, a folder in it per run. Default: `tensorboard` in the store."""

    @property
    def package(self) -> str:
        """The Python package that it needs."""
        return "tensorboard"

    @property
    def destination(self) -> str:
        """Where it sends to, for messages."""
        return "the folder tensorboard in the store" if self.folder == Path() else str(self.folder)

    def open(self, run: RunContent, run_id: str | None, store: Path) -> "TensorboardRun":
        """Start a run, or continue `run_id` in a further event file."""
        given = self.folder if self.folder != Path() else store / "tensorboard"
        return TensorboardRun(run.project_folder / given, run_id or run.name)


class TensorboardRun:
    """A folder of event files."""

    def __init__(self, folder: Path, run_id: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.run_id = run_id
        (folder / run_id).mkdir(parents=True, exist_ok=True)
        self.writer = EventFileWriter(str(folder / run_id))
        self.last_step = 0

    def parameters(self, values: Mapping[str, Scalar]) -> None:
        """Record the settings as a table of text."""
        rows = tuple((key, value) for key, value in values.items())
        self.table(TrackedTable(name="parameters", columns=("parameter", "value"), rows=rows))

    def metrics(self, points: Sequence[Point]) -> None:
        """Append metrics."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [Summary.Value(tag=k, simple_value=v) for k, v in point.values.items()]
            self._write(Summary(value=values), point.step, point.at)
        self.writer.flush()

    def table(self, table: TrackedTable) -> None:
        """Record a table as text in Markdown."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.metadata import create_summary_metadata

        lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
        text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        value = Summary.Value(
            tag=table.name,
            metadata=create_summary_metadata(display_name="", description=""),
            tensor=TensorProto(dtype="DT_STRING", string_val=[text.encode()]),
        )
        self._write(Summary(value=[value]), self.last_step, time.time())
        self.writer.flush()

    def file(self, path: Path, name: str) -> None:
        """Leave the file where it is."""

    def close(self, state: State) -> None:  # noqa: ARG002  event files know no state
        """Close the event file."""
        self.writer.close()

    def _write(self, summary: Any, step: int, at: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.last_step = max(self.last_step, step)
        self.writer.add_event(Event(wall_time=at, step=step, summary=summary))


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
