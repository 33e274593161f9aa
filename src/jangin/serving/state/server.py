"""The server: what route functions and background services share."""

import threading
import time
from collections.abc import Callable
from typing import Annotated, Protocol, TypeVar, cast

from fastapi import Depends, Request

from jangin.core.errors import JanginError, StoreError
from jangin.serving.state.database import Database
from jangin.serving.state.installation import identify
from jangin.serving.state.registry import ModelRegistry
from jangin.serving.state.schema import migrate
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import Storage, open_storage

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
