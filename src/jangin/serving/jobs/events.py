"""What a job shows: its log in OpenAI's words, and its measurements as a table."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError, TrainingError
from jangin.serving.jobs.pipeline import NoTrainableTokensError
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.tables import Job, JobEvent
from jangin.serving.webhooks.outbox import emit

# Why a job failed: a code and a sentence for each error of the stages.


@dataclass(frozen=True, slots=True)
class Failure:
    """The `error` of a job."""

    code: str
    message: str
    param: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """As the job object shows it."""
        return {"code": self.code, "message": self.message, "param": self.param}


WORKER_LOST = Failure(
    "worker_lost",
    "The process that trained this job ended unexpectedly several times without progress, most "
    "likely for lack of memory. Use a smaller batch_size or a smaller model, and create a new job.",
)
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "could not create a primitive",
)
"""Of CUDA, of torch on a CPU, of the system, of C++, and of oneDNN, which gives no other reason."""
_DISK_FULL = "The disk is full. Free some space and create a new job; finished work is reused."


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of the pipeline means."""
    text = str(error)
    if isinstance(error, NoTrainableTokensError):
        return Failure("no_trainable_tokens", text, "training_file")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return Failure("out_of_memory", f"The job ran out of memory: {_plain(error)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failure("disk_full", _DISK_FULL)
    if isinstance(error, StoreError) and ("disk is full" in text or "this disk" in text):
        return Failure("disk_full", _DISK_FULL)
    if isinstance(error, TrainingError):
        return _of_training(text)
    if isinstance(error, (ConfigError, MachineError)):
        return Failure("model_not_available", f"The base model cannot be used: {text}", "model")
    if isinstance(error, JanginError):
        return Failure("training_failed", text)
    return Failure("server_error", "The job failed because of an error of the server; see its log.")


def _of_training(text: str) -> Failure:
    if "loss nan" in text or "loss inf" in text or "gradient norm nan" in text:
        return Failure("nan_loss", f"The loss is not a number any more: {text}")
    if "memory" in text and "needs" in text:
        return Failure("out_of_memory", text)
    return Failure("training_failed", text)


def _plain(error: BaseException) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    if isinstance(error, JanginError):
        return text
    reason = text[:200].rstrip(".") or "an allocation failed"
    return f"{reason}. Use a smaller batch_size, a shorter context_length or a smaller model."


CREATED = "Created fine-tuning job: {}"
VALIDATED = "Files validated, moving job to queued state"
STARTED = "Fine-tuning job started"
CHECKPOINT = "Checkpoint created at step {} with Snapshot ID: {}"
MODEL = "New fine-tuned model created: {}"
SUCCEEDED = "The job has successfully completed"
CANCELLED = "The job has been cancelled"
PAUSED = "The job has been paused"
REQUEUED = "The job has been moved back to the queue"
RESUMED = "Resuming at step {} of {}"
UNLOADED = "Served models were unloaded to make room for this job: {}"
MEASURED = ("valid_loss", "valid_mean_token_accuracy")
MEASURED_WHOLE = ("full_valid_loss", "full_valid_mean_token_accuracy")


def validating(training: str, validation: str | None) -> str:
    """That the files are checked now."""
    files = f"training file: {training}"
    return f"Validating {files}" + (f" and validation file: {validation}" if validation else "")


def add_event(
    session: Session,
    job_id: str,
    message: str,
    now: int,
    *,
    level: str = "info",
    data: Mapping[str, Any] | None = None,
    kind: str = "message",
) -> None:
    """Append a line to the log of a job."""
    session.add(
        JobEvent(
            id=new_id("ftevent-"),
            job_id=job_id,
            created_at=now,
            level=level,
            message=message,
            type=kind,
            data=None if data is None else dict(data),
        )
    )


def finish(
    session: Session, job: Job, status: str, message: str, now: int, *, error: Failure | None = None
) -> None:
    """End a job: its state, the last line of its log, and its event for webhooks."""
    job.status, job.finished_at, job.estimated_finish = status, now, None
    if error is not None:
        job.error = error.as_json()
    level = "info" if error is None else "error"
    add_event(session, job.id, message, now, level=level)
    event = f"fine_tuning.job.{status}"
    emit(session, project=job.project, event=event, object_id=job.id, now=now)


def metrics_message(line: Mapping[str, Any], total: int) -> str:
    """The message of a step."""
    text = f"Step {line['step']}/{total}: training loss={line['train_loss']:.2f}"
    for name, words in (("valid_loss", "validation"), ("full_valid_loss", "full validation")):
        if line.get(name) is not None:
            text += f", {words} loss={line[name]:.2f}"
    return text


def metrics_data(line: Mapping[str, Any], total: int) -> dict[str, Any]:
    """The figures of a step."""
    data = {"step": line["step"], "train_loss": line["train_loss"], "total_steps": total}
    data["train_mean_token_accuracy"] = line["train_mean_token_accuracy"]
    for name in (*MEASURED, *MEASURED_WHOLE):
        if line.get(name) is not None:
            data[name] = line[name]
    return data


def last_step(session: Session, job_id: str) -> int:
    """The last step in the log of a job; 0 where there is none."""
    data = session.scalar(
        select(JobEvent.data)
        .where(JobEvent.job_id == job_id, JobEvent.type == "metrics")
        .order_by(JobEvent.rowid.desc())
        .limit(1)
    )
    return int(data["step"]) if data else 0


RESULT_FILE = "step_metrics.csv"
COLUMNS = (
    ("step", "step"),
    ("train_loss", "train_loss"),
    ("train_accuracy", "train_mean_token_accuracy"),
    ("valid_loss", "valid_loss"),
    ("valid_mean_token_accuracy", "valid_mean_token_accuracy"),
)
"""(column, name in metrics.jsonl): what clients expect, exactly these. `train_accuracy` counts the
tokens of the assistant with the token that ends its turn."""


def result_csv(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """The file: five decimals, empty where nothing was measured."""
    rows = [",".join(column for column, _ in COLUMNS)]
    rows += [",".join(_cell(line.get(name)) for _, name in COLUMNS) for line in lines]
    return ("\n".join(rows) + "\n").encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5f}" if isinstance(value, float) else str(value)
