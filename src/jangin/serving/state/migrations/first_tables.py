"""The first tables, spelled out: later versions of `tables.py` do not change what is made here."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "first_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table; those that others refer to come first."""
    for create in _TABLES.values():
        create()


def downgrade() -> None:
    """Drop every table."""
    for name in reversed(_TABLES):
        op.drop_table(name)


def _create(name: str, *parts: Column[object] | UniqueConstraint) -> None:
    counter = BigInteger().with_variant(Integer(), "sqlite")
    rowid: Column[int] = Column("rowid", counter, autoincrement=True, nullable=False)
    op.create_table(name, rowid, *parts, PrimaryKeyConstraint("rowid"))


def _text(
    name: str, length: int | None = None, *, of: str = "", nullable: bool = False
) -> Column[object]:
    """A text; `of`: the column of another table whose row it belongs to."""
    references = [ForeignKey(of, ondelete="CASCADE")] if of else []
    return Column(name, String(length), *references, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, BigInteger(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    kind = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    return Column(name, kind, nullable=nullable)


def _audit() -> None:
    _create(
        "audit",
        _number("at"),
        _text("key_id", 64),
        _text("project", 64),
        _text("action", 64),
        _text("object"),
    )


def _batches() -> None:
    _create(
        "batches",
        _text("endpoint"),
        _text("input_file_id", 64),
        _text("completion_window", 16),
        _text("status", 16),
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
        _text("lease_owner", 128, nullable=True),
        _number("lease_until", nullable=True),
        _number("attempts"),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_batches_project", "batches", ["project"])
    op.create_index("ix_batches_status", "batches", ["status"])


def _files() -> None:
    _create(
        "files",
        _number("bytes"),
        _text("filename"),
        _text("purpose", 32),
        _text("status", 16),
        _text("status_details", nullable=True),
        _number("expires_at", nullable=True),
        _text("sha256", 64),
        _text("owner_key", 64),
        _json("report", nullable=True),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_index("ix_files_project", "files", ["project"])


def _jobs() -> None:
    _create(
        "jobs",
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
        _text("body_hash", 64, nullable=True),
        _text("owner_key", 64),
        _json("extensions", nullable=True),
        _text("lease_owner", 128, nullable=True),
        _number("lease_until", nullable=True),
        _number("attempts"),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_jobs_body_hash", "jobs", ["body_hash"])
    op.create_index("ix_jobs_project", "jobs", ["project"])
    op.create_index("jobs_by_status", "jobs", ["status", "seq"])


def _keys() -> None:
    _create(
        "keys",
        _text("name"),
        _text("project", 64),
        _json("scopes"),
        _text("hash", 64),
        _number("last_used_at", nullable=True),
        _number("revoked_at", nullable=True),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("hash"),
        UniqueConstraint("id"),
    )


def _permissions() -> None:
    _create(
        "permissions",
        _text("model"),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
        UniqueConstraint("model", "project"),
    )
    op.create_index("ix_permissions_model", "permissions", ["model"])
    op.create_index("ix_permissions_project", "permissions", ["project"])


def _served_models() -> None:
    _create(
        "served_models",
        _text("name"),
        _text("project", 64),
        _number("created_at"),
        _text("job_id", 64, nullable=True),
        _text("base"),
        _text("kind", 16),
        _text("path"),
        _text("parent", nullable=True),
        _number("deleted_at", nullable=True),
        UniqueConstraint("name"),
    )
    op.create_index("ix_served_models_job_id", "served_models", ["job_id"])
    op.create_index("ix_served_models_project", "served_models", ["project"])


def _uploads() -> None:
    _create(
        "uploads",
        _number("bytes"),
        _text("filename"),
        _text("mime_type"),
        _text("purpose", 32),
        _text("status", 16),
        _number("expires_at"),
        _number("file_expires_after", nullable=True),
        _text("file_id", 64, nullable=True),
        _text("owner_key", 64),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_index("ix_uploads_project", "uploads", ["project"])


def _webhooks() -> None:
    _create(
        "webhooks",
        _number("updated_at"),
        _text("name"),
        _text("url"),
        _json("events"),
        _text("secret"),
        _text("previous_secret", nullable=True),
        _number("previous_until", nullable=True),
        _number("disabled_at", nullable=True),
        _text("project", 64),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_webhooks_project", "webhooks", ["project"])


def _checkpoints() -> None:
    _create(
        "checkpoints",
        _text("job_id", 64, of="jobs.id"),
        _number("step"),
        _text("model_name"),
        _json("metrics"),
        _text("path", nullable=True),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_checkpoints_job_id", "checkpoints", ["job_id"])
    op.create_index("ix_checkpoints_model_name", "checkpoints", ["model_name"])


def _events() -> None:
    _create(
        "events",
        _text("job_id", 64, of="jobs.id"),
        _text("level", 8),
        _text("message"),
        _text("type", 16),
        _json("data", nullable=True),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("events_of_job", "events", ["job_id", "created_at", "rowid"])


def _upload_parts() -> None:
    _create(
        "upload_parts",
        _text("upload_id", 64, of="uploads.id"),
        _number("bytes"),
        _text("md5", 32),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_upload_parts_upload_id", "upload_parts", ["upload_id"])


def _webhook_deliveries() -> None:
    _create(
        "webhook_deliveries",
        _text("webhook_id", 64, of="webhooks.id"),
        _text("type", 64),
        _json("payload"),
        _text("status", 16),
        _number("next_at"),
        _number("delivered_at", nullable=True),
        _text("last_error", nullable=True),
        _text("lease_owner", 128, nullable=True),
        _number("lease_until", nullable=True),
        _number("attempts"),
        _text("id", 64),
        _number("created_at"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_webhook_deliveries_status", "webhook_deliveries", ["status"])
    op.create_index("ix_webhook_deliveries_webhook_id", "webhook_deliveries", ["webhook_id"])


_TABLES = {
    "audit": _audit,
    "batches": _batches,
    "files": _files,
    "jobs": _jobs,
    "keys": _keys,
    "permissions": _permissions,
    "served_models": _served_models,
    "uploads": _uploads,
    "webhooks": _webhooks,
    "checkpoints": _checkpoints,
    "events": _events,
    "upload_parts": _upload_parts,
    "webhook_deliveries": _webhook_deliveries,
}
