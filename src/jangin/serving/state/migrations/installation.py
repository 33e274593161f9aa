"""The id of the installation, which the files beside the database have, too."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, String, UniqueConstraint

revision = "installation"
down_revision = "first_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create its table."""
    op.create_table(
        "installation",
        Column("rowid", BigInteger().with_variant(Integer(), "sqlite"), nullable=False),
        Column("id", String(32), nullable=False),
        PrimaryKeyConstraint("rowid"),
        UniqueConstraint("id"),
    )


def downgrade() -> None:
    """Drop its table."""
    op.drop_table("installation")
