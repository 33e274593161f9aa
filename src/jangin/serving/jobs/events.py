"""The log of a job: messages in OpenAI's words, and a line of metrics for each step."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.database.tables import Event
from jangin.serving.protocol.ids import new_id

CREATED = "Created fine-tuning job: {}"
VALIDATED = "Files validated, moving job to queued state"
STARTED = "Fine-tuning job started"
CHECKPOINT = "Checkpoint created at step {} with Snapshot ID: {}"
MODEL = "New fine-tuned model created: {}"
SUCCEEDED = "The job has successfully completed"
CANCELLED = "The job has been cancelled"
PAUSED = "The job has been paused"
RESUMED = "Resuming at step {} of {}"
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
        Event(
            id=new_id("ftevent-"),
            job_id=job_id,
            created_at=now,
            level=level,
            message=message,
            type=kind,
            data=None if data is None else dict(data),
        )
    )


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
        select(Event.data)
        .where(Event.job_id == job_id, Event.type == "metrics")
        .order_by(Event.rowid.desc())
        .limit(1)
    )
    return int(data["step"]) if data else 0
