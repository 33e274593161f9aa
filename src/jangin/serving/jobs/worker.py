"""The process that trains one job.

It writes the log of the job, renews its lease, and stops at the next step, with a checkpoint, as
soon as the job is no longer `running`, the lease is lost, or the server is gone.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from jangin.core.errors import LockedStoreError, StoreError
from jangin.core.events import Event, Notice, Progress, StepBegins, TrainingResumes, WorkBegins
from jangin.project.plan import PlannedStage
from jangin.serving.jobs.events import Failure, failure_of
from jangin.serving.jobs.pipeline import Outcome, Pipeline, note_artifacts
from jangin.serving.jobs.records import JobRecords
from jangin.serving.state import leases
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import StorageAwayError
from jangin.serving.state.tables import Job

log = logging.getLogger("jangin.serving.worker")
T = TypeVar("T")

TICK_SECONDS = 0.25
PATIENCE_SECONDS = 600
STORE_SECONDS = 0.5
"""Between two checks whether an artifact that another job makes is ready."""
AWAY_SECONDS = 1.0
"""Between two tries while the database or the storage do not answer."""


@dataclass(slots=True)
class Worker:
    """Training of one job in this process."""

    server: Server
    job_id: str
    owner: str
    parent: int
    """Process id of the one that started this one."""
    total_steps: int = 0
    """Steps of the training that runs, with those of its checkpoint."""
    resumed_at: int = 0
    problems: list[str] = field(default_factory=list)
    """Of trackers, for the log of the job."""
    records: JobRecords = field(init=False)
    training: Path | None = None
    """Folder of the training that runs."""
    stopping: str = ""
    """Why it stops, once it does."""
    over: threading.Event = field(default_factory=threading.Event)
    renewed: float = 0.0

    def __post_init__(self) -> None:
        """Nothing is read before `run`."""
        self.records = JobRecords(self.server, self.job_id, self.owner)

    def run(self) -> None:
        """Train; every ending is written into the database."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        failure: Failure | None = None
        outcome: Outcome | None = None
        try:
            outcome = self._train()
        except KeyboardInterrupt:
            log.info("stopped: %s", self.stopping or "interrupted")
        except Exception as error:
            log.exception("job %s failed", self.job_id)
            failure = failure_of(error)
        finally:
            self.over.set()
            watch.join()
        if self.stopping == "lease lost":
            return
        if outcome is None and failure is None:
            self._try(self.records.write_result_of_partial, self.training)
            self._try(self._release)
        elif failure is not None:
            _patiently(lambda: self.records.fail(failure))
            self._try(self.records.write_result_of_partial, self.training)
        elif outcome is not None:
            finished = outcome
            _patiently(lambda: self.records.succeed(finished))

    def _train(self) -> Outcome:
        spec = _patiently(self.records.begin)
        pipeline = Pipeline(spec, Progress(self.take))
        prepared = _when_free(pipeline.prepare)
        _patiently(lambda: self.records.prepared(prepared))

        def follow(event: Event) -> None:
            if isinstance(event, StepBegins):
                self._follow(event.step, pipeline.stage, prepared.base)

        return _when_free(lambda: pipeline.train(prepared.base, follow))

    def take(self, event: Event) -> None:
        """Log what a stage says, and note how far its training is."""
        match event:
            case Notice():
                log.info(event.text)
                if event.source == "tracker":
                    self.problems.append(event.text)
            case TrainingResumes():
                log.info(event.text)
                self.resumed_at, self.total_steps = event.step, event.total
            case WorkBegins(label="training") if event.total:
                self.total_steps = event.total

    def _follow(self, step: PlannedStage, stage: str, base: Path) -> None:
        name = f"{step.stage.name}/{step.key[:16]}"
        note_artifacts(self.server.settings.jobs / self.job_id, [name])
        if step.stage.name == stage:
            self.records.base = base
            self.training = self.server.settings.store.absolute() / f"{name}.partial"

    def _watch(self) -> None:
        """Beside the training: the lease, requests of users, the log."""
        while not self.over.wait(TICK_SECONDS):
            try:
                self._check()
                self._flush()
            except (DBAPIError, StoreError):
                log.exception("the database does not answer; trying again")
            except Exception:
                log.exception("the log of %s could not be written; trying again", self.job_id)

    def _check(self) -> None:
        if os.getppid() != self.parent:
            self._stop("the server is gone")
            return
        seconds = self.server.settings.lease_seconds
        if time.monotonic() - self.renewed > seconds / 4:
            with self.server.database.write() as session:
                held = leases.renew(
                    session,
                    Job,
                    self.job_id,
                    owner=self.owner,
                    now=self.server.now(),
                    seconds=seconds,
                )
            if not held:
                self._stop("lease lost")
                return
            self.renewed = time.monotonic()
        status = self.records.status()
        if status not in ("running", "queued"):
            self._stop(f"the job is {status}")
        elif status == "queued" and self.records.begun:
            self._stop("the job was paused")

    def _stop(self, reason: str) -> None:
        """Stop at the next step, as Ctrl-C does; once only: a second one would not wait."""
        if not self.stopping:
            self.stopping = reason
            os.kill(os.getpid(), signal.SIGINT)

    def _flush(self) -> None:
        problems, self.problems = self.problems, []
        self.records.warn(problems)
        if self.training is not None and not self.stopping:
            folder = self.training
            if not folder.exists():
                folder = folder.with_suffix("")
            self.records.follow(folder, self.total_steps, self.resumed_at)

    def _release(self) -> None:
        with self.server.database.write() as session:
            leases.release(session, Job, self.job_id, owner=self.owner)

    def _try(self, write: Callable[..., None], *arguments: object) -> None:
        """Write what can also be missing."""
        try:
            _patiently(lambda: write(*arguments))
        except Exception:
            log.exception("the end of %s could not be written", self.job_id)


def _patiently(
    run: Callable[[], T], causes: tuple[type[Exception], ...] = (DBAPIError, StorageAwayError)
) -> T:
    """What `run` returns, repeated while the database or the storage does not answer."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return run()
        except causes:
            if time.monotonic() > patience:
                raise
            log.exception("database or storage do not answer; trying again")
            time.sleep(AWAY_SECONDS)


def _when_free(run: Callable[[], T]) -> T:
    """What `run` returns, once no other process makes one of its artifacts.

    Another job may read the same rows or train the same model, or the process before this one may
    still write its checkpoint; none of them keeps a lock when it dies.
    """
    while True:
        try:
            return run()
        except LockedStoreError as error:
            log.info(str(error))
            time.sleep(STORE_SECONDS)


def run(text: bytes, parent: int) -> int:
    """Train the job in `text`; the status of the process.

    `parent`: the process that started this one; the job stops with a checkpoint when it has ended.
    """
    given = json.loads(text)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    settings = ServerSettings.model_validate_json(json.dumps(given["settings"]))
    # A database that restarts is no fault of the job: it must not count as an end of its process.
    server = _patiently(lambda: Server(settings), (DBAPIError, StoreError))
    try:
        Worker(server, given["job"], given["owner"], parent).run()
    finally:
        server.close()
    return 0
