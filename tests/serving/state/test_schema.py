"""Migrations bring an empty or an older database to what `tables.py` says, once."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from jangin.core.errors import UnreadableStoreError
from jangin.serving.state.schema import migrate
from jangin.serving.state.tables import Base, Key


@pytest.mark.slow
def test_the_migrations_make_the_tables_of_the_code(empty):
    migrate(empty)
    with empty.migrating() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    assert differences == []


def test_a_second_start_changes_nothing(empty):
    migrate(empty)
    with empty.write() as session:
        session.add(Key(id="k", created_at=1, name="", project="p", scopes=[], hash="h"))
    migrate(empty)
    with empty.read() as session:
        assert session.query(Key).count() == 1


def test_a_database_of_a_newer_version_is_refused(empty):
    migrate(empty)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'from_the_future'"))
    with pytest.raises(UnreadableStoreError, match="from_the_future"):
        migrate(empty)
