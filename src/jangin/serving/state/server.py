"""The server: what route functions and background services share."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar, cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from fastapi import Depends, Request
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from jangin.core.errors import JanginError, StoreError, UnreadableStoreError
from jangin.serving.state.caller import Caller
from jangin.serving.state.database import Database
from jangin.serving.state.installation import identify
from jangin.serving.state.migrations.first_release import SCHEMA
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import Storage, open_storage

# A resolved model name, and the interface of what resolves names.


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be called."""

    name: str
    base_folder: Path
    """Folder of the catalog's artifact."""
    adapter_folder: Path | None
    """Folder of the adapter, or of full weights; None for a base model itself."""
    kind: Literal["base", "adapter", "full"]
    owned_by: str
    trainable: bool
    created: int = 0
    """Unix seconds."""
    variant: str = ""
    """Variant of the server's project that trained it; empty for others."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model as lists show it."""

    id: str
    created: int
    """Unix seconds."""
    owned_by: str


class ModelRegistry(Protocol):
    """All models of the server."""

    def resolve(self, name: str, caller: Caller) -> ServedModel:
        """The model of a name; raises `ApiError` 404 `model_not_found`."""
        ...

    def names(self, caller: Caller) -> list[Named]:
        """Every model that the caller may use, fine-tuned ones first, the newest of them first."""
        ...


# Bring a database to the newest version of the schema, on every start.


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


Service = TypeVar("Service")


class BackgroundService(Protocol):
    """A service that runs in the background, such as the scheduler of jobs."""

    def start(self) -> None:
        """Begin; called once, after the database is ready and before the first request."""
        ...

    def stop(self) -> None:
        """End within seconds, keeping unfinished work; called once, after the last request."""
        ...


class Server:
    """Settings, database, storage, clock, models and background services of one process."""

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], float] = time.time,
        *,
        adopt: bool = False,
    ) -> None:
        """Open database and storage, creating what is missing; `adopt` as in `identify`.

        Raises:
            ConfigError: the URL of the database or of the storage is wrong.
            StoreError: the folder cannot be written, the database does not answer or is damaged,
                or it is not the one of the files in folder and storage.

        """
        self.settings = settings
        self.stopping = threading.Event()
        """Set when the process begins to shut down, while requests are still answered."""
        self.checks: dict[str, Callable[[], None]] = {}
        """{part: what raises `JanginError` where it does not work}; services add theirs."""
        self._clock = clock
        self._services: dict[type, object] = {}
        self._models: ModelRegistry | None = None
        self.database = open_database(settings)
        try:
            self.storage: Storage = open_storage(settings)
            identify(settings, self.database, self.storage, adopt=adopt)
        except JanginError:
            self.database.close()
            raise

    def now(self) -> int:
        """Unix time in whole seconds."""
        return int(self._clock())

    @property
    def models(self) -> ModelRegistry:
        """Resolves model names."""
        if self._models is None:
            raise JanginError("the server has no models yet; `create_app` gives it some.")
        return self._models

    @models.setter
    def models(self, registry: ModelRegistry) -> None:
        self._models = registry

    def add(self, service: object) -> None:
        """Make a background service known, by its class."""
        self._services[type(service)] = service

    def get(self, kind: type[Service]) -> Service:
        """The background service of a class: `server.get(Scheduler).wake()`."""
        return cast("Service", self._services[kind])

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    return cast("Server", request.app.state.server)


ServerDep = Annotated[Server, Depends(server_of)]
"""`server: ServerDep` as a parameter of a route function."""


def open_database(settings: ServerSettings, *, creates_folder: bool = True) -> Database:
    """The database of a server, brought up to date. Raises as `Server`."""
    if creates_folder:
        create_folder(settings)
    database = Database(settings.database_url)
    try:
        database.verify()
        migrate(database)
    except JanginError:
        database.close()
        raise
    return database


def create_folder(settings: ServerSettings) -> None:
    """Create the folder of a server; raises `StoreError` where that fails."""
    try:
        # On a shared machine other users must not read training data and models.
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {settings.folder} cannot be written: {error.strerror}. "
            "Name another one with --folder."
        ) from error
