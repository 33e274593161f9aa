"""Bring a database to the newest version of the schema, on every start."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from jangin.core.errors import StoreError, UnreadableStoreError
from jangin.serving.state.database import Database
from jangin.serving.state.migrations.first_release import SCHEMA

FOLDER = Path(__file__).parent
UNRELEASED = ("first_tables", "installation", "answers", "evals", "sign_ins")
"""Versions before the first release: each has some of its tables, and each of those is the same."""


def migrate(database: Database) -> None:
    """Run the migrations that the database lacks; of several processes, one runs them.

    Raises:
        StoreError: the database does not answer, has another encoding than UTF8, or its tables
            cannot be changed.
        UnreadableStoreError: a newer jangin wrote it, or one from long before the first release.

    """
    database.check()
    config = Config()
    config.set_main_option("script_location", _escaped(FOLDER))
    config.set_main_option("version_locations", _escaped(FOLDER / "migrations"))
    config.set_main_option("path_separator", "newline")
    try:
        with database.migrating() as connection:
            config.attributes["connection"] = connection
            _forget_unreleased(database, connection)
            command.upgrade(config, "head")
    except CommandError as error:
        raise UnreadableStoreError(
            f"a newer version of jangin wrote {database.shown}: {error}. Use that version."
        ) from error
    except OperationalError as error:
        database.check()
        raise StoreError(
            f"the tables of {database.shown} could not be brought up to date: {error.orig}. "
            "Check that the user may create tables and that the disk has space."
        ) from error


def _forget_unreleased(database: Database, connection: Connection) -> None:
    """Let the first migration create the tables that a database from before the release lacks."""
    if MigrationContext.configure(connection).get_current_revision() not in UNRELEASED:
        return
    known = inspect(connection)
    for name in set(known.get_table_names()) & SCHEMA.tables.keys():
        columns = {column["name"] for column in known.get_columns(name)}
        if lacking := set(SCHEMA.tables[name].columns.keys()) - columns:
            raise UnreadableStoreError(
                f"a version of jangin from before the first release wrote {database.shown}: its "
                f"table {name} lacks {', '.join(sorted(lacking))}. Nothing was changed. Use that "
                "version, or start afresh with: jangin serve --folder ANOTHER-FOLDER"
            )
    connection.execute(text("DELETE FROM alembic_version"))


def _escaped(path: Path) -> str:
    """A path in a file of settings in which % begins a name."""
    return str(path).replace("%", "%%")
