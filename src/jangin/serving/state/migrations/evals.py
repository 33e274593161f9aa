"""Evals, their runs, and the rows of these."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

revision = "evals"
down_revision = "answers"
branch_labels = None
depends_on = None

JSON_VALUE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
COUNTER = BigInteger().with_variant(Integer(), "sqlite")


def _create(name: str, *columns: SchemaItem) -> None:
    op.create_table(
        name,
        Column("rowid", COUNTER, nullable=False),
        Column("id", String(64), nullable=False),
        Column("created_at", BigInteger(), nullable=False),
        Column("project", String(64), nullable=False),
        *columns,
        PrimaryKeyConstraint("rowid"),
        UniqueConstraint("id"),
    )
    op.create_index(f"ix_{name}_project", name, ["project"])


def upgrade() -> None:
    """Create their tables."""
    _create(
        "evals",
        Column("name", String(), nullable=False),
        Column("data_source_config", JSON_VALUE, nullable=False),
        Column("testing_criteria", JSON_VALUE, nullable=False),
        Column("metadata", JSON_VALUE, nullable=True),
    )
    _create(
        "eval_runs",
        Column("eval_id", String(64), nullable=False),
        Column("name", String(), nullable=False),
        Column("status", String(16), nullable=False),
        Column("data_source", JSON_VALUE, nullable=False),
        Column("model", String(), nullable=True),
        Column("results", JSON_VALUE, nullable=False),
        Column("error", JSON_VALUE, nullable=True),
        Column("metadata", JSON_VALUE, nullable=True),
        Column("owner_key", String(64), nullable=False),
        Column("lease_owner", String(128), nullable=True),
        Column("lease_until", BigInteger(), nullable=True),
        Column("attempts", BigInteger(), nullable=False),
        ForeignKeyConstraint(["eval_id"], ["evals.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_eval_runs_eval_id", "eval_runs", ["eval_id"])
    op.create_index("ix_eval_runs_status", "eval_runs", ["status"])
    _create(
        "eval_items",
        Column("run_id", String(64), nullable=False),
        Column("number", BigInteger(), nullable=False),
        Column("status", String(8), nullable=False),
        Column("item", JSON_VALUE, nullable=False),
        Column("sample", JSON_VALUE, nullable=False),
        Column("results", JSON_VALUE, nullable=False),
        ForeignKeyConstraint(["run_id"], ["eval_runs.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_eval_items_run_id", "eval_items", ["run_id"])


def downgrade() -> None:
    """Drop their tables."""
    for name in ("eval_items", "eval_runs", "evals"):
        op.drop_table(name)
