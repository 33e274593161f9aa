"""Follow a run of stages, and run the trackers' processes while it lasts."""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin import __version__
from jangin.core.events import Event, Notice, Progress, StepBegins, StepEnds
from jangin.core.parquet import read_table
from jangin.core.store import Artifact, Store
from jangin.evaluation.results import Comparison, Result
from jangin.project.file import LoadedProject, Project
from jangin.project.plan import PlannedStage
from jangin.project.stages import STAGES
from jangin.project.tracking.outbox import (
    FOLDER,
    folder_of,
    missing_package,
    read_run,
    unsent,
    write_run,
)
from jangin.project.tracking.table import config_of
from jangin.project.tracking.tracker import RunContent, Scalar, State, TrackedTable, TrackerConfig
from jangin.training.loop.config import TrainingKeys

_PATIENCE_SECONDS = 60.0
"""After the last stage; what is not sent by then is sent by the next run."""
_PRIVATE = frozenset({"base_url", "further_urls", "key_variable", "replies", "record_from"})
"""Settings of teachers that are not sent to trackers."""
_LAST_LINES_SECONDS = 10.0
"""For the lines that a process has written before its end."""
EVALUATION = "evaluation"


@dataclass(slots=True)
class _Sender:
    """The process of one tracker."""

    tracker: TrackerConfig
    store: Path
    progress: Progress
    process: "subprocess.Popen[str] | None" = None
    reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process if there is something to send and it does not run."""
        if self.process is not None or not unsent(self.store, self.tracker):
            return
        if importlib.util.find_spec(self.tracker.package) is None:
            return
        settings = self.tracker.model_dump_json()
        log = self.store / FOLDER / f"{self.tracker.label}.log"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", "jangin.project.tracking.worker", self.store, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the run; the rest is sent after it
            )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process is not None  # noqa: S101  started before
        assert self.process.stdout is not None  # noqa: S101  it is a pipe
        with suppress(ValueError):  # closed, as a process that it left behind holds the pipe
            for line in self.process.stdout:
                self.progress.emit(Notice(line.rstrip(), "tracker"))

    def stop(self, seconds: float) -> None:
        """Let the process send the rest, and end it after this many seconds."""
        if self.process is None or self.reader is None:
            return
        assert self.process.stdin is not None  # noqa: S101  it is a pipe
        self.process.stdin.close()
        try:
            complete = self.process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            complete = False
        finally:
            self.process.kill()
        self.process.wait()
        self.reader.join(_LAST_LINES_SECONDS)
        assert self.process.stdout is not None  # noqa: S101  it is a pipe
        self.process.stdout.close()
        if not complete:
            text = (
                f"{self.tracker.destination} did not get everything of this run; the next "
                "`jangin run` sends the rest."
            )
            self.progress.emit(Notice(text, "tracker"))
        self.process = None


@dataclass(slots=True)
class Tracking:
    """What is sent to the trackers of a project."""

    project: LoadedProject
    store: Store
    progress: Progress
    senders: dict[str, _Sender] = field(default_factory=dict)
    """{label of a tracker: its process}."""
    trained: dict[str, tuple[str, str]] = field(default_factory=dict)
    """{variant: (stage, key) of its last training so far}."""
    running: list[RunContent] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Follow a training while it lasts; send what a stage made, just now or long ago."""
        if isinstance(event, StepBegins):
            self._begin(event.step)
        elif isinstance(event, StepEnds):
            self._finish(event.step)

    def _begin(self, step: PlannedStage) -> None:
        if _is_training(step) and self._trackers(step.variant):
            folder = self.store.partial(step.stage.name, step.key)
            folder.mkdir(parents=True, exist_ok=True)
            self._training(step, "running", folder)

    def _finish(self, step: PlannedStage) -> None:
        if step.artifact is None or not self._trackers(step.variant):
            return
        if _is_training(step):
            self._training(step, "finished", step.artifact.path)
        elif EVALUATION in step.stage.makes:
            self._evaluation(step, step.artifact)

    def add_file(self, variant: str, artifacts: Mapping[str, Artifact], path: Path) -> None:
        """Send a file, such as the report, to the run of a variant's model."""
        trained = [
            s.name for s in STAGES if s.name in artifacts and _trains(self.project, variant, s.name)
        ]
        for name in reversed(trained or ["evaluate"]):
            folder = name in artifacts and folder_of(
                self.store.root, name, artifacts[name].manifest.key
            )
            if folder and folder.exists() and self._trackers(variant):
                run = read_run(folder)
                files = tuple(dict.fromkeys((*run.files, path.resolve())))
                self._send(run.model_copy(update={"files": files}), variant)
                return

    def close(self) -> None:
        """End what was interrupted, and wait until the trackers have everything, but not long."""
        for run in self.running:
            write_run(self.store.root, run.model_copy(update={"state": "stopped"}))
        for sender in self.senders.values():
            sender.stop(_PATIENCE_SECONDS)

    def _training(self, step: PlannedStage, state: State, folder: Path) -> None:
        run = self._run(step, state, folder)
        self.trained[step.variant] = (step.stage.name, step.key)
        self.running = [run] if state == "running" else []
        self._send(run, step.variant)

    def _evaluation(self, step: PlannedStage, artifact: Artifact) -> None:
        root = self.store.root
        trained = self.trained.get(step.variant)
        run = (
            read_run(folder_of(root, *trained))
            if trained
            else self._run(step, "finished", artifact.path)
        )
        results = read_table(artifact.path / "results.parquet", Result)
        comparisons = read_table(artifact.path / "comparisons.parquet", Comparison)
        tables = (
            _table("results", Result, results),
            _table("comparisons", Comparison, comparisons),
        )
        self._send(
            run.model_copy(update={"tables": tables, "figures": _figures(results)}), step.variant
        )

    def _run(self, step: PlannedStage, state: State, folder: Path) -> RunContent:
        """The description; what an earlier run, or another variant, wrote to it stays."""
        before = folder_of(self.store.root, step.stage.name, step.key)
        if (before / "run.json").exists():
            run = read_run(before)
            return run.model_copy(update={"state": state, "folder": folder.resolve()})
        project = self.project
        return RunContent(
            project=project.name,
            variant=step.variant,
            stage=step.stage.name,
            key=step.key,
            state=state,
            folder=folder.resolve(),
            project_folder=project.folder.resolve(),
            parameters=parameters(project.variants[step.variant], step.stage.name),
        )

    def _send(self, run: RunContent, variant: str) -> None:
        trackers = self._trackers(variant)
        labels = tuple(tracker.label for tracker in trackers)
        write_run(self.store.root, run.model_copy(update={"trackers": labels}))
        for tracker in trackers:
            if tracker.label not in self.senders:
                sender = _Sender(tracker, self.store.root.resolve(), self.progress)
                self.senders[tracker.label] = sender
                if importlib.util.find_spec(tracker.package) is None:
                    self.progress.emit(Notice(missing_package(tracker), "tracker"))
            self.senders[tracker.label].start()

    def _trackers(self, variant: str) -> Sequence[TrackerConfig]:
        return [config_of(entry) for entry in self.project.variants[variant].track]


@contextmanager
def tracked(project: LoadedProject, store: Store, progress: Progress) -> Iterator[Tracking]:
    """A subscriber that informs the project's trackers; leaving it waits for them briefly.

    `progress` gets what they say.
    """
    tracking = Tracking(project, store, progress)
    try:
        yield tracking
    finally:
        tracking.close()


def send_file(
    project: LoadedProject,
    store: Store,
    progress: Progress,
    artifacts: Mapping[str, Mapping[str, Artifact]],
    path: Path,
) -> None:
    """Send a file to the runs of all variants, and wait until the trackers have it.

    `artifacts[variant][stage]` is what is finished.
    """
    with tracked(project, store, progress) as tracking:
        for variant, stages in artifacts.items():
            tracking.add_file(variant, stages, path)


def parameters(project: Project, last: str) -> dict[str, Scalar]:
    """The settings of a variant up to a stage, as `stage.key.key`; without addresses and keys."""
    values: dict[str, Scalar] = {"jangin": __version__, "project": project.name}
    for name, teacher in project.teachers.items():
        values |= dict(
            _flat(f"teachers.{name}", teacher.model_dump(mode="json", exclude=set(_PRIVATE)))
        )
    for stage in STAGES:
        config = project.stage_config(stage.name)
        if config is not None:
            values |= dict(_flat(stage.name, config.model_dump(mode="json")))
        if stage.name == last:
            break
    return values


def _flat(key: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    elif isinstance(value, list):
        yield key, ", ".join(map(str, value))
    elif value is not None:
        yield key, value


def _is_training(step: PlannedStage) -> bool:
    return isinstance(step.config, TrainingKeys)


def _trains(project: LoadedProject, variant: str, stage: str) -> bool:
    config = project.variants[variant].stage_config(stage)
    return isinstance(config, TrainingKeys)


def _table(name: str, record: type[Any], rows: Sequence[Any]) -> TrackedTable:
    columns = tuple(record.model_fields)
    return TrackedTable(
        name=name,
        columns=columns,
        rows=tuple(tuple(row.model_dump(mode="json")[c] for c in columns) for row in rows),
    )


def _figures(results: Sequence[Result]) -> dict[str, float]:
    """Shares and scores with both ends of their intervals, as `evaluate/QUESTIONS/SYSTEM/WHAT`."""
    names = ("right", "right_low", "right_high", "score", "score_low", "score_high")
    return {
        f"evaluate/{row.evidence_set}/{row.system}/{name}": float(value)
        for row in results
        for name in names
        if (value := getattr(row, name)) is not None
    }
