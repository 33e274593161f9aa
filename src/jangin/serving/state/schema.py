"""Bring a database to the newest version of the schema, on every start."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError

from jangin.core.errors import StoreError, UnreadableStoreError
from jangin.serving.state.database import Database

FOLDER = Path(__file__).parent


def migrate(database: Database) -> None:
    """Run the migrations that the database lacks; of several processes, one runs them.

    Raises:
        StoreError: the database does not answer, has another encoding than UTF8, or its tables
            cannot be changed.
        UnreadableStoreError: a newer jangin wrote it.

    """
    database.check()
    config = Config()
    config.set_main_option("script_location", _escaped(FOLDER))
    config.set_main_option("version_locations", _escaped(FOLDER / "migrations"))
    config.set_main_option("path_separator", "newline")
    try:
        with database.migrating() as connection:
            config.attributes["connection"] = connection
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


def _escaped(path: Path) -> str:
    """A path in a file of settings in which % begins a name."""
    return str(path).replace("%", "%%")
