"""The first state of a job: wait for its files, check their rows, move on to the queue."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select

from jangin.core.errors import counted, counted_of
from jangin.serving.files.check_process import check_rows
from jangin.serving.files.validation import FileCheck, job_fault, overlap
from jangin.serving.jobs.events import VALIDATED, add_event, finish
from jangin.serving.jobs.failures import Failure
from jangin.serving.state import leases
from jangin.serving.state.server import Server
from jangin.serving.state.tables import File, Job

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
            "prompt that "
            "is also "
            "trained on, so the validation loss is too good"
        )
