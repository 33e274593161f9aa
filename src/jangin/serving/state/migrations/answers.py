"""Responses and chat completions that are kept."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Integer,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "answers"
down_revision = "installation"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    op.create_table(
        "answers",
        Column("rowid", BigInteger().with_variant(Integer(), "sqlite"), nullable=False),
        Column("id", String(64), nullable=False),
        Column("created_at", BigInteger(), nullable=False),
        Column("project", String(64), nullable=False),
        Column("kind", String(24), nullable=False),
        Column("model", String(), nullable=False),
        Column("input", json, nullable=False),
        Column("body", json, nullable=False),
        Column("metadata", json, nullable=True),
        Column("expires_at", BigInteger(), nullable=False),
        PrimaryKeyConstraint("rowid"),
        UniqueConstraint("id"),
    )
    op.create_index("ix_answers_project", "answers", ["project"])
    op.create_index("ix_answers_expires_at", "answers", ["expires_at"])


def downgrade() -> None:
    """Drop their table."""
    op.drop_table("answers")
