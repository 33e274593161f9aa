"""The queue of jobs: checks of files, and a process for each job that trains.

Several servers may share a database: a job belongs to the server that holds its lease.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from sqlalchemy import func, or_, select
from sqlalchemy.exc import DBAPIError

from jangin.core.errors import MachineError, counted, counted_of
from jangin.models.device import has_cuda
from jangin.serving.files.check_process import check_rows
from jangin.serving.files.validation import FileCheck, job_fault, overlap
from jangin.serving.inference.service import Inference
from jangin.serving.jobs.checkpoints import sweep_models
from jangin.serving.jobs.erasure import erase_forgotten
from jangin.serving.jobs.events import (
    UNLOADED,
    VALIDATED,
    WORKER_LOST,
    Failure,
    add_event,
    finish,
    last_step,
)
from jangin.serving.operations.device import DRAIN_SECONDS
from jangin.serving.operations.metrics import Metrics
from jangin.serving.operations.workers import JobProcess, JobProcesses
from jangin.serving.state import leases
from jangin.serving.state.server import Server
from jangin.serving.state.storage import StorageAwayError
from jangin.serving.state.tables import File, Job, JobEvent

# The first state of a job: wait for its files, check their rows, move on to the queue.


_WAITED_SECONDS = 120
"""A file that is not ready after this time lost its own check to a restart of the server."""


def check_next_job(server: Server) -> bool:
    """Check the files of the first job that waits for it; False if there is none."""
    owner, now = leases.new_owner(), server.now()
    waiting = (
        select(Job)
        .where(
            Job.status == "validating_files",
            ~select(File.id)
            .where(
                File.id.in_((Job.training_file, Job.validation_file)),
                File.status == "uploaded",
                File.created_at > now - _WAITED_SECONDS,
            )
            .exists(),
        )
        .order_by(Job.seq)
    )
    with server.database.read() as session:
        if session.scalars(waiting.limit(1)).first() is None:
            return False
    seconds = server.settings.lease_seconds
    with server.database.write() as session:
        job = leases.claim(session, waiting, owner=owner, now=now, seconds=seconds)
    if job is None:
        return False
    try:
        failure, checks = _check(server, job, _Heartbeat(server, job.id, owner))
    except _LeaseLostError:
        return True
    with server.database.write() as session:
        row = session.scalars(select(Job).where(Job.id == job.id)).one()
        if row.lease_owner != owner:
            return True
        row.lease_owner = row.lease_until = None
        for file_id, check in checks.items():
            _keep_report(session.scalars(select(File).where(File.id == file_id)).first(), check)
        if row.status != "validating_files":
            return True
        now = server.now()
        if failure is not None:
            finish(session, row, "failed", failure.message, now, error=failure)
            return True
        row.status = "queued"
        training = checks[row.training_file]
        row.extensions = {**(row.extensions or {}), "examples": training.trained_examples}
        for text in _warnings(row, checks):
            add_event(session, row.id, f"Warning: {text}", now, level="warn")
        add_event(session, row.id, VALIDATED, now)
    return True


class _LeaseLostError(Exception):
    """Another process checks the files now."""


@dataclass(slots=True)
class _Heartbeat:
    """Renews the lease of a job while its files are checked."""

    server: Server
    job_id: str
    owner: str
    renewed: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Renew if it is time; raises `_LeaseLostError`."""
        seconds = self.server.settings.lease_seconds
        if time.monotonic() - self.renewed < seconds / 4:
            return
        with self.server.database.write() as session:
            now = self.server.now()
            held = leases.renew(
                session, Job, self.job_id, owner=self.owner, now=now, seconds=seconds
            )
        if not held:
            raise _LeaseLostError
        self.renewed = time.monotonic()


def _check(
    server: Server, job: Job, tick: Callable[[], None]
) -> tuple[Failure | None, dict[str, FileCheck]]:
    """(why the job fails or None, checks by the id of the file)."""
    least = server.settings.min_examples
    checks: dict[str, FileCheck] = {}
    for file_id, validation in ((job.training_file, False), (job.validation_file, True)):
        if file_id is None:
            continue
        which = "validation" if validation else "training"
        try:
            with server.storage.local_path(file_id) as path:
                check = check_rows(path, 1 if validation else least, tick)
        except FileNotFoundError:
            text = f"The {which} file {file_id} does not exist any more."
            return Failure(f"invalid_{which}_file", text, f"{which}_file"), checks
        checks[file_id] = check
        fault = job_fault(check, job.method_type, file_id, validation=validation)
        if fault is not None:
            return Failure(fault.code, fault.message, fault.param), checks
    return None, checks


def _keep_report(file: File | None, check: FileCheck) -> None:
    if file is not None:
        file.report = {**(file.report or {}), **check.report()}


def _warnings(job: Job, checks: Mapping[str, FileCheck]) -> Iterator[str]:
    """What is dubious about the files; how they overlap is a fact of the job, not of a file."""
    training = checks[job.training_file]
    for warning in training.warnings.values():
        more = f" ({counted(warning['count'], 'example')})" if warning["count"] > 1 else ""
        yield f"{warning['message']}{more}"
    if job.validation_file is None:
        return
    held_out = checks[job.validation_file]
    empty = held_out.warnings.get("no_trainable_tokens")
    if empty is not None:
        yield f"in the validation file, {empty['message']}"
    copies = overlap(training, held_out)
    if copies:
        yield (
            f"{counted_of(copies, held_out.examples, 'validation example', 'has', 'have')} a "
            "prompt that is also trained on, so the validation loss is too good"
        )


# The log of the server about its jobs: what their own logs say, without steps and warnings.


log = logging.getLogger("jangin.serving.jobs")
_READ_EVENTS = 1_000


class JobLog:
    """Writes new events of jobs, whichever process added them, into the log of the server.

    Warnings may quote rows of a client, so they are only in the log of the job.
    """

    def __init__(self, server: Server) -> None:
        """Nothing is read before `begin`."""
        self._server = server
        self._last = 0

    def begin(self) -> None:
        """Leave out the events that exist now; called before the first request."""
        with self._server.database.read() as session:
            self._last = session.scalar(select(func.max(JobEvent.rowid))) or 0

    def follow(self) -> None:
        """Write what was added since the last call, or since `begin`."""
        with self._server.database.read() as session:
            events = session.scalars(
                select(JobEvent)
                .where(JobEvent.rowid > self._last)
                .order_by(JobEvent.rowid)
                .limit(_READ_EVENTS)
            ).all()
        for event in events:
            self._last = event.rowid
            if event.type == "message" and event.level != "warn":
                level = logging.ERROR if event.level == "error" else logging.INFO
                fields = {"job": event.job_id}
                log.log(level, "%s: %s", event.job_id, event.message, extra={"fields": fields})


TICK_SECONDS = 0.5
STOP_SECONDS = 25
"""How long a training may take to save a checkpoint when the server stops."""
MOST_CRASHES = 5
"""Ends of the worker without a new step after which a job fails."""
RETRY_SECONDS = 5
SWEEP_SECONDS = 600
"""Between two looks for folders of deleted models."""
LOG_FILE = "worker.log"


@dataclass(slots=True)
class _Process:
    """A job in training."""

    job_id: str
    owner: str
    slot: int
    process: JobProcess
    log: IO[bytes]
    first_step: int
    """The last step in its log when it started."""


class Scheduler:
    """Background service of the server."""

    def __init__(self, server: Server) -> None:
        """`server`: settings and database."""
        self._server = server
        self._running: list[_Process] = []
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._next_sweep = 0.0
        self._job_log = JobLog(server)
        self._workers = JobProcesses()
        self._threads = [
            threading.Thread(target=self._loop, args=(work,), name=name, daemon=True)
            for name, work in (("jobs", self._run_jobs), ("job checks", self._check_files))
        ]

    def start(self) -> None:
        """Take up the queue, and what a server before this one left."""
        self._job_log.begin()
        self._server.checks["scheduler"] = self._check
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look at the queue now: a job was created or resumed."""
        self._wanted.set()

    @property
    def training(self) -> int:
        """Jobs that have a process now."""
        return len(self._running)

    def _check(self) -> None:
        """Raises `MachineError` where the queue is no longer worked on."""
        if not all(thread.is_alive() for thread in self._threads):
            raise MachineError("the queue of jobs has ended. Start the server again.")

    def stop(self) -> None:
        """Let every training save a checkpoint; the next server resumes them."""
        self._stopping.set()
        self._wanted.set()
        for thread in self._threads:
            thread.join()
        for each in self._running:
            each.process.send_signal(signal.SIGINT)
        patience = time.monotonic() + STOP_SECONDS
        for each in self._running:
            try:
                each.process.wait(max(0.1, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.log.close()
            self._release(each)
        self._running = []
        self._workers.close()

    def _loop(self, work: Callable[[], object]) -> None:
        while not self._stopping.is_set():
            try:
                work()
            except DBAPIError:
                log.exception("the database does not answer; trying again")
                self._stopping.wait(1)
            except StorageAwayError as error:
                log.warning("%s Trying again.", error)
                self._stopping.wait(1)
            except Exception:
                log.exception("the queue of jobs failed; trying again")
                self._stopping.wait(RETRY_SECONDS)
            self._wanted.wait(TICK_SECONDS)
            self._wanted.clear()

    def _check_files(self) -> None:
        if time.monotonic() >= self._next_sweep:
            sweep_models(self._server)
            erase_forgotten(self._server)
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
        while not self._stopping.is_set() and check_next_job(self._server):
            self._wanted.set()

    def _run_jobs(self) -> None:
        self._job_log.follow()
        for each in list(self._running):
            if each.process.poll() is not None:
                self._running.remove(each)
                each.log.close()
                self._ended(each)
        self._share_device()
        while len(self._running) < self._server.settings.slots and not self._stopping.is_set():
            if not self._start_next():
                return

    def _start_next(self) -> bool:
        """Start the first job of the queue that no living process has; False if there is none."""
        owner, now = leases.new_owner(), self._server.now()
        queue = select(Job).where(Job.status.in_(("queued", "running"))).order_by(Job.seq)
        free = or_(Job.lease_until.is_(None), Job.lease_until <= now)
        with self._server.database.read() as session:
            if session.scalars(queue.where(free).limit(1)).first() is None:
                if not self._running:
                    self._workers.rest()
                return False
        if not self._workers.is_ready():
            return False
        taken, slots = {each.slot for each in self._running}, self._server.settings.slots
        slot = next(number for number in range(slots) if number not in taken)
        takes_device = slot == 0 and self._unloads_models()
        seconds = self._server.settings.lease_seconds + (DRAIN_SECONDS if takes_device else 0)
        with self._server.database.write() as session:
            job = leases.claim(session, queue, owner=owner, now=now, seconds=seconds)
            if job is None:
                return False
            job_id, was_running = job.id, job.status == "running"
            first_step = last_step(session, job_id)
        if was_running:
            log.info("%s: resumed after its process or the server ended", job_id)
            self._server.get(Metrics).lost_leases.inc()
        if takes_device:
            self._take_device(job_id)
        try:
            self._running.append(self._spawn(job_id, owner, slot, first_step))
        except OSError:
            log.exception("no process for job %s", job_id)
            with self._server.database.write() as session:
                leases.release(session, Job, job_id, owner=owner)
            raise
        return True

    def _unloads_models(self) -> bool:
        """Whether models leave the device when a job of the first slot starts."""
        policy = self._server.settings.models_during_jobs
        return has_cuda() if policy == "auto" else policy != "keep"

    def _take_device(self, job_id: str) -> None:
        """Unload the models for a job; the log of the job says so."""
        unloaded = self._server.get(Inference).make_room()
        if unloaded:
            with self._server.database.write() as session:
                add_event(session, job_id, UNLOADED.format(unloaded), self._server.now())

    def _share_device(self) -> None:
        """Let models answer again once the job has taken its memory, or is over."""
        device = self._server.get(Inference).device
        if not device.has_job:
            return
        job = next((each for each in self._running if each.slot == 0), None)
        if job is None:
            device.give_to_models(beside_job=False)
        elif not device.is_open and self._server.settings.models_during_jobs != "refuse":
            with self._server.database.read() as session:
                trains = last_step(session, job.job_id) > job.first_step
            if trains:
                device.give_to_models(beside_job=True)

    def _spawn(self, job_id: str, owner: str, slot: int, first_step: int) -> _Process:
        folder = self._server.settings.jobs / job_id
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOG_FILE).open("ab")
        settings = json.loads(self._server.settings.model_dump_json())
        given = {"job": job_id, "owner": owner, "settings": settings}
        environment = worker_environment(slot, self._server.settings.slots)
        process = self._workers.start(json.dumps(given).encode(), environment, stream)
        return _Process(job_id, owner, slot, process, stream, first_step)

    def _ended(self, each: _Process) -> None:
        """A process ended; after a crash the job resumes from its last checkpoint."""
        if each.process.returncode == 0:
            self._release(each)
            return
        log.warning("the process of job %s ended with %s", each.job_id, each.process.returncode)
        with self._server.database.write() as session:
            job = session.scalars(select(Job).where(Job.id == each.job_id)).first()
            if job is None or job.lease_owner != each.owner:
                return
            job.lease_owner = job.lease_until = None
            if job.status not in ("queued", "running"):
                return
            about = dict(job.extensions or {})
            step = last_step(session, job.id)
            crashes = 1 if step > about.get("crash_step", -1) else about.get("crashes", 0) + 1
            job.extensions = {**about, "crashes": crashes, "crash_step": step}
            if crashes >= MOST_CRASHES:
                now = self._server.now()
                finish(session, job, "failed", WORKER_LOST.message, now, error=WORKER_LOST)

    def _release(self, each: _Process) -> None:
        with self._server.database.write() as session:
            leases.release(session, Job, each.job_id, owner=each.owner)


def worker_environment(slot: int, slots: int) -> dict[str, str]:
    """The environment of a worker: with several slots each has its own share of the GPUs."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if slots > 1:
        given = environment.get("CUDA_VISIBLE_DEVICES")
        devices = given.split(",") if given else [str(n) for n in range(slots)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[slot::slots])
    return environment
