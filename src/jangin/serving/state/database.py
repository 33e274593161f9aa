"""Connections to SQLite (the embedded default) or PostgreSQL, and short transactions on them."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from jangin.core.errors import ConfigError, StoreError

BUSY_SECONDS = 30
"""How long a writer waits for another writer of the same SQLite file."""
CONNECT_SECONDS = 10
"""How long a server of PostgreSQL may take to answer."""
ENCODINGS = ("UTF8", "SQL_ASCII")
"""Of PostgreSQL: SQL_ASCII, which `initdb` takes without a locale, keeps bytes as they come."""
MIGRATION_LOCK = 7_241_915
"""Number of PostgreSQL's advisory lock that one migrating process holds."""


class Database:
    """The server's database, by URL; threads may share it."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigError` where the URL is none of a database that jangin supports."""
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ConfigError(f"database: this is not a URL of a database. {SUPPORTED}") from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
            raise ConfigError(f"database: {parsed.drivername} is not supported. {SUPPORTED}")
        self.is_sqlite = parsed.drivername == "sqlite"
        self.shown = parsed.render_as_string(hide_password=True)
        """The URL, with asterisks for the password."""
        self._engine = _sqlite_engine(parsed) if self.is_sqlite else _postgresql_engine(parsed)
        reading = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._readers = sessionmaker(
            self._engine.execution_options(**reading), expire_on_commit=False
        )
        self._writers = sessionmaker(
            self._engine.execution_options(jangin_writes=True), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that reads; it sees one state of the database from start to end."""
        with self._readers.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that writes; it is rolled back if the block raises.

        On SQLite it holds the only write lock from its first statement on, so keep it short.
        Objects that it loaded can be read after it.
        """
        with self._writers.begin() as session:
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """One transaction that changes the schema; other processes wait for it."""
        with self._engine.execution_options(jangin_writes=True).begin() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            yield connection

    def check(self) -> None:
        """Raises `StoreError` if the database does not answer or cannot hold every text."""
        query = "SELECT 'UTF8'" if self.is_sqlite else "SHOW server_encoding"
        try:
            with self._engine.connect() as connection:
                encoding = connection.execute(text(query)).scalar()
        except OperationalError as error:
            raise StoreError(
                f"the database {self.shown} does not answer: {_first_line(error)}. "
                "Start it, or correct `database`."
            ) from error
        if encoding not in ENCODINGS:
            raise StoreError(
                f"the database {self.shown} has the encoding {encoding}, which lacks letters of "
                "most languages. Create one with ENCODING 'UTF8' TEMPLATE template0."
            )

    def verify(self) -> None:
        """Raises `StoreError` where a file of SQLite is damaged; the file is not changed."""
        file = self._engine.url.database
        if not self.is_sqlite or not file or not Path(file).exists():
            return
        try:
            with closing(sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True)) as connection:
                (line,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError:
            return  # it cannot be opened, or is locked: `check` says what to do
        except sqlite3.DatabaseError as error:
            line = str(error)
        if line != "ok":
            raise StoreError(
                f"the database {self.shown} is damaged: {' '.join(line.split())}. Nothing was "
                "changed. Put the last backup of this file in its place, without the files that "
                "end in -wal and -shm beside it."
            )

    def is_empty(self) -> bool:
        """True if it has no table."""
        return not inspect(self._engine).get_table_names()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


SUPPORTED = "Write postgresql://USER:PASSWORD@HOST/NAME, or nothing for SQLite in the folder"


def _sqlite_engine(url: Any) -> Engine:
    engine = create_engine(
        url, pool_size=20, max_overflow=40, connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the transactions are begun below, not by the driver
        _write_ahead(connection)
        for pragma in ("foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once, without waiting, if another
        # one wrote in between; one that will write therefore takes the lock before it reads.
        writes = connection.get_execution_options().get("jangin_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log; SQLite itself does not wait for another that does so now."""
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql_engine(url: Any) -> Engine:
    # A connection that died with the server's restart is replaced before it is used.
    return create_engine(
        url,
        pool_size=10,
        max_overflow=30,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": "-c lock_timeout=30s",
            "client_encoding": "utf8",  # else a database of SQL_ASCII returns bytes
        },
    )


def _first_line(error: OperationalError) -> str:
    return str(error.orig).strip().split("\n", maxsplit=1)[0]
