"""The first tables.

While no released version has them, they are those of `tables.py`; a released schema is spelled out.
"""

from alembic import op

from jangin.serving.database.tables import Base

revision = "first_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    Base.metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Drop every table."""
    Base.metadata.drop_all(op.get_bind())
