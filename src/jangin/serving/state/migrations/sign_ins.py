"""Browsers that signed in with a key."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, String, UniqueConstraint

revision = "sign_ins"
down_revision = "evals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "sign_ins",
        Column("key_id", String(64), nullable=False),
        Column("browser", String(), nullable=False),
        Column("seen_at", BigInteger(), nullable=False),
        Column(
            "rowid", BigInteger().with_variant(Integer(), "sqlite"), autoincrement=True,
            nullable=False,
        ),
        Column("id", String(64), nullable=False),
        Column("created_at", BigInteger(), nullable=False),
        PrimaryKeyConstraint("rowid"),
        UniqueConstraint("id"),
    )  # fmt: skip
    op.create_index("ix_sign_ins_key_id", "sign_ins", ["key_id"])


def downgrade() -> None:
    """Drop their table."""
    op.drop_table("sign_ins")
