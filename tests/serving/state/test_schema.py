"""Migrations bring an empty or an older database to what `tables.py` says, once."""

import contextlib
import hashlib
import sqlite3
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import MetaData, inspect, select, text

from jangin.core.errors import UnreadableStoreError
from jangin.serving.state.database import Database
from jangin.serving.state.migrations import first_release
from jangin.serving.state.server import UNRELEASED, migrate
from jangin.serving.state.tables import Base, File, Key
from tests.serving.state.test_installation import add_files, opened

DUMPS = Path(__file__).parent / "releases"
"""RELEASE.sqlite.sql and RELEASE.postgresql.sql: its database, with a row in each table."""
RELEASES = sorted({path.name.partition(".")[0] for path in DUMPS.iterdir()})
LATER_TABLES = {
    "first_tables": ("installation",),
    "installation": ("answers",),
    "answers": ("eval_items", "eval_runs", "evals"),
    "evals": ("sign_ins",),
    "sign_ins": (),
}
"""{version before the first release: tables that the one after it added}."""


def load(url, release):
    """The rows of a dump, which is now in an empty database."""
    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    dump = (DUMPS / f"{release}.{kind}.sql").read_text("utf-8")
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(dump)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(dump)
    with contextlib.closing(Database(url)) as database:
        return rows(database)


def rows(database):
    """{table: [{column: value}]}."""
    with database.migrating() as connection:
        known = MetaData()
        known.reflect(connection)
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table))]
            for name, table in known.tables.items()
            if name != "alembic_version"
        }


def differences(database):
    """What the tables of the code have and those of a database lack, and the reverse."""
    with database.migrating() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, Base.metadata)


def schema(connection):
    """All that a database says about its tables."""
    looked = inspect(connection)
    return {
        name: (
            {
                each["name"]: (str(each["type"]), each["nullable"])
                for each in looked.get_columns(name)
            },
            looked.get_pk_constraint(name),
            sorted(map(str, looked.get_indexes(name))),
            sorted(map(str, looked.get_unique_constraints(name))),
            sorted(map(str, looked.get_foreign_keys(name))),
        )
        for name in looked.get_table_names()
        if name != "alembic_version"
    }


@pytest.mark.slow
def test_the_migrations_make_the_tables_of_the_code(empty):
    migrate(empty)
    assert differences(empty) == []


@pytest.mark.parametrize("release", RELEASES)
def test_a_database_of_a_release_keeps_its_rows_and_files(url, release, tmp_path):
    before = load(url, release)
    assert all(before.values())
    for row in before["files"]:
        path = tmp_path / "F" / "files" / row["id"][-2:] / row["id"]
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a row of the first release")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    with opened(tmp_path / "F", database=url) as server:
        assert differences(server.database) == []
        after = rows(server.database)
        for table, expected in before.items():
            kept = [{name: row[name] for name in expected[0]} for row in after[table]]
            assert kept == expected
        add_files(server, 1)
        with server.database.read() as session:
            known = [file.id for file in session.scalars(select(File).order_by(File.rowid))]
        assert known[:-1] == [row["id"] for row in before["files"]]
        with server.storage.reader(known[0]) as stream:
            assert stream.read() == b"a row of the first release"


def test_the_first_migration_makes_what_the_first_release_had(empty, url):
    load(url, "first_release")
    with empty.migrating() as connection:
        released, known = schema(connection), MetaData()
        known.reflect(connection)
        known.drop_all(connection)
        assert schema(connection) == {}
        with Operations.context(MigrationContext.configure(connection)):
            first_release.upgrade()
        assert schema(connection) == released


@pytest.mark.parametrize("version", UNRELEASED)
def test_a_database_from_before_the_first_release_keeps_its_rows(empty, url, version):
    before = load(url, "first_release")
    for name in UNRELEASED[UNRELEASED.index(version) :]:
        for table in LATER_TABLES[name]:
            before.pop(table)
            with empty.write() as session:
                session.execute(text(f"DROP TABLE {table}"))
    with empty.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    migrate(empty)
    assert differences(empty) == []
    assert {name: kept for name, kept in rows(empty).items() if kept} == before
    migrate(empty)


def test_a_database_from_long_before_the_first_release_is_refused_and_unchanged(empty, url):
    before = load(url, "first_release")
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'first_tables'"))
        session.execute(text("ALTER TABLE webhooks DROP COLUMN previous_until"))
    with pytest.raises(UnreadableStoreError, match="webhooks lacks previous_until"):
        migrate(empty)
    del before["webhooks"][0]["previous_until"]
    assert rows(empty) == before


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
