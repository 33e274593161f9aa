"""Every table of the first release; later versions of `tables.py` do not change what is here."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "first_release"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = MetaData()


def upgrade() -> None:
    """Create the tables; a database from before the release has some of them."""
    SCHEMA.create_all(op.get_bind())


def _rowid() -> Column[int]:
    return Column("rowid", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


def _row() -> tuple[Column[int], Column[object], Column[object]]:
    return _rowid(), _text("id", 64, unique=True), _number("created_at")


def _owned() -> tuple[Column[int], Column[object], Column[object], Column[object]]:
    return *_row(), _text("project", 64, index=True)


def _leased() -> tuple[Column[object], ...]:
    return (
        _text("lease_owner", 128, nullable=True),
        _number("lease_until", nullable=True),
        _number("attempts"),
    )


def _text(
    name: str,
    length: int | None = None,
    *,
    of: str = "",
    nullable: bool = False,
    index: bool = False,
    unique: bool = False,
) -> Column[object]:
    """A text; `of`: the column of another table whose row it belongs to."""
    references = [ForeignKey(of, ondelete="CASCADE")] if of else []
    kind = String(length)
    return Column(name, kind, *references, nullable=nullable, index=index, unique=unique)


def _number(name: str, *, nullable: bool = False, index: bool = False) -> Column[object]:
    return Column(name, BigInteger(), nullable=nullable, index=index)


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    kind = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    return Column(name, kind, nullable=nullable)


Table("installation", SCHEMA, _rowid(), _text("id", 32, unique=True))
Table(
    "files",
    SCHEMA,
    *_owned(),
    _number("bytes"),
    _text("filename"),
    _text("purpose", 32),
    _text("status", 16),
    _text("status_details", nullable=True),
    _number("expires_at", nullable=True, index=True),
    _text("sha256", 64),
    _text("owner_key", 64),
    _json("report", nullable=True),
)
Table(
    "uploads",
    SCHEMA,
    *_owned(),
    _number("bytes"),
    _text("filename"),
    _text("mime_type"),
    _text("purpose", 32),
    _text("status", 16),
    _number("expires_at", index=True),
    _number("file_expires_after", nullable=True),
    _text("file_id", 64, nullable=True),
    _text("owner_key", 64),
)
Table(
    "upload_parts",
    SCHEMA,
    *_row(),
    _text("upload_id", 64, of="uploads.id", index=True),
    _number("bytes"),
    _text("md5", 32),
)
Table(
    "jobs",
    SCHEMA,
    *_owned(),
    *_leased(),
    _number("seq"),
    _number("started_at", nullable=True),
    _number("finished_at", nullable=True),
    _text("status", 24),
    _text("model"),
    _text("base", nullable=True),
    _text("training_file", 64),
    _text("validation_file", 64, nullable=True),
    _text("method_type", 24),
    _json("method", nullable=True),
    _json("hyperparameters", nullable=True),
    _number("seed"),
    _text("suffix", 64, nullable=True),
    _json("metadata", nullable=True),
    _json("integrations", nullable=True),
    _number("trained_tokens", nullable=True),
    _number("estimated_finish", nullable=True),
    _text("fine_tuned_model", nullable=True),
    _json("result_files"),
    _json("error", nullable=True),
    _text("body_hash", 64, nullable=True, index=True),
    _text("owner_key", 64),
    _json("extensions", nullable=True),
    Index("jobs_by_status", "status", "seq"),
)
Table(
    "events",
    SCHEMA,
    *_row(),
    _text("job_id", 64, of="jobs.id"),
    _text("level", 8),
    _text("message"),
    _text("type", 16),
    _json("data", nullable=True),
    Index("events_of_job", "job_id", "created_at", "rowid"),
)
Table(
    "checkpoints",
    SCHEMA,
    *_row(),
    _text("job_id", 64, of="jobs.id", index=True),
    _number("step"),
    _text("model_name", index=True),
    _json("metrics"),
    _text("path", nullable=True),
)
Table(
    "permissions",
    SCHEMA,
    *_owned(),
    _text("model", index=True),
    UniqueConstraint("model", "project"),
)
Table(
    "served_models",
    SCHEMA,
    _rowid(),
    _text("name", unique=True),
    _text("project", 64, index=True),
    _number("created_at"),
    _text("job_id", 64, nullable=True, index=True),
    _text("base"),
    _text("kind", 16),
    _text("path"),
    _text("parent", nullable=True),
    _number("deleted_at", nullable=True),
)
Table(
    "keys",
    SCHEMA,
    *_row(),
    _text("name"),
    _text("project", 64),
    _json("scopes"),
    _text("hash", 64, unique=True),
    _number("last_used_at", nullable=True),
    _number("revoked_at", nullable=True),
)
Table(
    "sign_ins",
    SCHEMA,
    *_row(),
    _text("key_id", 64, index=True),
    _text("browser"),
    _number("seen_at"),
)
Table(
    "audit",
    SCHEMA,
    _rowid(),
    _number("at"),
    _text("key_id", 64),
    _text("project", 64),
    _text("action", 64),
    _text("object"),
)
Table(
    "batches",
    SCHEMA,
    *_owned(),
    *_leased(),
    _text("endpoint"),
    _text("input_file_id", 64),
    _text("completion_window", 16),
    _text("status", 16, index=True),
    _text("requested", 16, nullable=True),
    _text("output_file_id", 64, nullable=True),
    _text("error_file_id", 64, nullable=True),
    _number("output_expires_after", nullable=True),
    _json("times"),
    _number("expires_at", nullable=True),
    _json("counts"),
    _json("usage", nullable=True),
    _json("errors", nullable=True),
    _text("model", nullable=True),
    _json("metadata", nullable=True),
    _text("owner_key", 64),
)
Table(
    "evals",
    SCHEMA,
    *_owned(),
    _text("name"),
    _json("data_source_config"),
    _json("testing_criteria"),
    _json("metadata", nullable=True),
)
Table(
    "eval_runs",
    SCHEMA,
    *_owned(),
    *_leased(),
    _text("eval_id", 64, of="evals.id", index=True),
    _text("name"),
    _text("status", 16, index=True),
    _json("data_source"),
    _text("model", nullable=True),
    _json("results"),
    _json("error", nullable=True),
    _json("metadata", nullable=True),
    _text("owner_key", 64),
)
Table(
    "eval_items",
    SCHEMA,
    *_owned(),
    _text("run_id", 64, of="eval_runs.id", index=True),
    _number("number"),
    _text("status", 8),
    _json("item"),
    _json("sample"),
    _json("results"),
)
Table(
    "answers",
    SCHEMA,
    *_owned(),
    _text("kind", 24),
    _text("model"),
    _json("input"),
    _json("body"),
    _json("metadata", nullable=True),
    _number("expires_at", index=True),
)
Table(
    "webhooks",
    SCHEMA,
    *_owned(),
    _number("updated_at"),
    _text("name"),
    _text("url"),
    _json("events"),
    _text("secret"),
    _text("previous_secret", nullable=True),
    _number("previous_until", nullable=True),
    _number("disabled_at", nullable=True),
)
Table(
    "webhook_deliveries",
    SCHEMA,
    *_row(),
    *_leased(),
    _text("webhook_id", 64, of="webhooks.id", index=True),
    _text("type", 64),
    _json("payload"),
    _text("status", 16, index=True),
    _number("next_at"),
    _number("delivered_at", nullable=True),
    _text("last_error", nullable=True),
)
