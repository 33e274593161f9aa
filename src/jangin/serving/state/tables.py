"""All tables of the server, as SQLAlchemy classes.

Times are whole unix seconds. `rowid` counts up with every insert, so that rows of one second have
an order; clients see `id`. Every row with an owner has a `project`.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jangin.serving.state.caller import Caller, current_scopes

Counter = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only a primary key of type INTEGER."""
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """Base of every table."""

    type_annotation_map = {int: BigInteger, dict[str, Any]: Json, list[Any]: Json}  # noqa: RUF012  # SQLAlchemy's own name


class Row(Base):
    """Base of rows with an id that clients see."""

    __abstract__ = True

    rowid: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[int]


class Owned(Row):
    """Base of rows that only the callers of one project see."""

    __abstract__ = True

    project: Mapped[str] = mapped_column(String(64), index=True)


class Installation(Base):
    """The id of this installation; one row."""

    __tablename__ = "installation"

    rowid: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)


class File(Owned):
    """A stored file; its bytes are in the storage under its id."""

    __tablename__ = "files"

    bytes: Mapped[int]
    filename: Mapped[str]
    purpose: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    """`uploaded`, `processed` or `error`."""
    status_details: Mapped[str | None]
    expires_at: Mapped[int | None] = mapped_column(index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    owner_key: Mapped[str] = mapped_column(String(64))
    report: Mapped[dict[str, Any] | None]
    """The result of the check of its rows."""


class Upload(Owned):
    """A file that arrives in parts."""

    __tablename__ = "uploads"

    bytes: Mapped[int]
    filename: Mapped[str]
    mime_type: Mapped[str]
    purpose: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    """`pending`, `completed`, `cancelled` or `expired`."""
    expires_at: Mapped[int] = mapped_column(index=True)
    file_expires_after: Mapped[int | None]
    """Seconds after which the file expires that the upload becomes."""
    file_id: Mapped[str | None] = mapped_column(String(64))
    owner_key: Mapped[str] = mapped_column(String(64))


class UploadPart(Row):
    """Some bytes of an upload; stored under the id of the part."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("uploads.id", ondelete="CASCADE"), index=True
    )
    bytes: Mapped[int]
    md5: Mapped[str] = mapped_column(String(32))


class Leased:
    """Columns of rows that one process at a time works on; see `state/leases.py`."""

    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(default=0)
    """How often a process has claimed the row."""


class Job(Leased, Owned):
    """A fine-tuning job."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_status", "status", "seq"),)

    seq: Mapped[int]
    """Its turn in the queue; a resumed job keeps it."""
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(24))
    """`validating_files`, `queued`, `running`, `paused`, `succeeded`, `failed` or `cancelled`."""
    model: Mapped[str]
    """The name in the request."""
    base: Mapped[str | None]
    """The local base that the name refers to."""
    training_file: Mapped[str] = mapped_column(String(64))
    validation_file: Mapped[str | None] = mapped_column(String(64))
    method_type: Mapped[str] = mapped_column(String(24))
    """`supervised` or `dpo`."""
    method: Mapped[dict[str, Any] | None]
    """As in the request; concrete numbers for "auto" from `running` on."""
    hyperparameters: Mapped[dict[str, Any] | None]
    seed: Mapped[int]
    suffix: Mapped[str | None] = mapped_column(String(64))
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    integrations: Mapped[list[Any] | None]
    trained_tokens: Mapped[int | None]
    estimated_finish: Mapped[int | None]
    fine_tuned_model: Mapped[str | None]
    result_files: Mapped[list[Any]] = mapped_column(default=list)
    error: Mapped[dict[str, Any] | None]
    body_hash: Mapped[str | None] = mapped_column(String(64), index=True)
    """Of the request, to recognise one that a client sent again; see `protocol/retries.py`."""
    owner_key: Mapped[str] = mapped_column(String(64))
    extensions: Mapped[dict[str, Any] | None]
    """Fields of the request that OpenAI's API does not have."""


class JobEvent(Row):
    """A line of a job's log."""

    __tablename__ = "events"
    __table_args__ = (Index("events_of_job", "job_id", "created_at", "rowid"),)

    job_id: Mapped[str] = mapped_column(String(64), ForeignKey("jobs.id", ondelete="CASCADE"))
    level: Mapped[str] = mapped_column(String(8))
    """`info`, `warn` or `error`."""
    message: Mapped[str]
    type: Mapped[str] = mapped_column(String(16))
    """`message` or `metrics`."""
    data: Mapped[dict[str, Any] | None]


class Checkpoint(Row):
    """A model that a job saved on its way."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    step: Mapped[int]
    model_name: Mapped[str] = mapped_column(index=True)
    metrics: Mapped[dict[str, Any]]
    path: Mapped[str | None]
    """Folder of its weights."""


class Permission(Row):
    """A project that may use a model of another project."""

    __tablename__ = "permissions"
    __table_args__ = (UniqueConstraint("model", "project"),)

    model: Mapped[str] = mapped_column(index=True)
    project: Mapped[str] = mapped_column(String(64), index=True)


class StoredModel(Base):
    """A fine-tuned model or checkpoint that can be called by its name."""

    __tablename__ = "served_models"

    rowid: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    project: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[int]
    job_id: Mapped[str | None] = mapped_column(String(64), index=True)
    base: Mapped[str]
    """Folder of the catalog's artifact that it was trained from."""
    kind: Mapped[str] = mapped_column(String(16))
    """`adapter` or `full`."""
    path: Mapped[str]
    """Folder of its weights or adapter."""
    parent: Mapped[str | None]
    """The model it was trained from, where that was a fine-tuned one."""
    deleted_at: Mapped[int | None]


class Key(Row):
    """An API key; only the SHA-256 digest of its text is stored."""

    __tablename__ = "keys"

    name: Mapped[str]
    project: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    last_used_at: Mapped[int | None]
    revoked_at: Mapped[int | None]

    @property
    def caller(self) -> Caller:
        """Who sends requests with this key."""
        return Caller(self.project, current_scopes(self.scopes), self.id)


class SignIn(Row):
    """A browser that signed in with a key; the row goes when the session ends."""

    __tablename__ = "sign_ins"

    key_id: Mapped[str] = mapped_column(String(64), index=True)
    browser: Mapped[str]
    """What it calls itself."""
    seen_at: Mapped[int]
    """When its last request was, to a few minutes."""


class Audit(Base):
    """Who created, changed or deleted what."""

    __tablename__ = "audit"

    rowid: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    at: Mapped[int]
    key_id: Mapped[str] = mapped_column(String(64))
    project: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    """Such as `file.create`."""
    object: Mapped[str]
    """The id."""


class RequestBatch(Leased, Owned):
    """A batch of requests from a file."""

    __tablename__ = "batches"

    endpoint: Mapped[str]
    input_file_id: Mapped[str] = mapped_column(String(64))
    completion_window: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), index=True)
    requested: Mapped[str | None] = mapped_column(String(16))
    """`cancel`: what the runner does after the requests in progress."""
    output_file_id: Mapped[str | None] = mapped_column(String(64))
    error_file_id: Mapped[str | None] = mapped_column(String(64))
    output_expires_after: Mapped[int | None]
    """Seconds after which its output files expire."""
    times: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{`in_progress_at`, `finalizing_at`, `completed_at`, ...: unix seconds}."""
    expires_at: Mapped[int | None]
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{`total`, `completed`, `failed`: requests}."""
    usage: Mapped[dict[str, Any] | None]
    errors: Mapped[dict[str, Any] | None]
    model: Mapped[str | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    owner_key: Mapped[str] = mapped_column(String(64))


class Evaluation(Owned):
    """An eval: what rows look like, and the graders of answers."""

    __tablename__ = "evals"

    name: Mapped[str]
    data_source_config: Mapped[dict[str, Any]]
    testing_criteria: Mapped[list[Any]]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")


class EvalRun(Leased, Owned):
    """A run of an eval over rows."""

    __tablename__ = "eval_runs"

    eval_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("evals.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    status: Mapped[str] = mapped_column(String(16), index=True)
    """`queued`, `in_progress`, `completed`, `failed` or `canceled`."""
    data_source: Mapped[dict[str, Any]]
    model: Mapped[str | None]
    results: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The counts of its reply."""
    error: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    owner_key: Mapped[str] = mapped_column(String(64))


class EvalItem(Owned):
    """A row of a run with the answer to it and its grades."""

    __tablename__ = "eval_items"

    run_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("eval_runs.id", ondelete="CASCADE"), index=True
    )
    number: Mapped[int]
    """Of its row in the source, from 0."""
    status: Mapped[str] = mapped_column(String(8))
    """`pass`, `fail` or `error`."""
    item: Mapped[dict[str, Any]]
    sample: Mapped[dict[str, Any]]
    results: Mapped[list[Any]]


class KeptAnswer(Owned):
    """A response or a chat completion that is kept for its client."""

    __tablename__ = "answers"

    kind: Mapped[str] = mapped_column(String(24))
    """`response` or `chat.completion`."""
    model: Mapped[str]
    """The name in the request."""
    input: Mapped[list[Any]]
    """Messages of a chat; the items that a response added to the ones before it."""
    body: Mapped[dict[str, Any]]
    """The reply."""
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    expires_at: Mapped[int] = mapped_column(index=True)


class Webhook(Owned):
    """An address that events are sent to."""

    __tablename__ = "webhooks"

    updated_at: Mapped[int]
    name: Mapped[str]
    url: Mapped[str]
    events: Mapped[list[Any]]
    """Types of events, such as `fine_tuning.job.succeeded`."""
    secret: Mapped[str]
    """Signs the messages, so it is stored as it is; it opens nothing on this server."""
    previous_secret: Mapped[str | None]
    """The secret before; it signs too until `previous_until`."""
    previous_until: Mapped[int | None]
    disabled_at: Mapped[int | None]


class WebhookDelivery(Leased, Row):
    """One event for one webhook, until it is delivered or given up."""

    __tablename__ = "webhook_deliveries"

    webhook_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), index=True)
    """`pending`, `delivered` or `failed`."""
    next_at: Mapped[int]
    """When it is sent next."""
    delivered_at: Mapped[int | None]
    last_error: Mapped[str | None]
