"""Weights & Biases, online or into a folder that `wandb sync` uploads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from jangin.core.digest import digest_value
from jangin.project.tracking.tracker import (
    Point,
    RunContent,
    Scalar,
    State,
    TrackedTable,
    TrackerConfig,
)

_FAILED = 1


class WandbConfig(TrackerConfig):
    """Weights & Biases. The key is that of `wandb login` or of `WANDB_API_KEY`."""

    type: Literal["wandb"]
    project: str = ""
    """Name of the project there. Empty: that of this project."""
    entity: str = ""
    """User or team. Empty: the default of the key."""
    base_url: str = ""
    """A server of your own. Empty: that of `WANDB_BASE_URL`, else wandb.ai."""
    run_name: str = ""
    """Name of the run there. Empty: variant, stage and the beginning of the cache key."""
    tags: tuple[str, ...] = ()
    """Labels of the run there."""
    later: ClassVar[frozenset[str]] = frozenset({"run_name", "tags"})
    mode: Literal["online", "offline"] = "online"
    """`offline` writes to `wandb/` in the store; `wandb sync` uploads it."""

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of environment variables that hold its destination."""
        return () if self.base_url else ("WANDB_BASE_URL",)

    @property
    def package(self) -> str:
        """The Python package that it needs."""
        return "wandb"

    @property
    def destination(self) -> str:
        """Where it sends to, for messages."""
        if self.mode == "offline":
            return "the folder wandb in the store"
        return self.base_url or os.environ.get("WANDB_BASE_URL", "") or "wandb.ai"

    def open(self, run: RunContent, run_id: str | None, store: Path) -> "WandbRun":
        """Start a run, or continue `run_id`."""
        import wandb

        settings = {"console": "off", "silent": True, "disable_git": True, "init_timeout": 20}
        if self.base_url:
            settings["base_url"] = self.base_url
        opened = wandb.init(
            project=self.project or run.project,
            entity=self.entity or None,
            dir=str(store),
            id=run_id or digest_value([run.key, str(store)])[:16],
            name=self.run_name or run.name,
            tags=self.tags or None,
            group=run.variant,
            job_type=run.stage,
            mode=self.mode,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(**settings),
        )
        # Results come after training, so a step of their own would be before the last one.
        opened.define_metric("*", step_metric="step")
        return WandbRun(opened)


class WandbRun:
    """A run of Weights & Biases."""

    def __init__(self, run: Any) -> None:
        self.run = run

    @property
    def run_id(self) -> str:
        """By which it is continued."""
        return str(self.run.id)

    def parameters(self, values: Mapping[str, Scalar]) -> None:
        """Record the settings."""
        self.run.config.update(dict(values), allow_val_change=True)

    def metrics(self, points: Sequence[Point]) -> None:
        """Append metrics."""
        for point in points:
            self.run.log({**point.values, "step": point.step, "time": point.at})

    def table(self, table: TrackedTable) -> None:
        """Record a table."""
        import wandb

        rows = [list(row) for row in table.rows]
        self.run.log({table.name: wandb.Table(columns=list(table.columns), data=rows)})

    def file(self, path: Path, name: str) -> None:
        """Record a file as an artifact of the run."""
        import wandb

        artifact = wandb.Artifact(f"{self.run.id}-{name.replace('/', '-')}", type="file")
        artifact.add_file(str(path), name=name)
        self.run.log_artifact(artifact)

    def close(self, state: State) -> None:
        """End the run."""
        self.run.finish(exit_code=0 if state == "finished" else _FAILED)
