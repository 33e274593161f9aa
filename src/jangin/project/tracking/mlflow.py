"""MLflow: a server, a folder or a database that its client knows."""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from jangin.project.tracking.tracker import (
    Point,
    RunContent,
    Scalar,
    State,
    TrackedTable,
    TrackerConfig,
)

_STATUS: Mapping[State, str] = {"running": "RUNNING", "finished": "FINISHED", "stopped": "KILLED"}
_LONGEST_VALUE = 500
_METRICS_PER_REQUEST = 1000
_PARAMETERS_PER_REQUEST = 100
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own defaults keep on for minutes; what fails here is sent again later."""


class MlflowConfig(TrackerConfig):
    """MLflow. Name and password, or a token, are read from MLflow's environment variables."""

    type: Literal["mlflow"]
    uri: str = ""
    """Tracking URI such as `http://mlflow.example:5000`. Empty: that of the environment variable
    `MLFLOW_TRACKING_URI`, else MLflow's own default."""
    experiment: str = ""
    """Name of the experiment, which is created if there is none. Empty: that of the project."""

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of environment variables that hold its destination."""
        return () if self.uri else ("MLFLOW_TRACKING_URI",)

    @property
    def package(self) -> str:
        """The Python package that it needs."""
        return "mlflow"

    @property
    def destination(self) -> str:
        """Where it sends to, for messages."""
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI", "") or "MLflow's default URI"

    def open(self, run: RunContent, run_id: str | None, store: Path) -> "MlflowRun":
        """Start a run, or continue `run_id`."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # A relative `sqlite:///` or folder starts where the store is, not where the command ran.
        os.chdir(store)
        client = MlflowClient(self.uri or None)
        if run_id is None:
            name = self.experiment or run.project
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            tags = {"jangin.variant": run.variant, "jangin.stage": run.stage, "jangin.key": run.key}
            run_id = client.create_run(number, tags=tags, run_name=run.name).info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
        return MlflowRun(client, str(run_id))


class MlflowRun:
    """A run on an MLflow server."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def parameters(self, values: Mapping[str, Scalar]) -> None:
        """Record the settings."""
        from mlflow.entities import Param

        rows = [Param(_name(key), str(value)[:_LONGEST_VALUE]) for key, value in values.items()]
        for start in range(0, len(rows), _PARAMETERS_PER_REQUEST):
            part = rows[start : start + _PARAMETERS_PER_REQUEST]
            self.client.log_batch(self.run_id, params=part)

    def metrics(self, points: Sequence[Point]) -> None:
        """Append metrics."""
        from mlflow.entities import Metric

        rows = [
            Metric(_name(key), value, round(point.at * 1000), point.step)
            for point in points
            for key, value in point.values.items()
        ]
        for start in range(0, len(rows), _METRICS_PER_REQUEST):
            part = rows[start : start + _METRICS_PER_REQUEST]
            self.client.log_batch(self.run_id, metrics=part)

    def table(self, table: TrackedTable) -> None:
        """Record a table in the form that MLflow's pages show."""
        content = {"columns": table.columns, "data": table.rows}
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{table.name}.json"
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            self.client.log_artifact(self.run_id, str(path), "tables")
        shown = [{"path": f"tables/{table.name}.json", "type": "table"}]
        before = self.client.get_run(self.run_id).data.tags.get("mlflow.loggedArtifacts", "[]")
        listed = json.loads(before)
        if shown[0] not in listed:
            self.client.set_tag(self.run_id, "mlflow.loggedArtifacts", json.dumps(listed + shown))

    def file(self, path: Path, name: str) -> None:
        """Record a file."""
        parent = PurePosixPath(name).parent.as_posix()
        self.client.log_artifact(self.run_id, str(path), None if parent == "." else parent)

    def close(self, state: State) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id, _STATUS[state], round(time.time() * 1000))


def _name(key: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w/.\- ]", "_", key)[:250]
