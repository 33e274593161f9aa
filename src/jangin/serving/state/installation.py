"""One id for the database, the folder of models and the storage of files of an installation.

A server whose database is new, or that of another one, knows none of the files beside it. It says
so instead of serving without them.
"""

import secrets
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from sqlalchemy import make_url, select

from jangin.core.errors import StoreError
from jangin.serving.state.database import Database
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import Storage
from jangin.serving.state.tables import File, Installation, StoredModel, UploadPart

MARK = "installation"
"""Name of the file with the id, in the folder and in the storage."""
MODELS = "models"
_ENOUGH = 10_000
"""Names that are compared with the database, of a storage without an id."""


class _Location(Protocol):
    """Where files of an installation are."""

    @property
    def shown(self) -> str:
        """What a message calls it."""
        ...

    def mark(self) -> str:
        """The id of its installation; "" without one."""
        ...

    def set_mark(self, identity: str) -> None:
        """Write the id."""
        ...

    def names(self) -> Iterator[str]:
        """Names of what it has."""
        ...


@dataclass(frozen=True, slots=True)
class _Folder:
    """The folder of a server, with its models."""

    folder: Path

    @property
    def shown(self) -> str:
        return f"{self.folder / MODELS}"

    def mark(self) -> str:
        path = self.folder / MARK
        return path.read_text("utf-8").strip() if path.exists() else ""

    def set_mark(self, identity: str) -> None:
        (self.folder / MARK).write_text(identity + "\n", "utf-8")

    def names(self) -> Iterator[str]:
        models = self.folder / MODELS
        return (path.name for path in models.iterdir()) if models.exists() else iter(())


@dataclass(frozen=True, slots=True)
class _Stored:
    """The storage of files."""

    storage: Storage
    shown: str

    def mark(self) -> str:
        try:
            with closing(self.storage.reader(MARK)) as stream:
                return stream.read().decode().strip()
        except FileNotFoundError:
            return ""

    def set_mark(self, identity: str) -> None:
        with self.storage.writer(MARK) as stream:
            stream.write(identity.encode() + b"\n")

    def names(self) -> Iterator[str]:
        return (name for name, _ in self.storage.names() if name != MARK)


def identify(
    settings: ServerSettings, database: Database, storage: Storage, *, adopt: bool = False
) -> None:
    """See that database, folder and storage are of one installation; give a new one its id.

    Args:
        settings: of the server.
        database: its database.
        storage: its storage.
        adopt: take folder and storage for those of this database, whatever their ids are.

    Raises:
        StoreError: as `see_what_is_foreign`.

    """
    if not adopt:
        see_what_is_foreign(settings, database, storage)
    with database.write() as session:
        identity = session.scalars(select(Installation.id)).first()
        if identity is None:
            identity = secrets.token_hex(8)
            session.add(Installation(id=identity))
    for location in _locations(settings, storage):
        if location.mark() != identity:
            location.set_mark(identity)


def see_what_is_foreign(
    settings: ServerSettings, database: Database | None, storage: Storage
) -> None:
    """Compare the ids of database, folder and storage; `database`: None where there is none yet.

    Raises:
        StoreError: they are of different installations, or there are files or models of which the
            database knows none.

    """
    identity, models, files = "", set[str](), set[str]()
    if database is not None:
        with database.read() as session:
            identity = session.scalars(select(Installation.id)).first() or ""
            models = {Path(path).name for path in session.scalars(select(StoredModel.path))}
            files = {*session.scalars(select(File.id)), *session.scalars(select(UploadPart.id))}
    for location, known in zip(_locations(settings, storage), (models, files), strict=True):
        mark = location.mark()
        if mark != identity if mark else _is_foreign(location, known):
            raise _refusal(settings, location)


def _locations(settings: ServerSettings, storage: Storage) -> tuple[_Location, _Location]:
    where = settings.storage or str(settings.folder / "files")
    return _Folder(settings.folder), _Stored(storage, where)


def _is_foreign(location: _Location, known: Collection[str]) -> bool:
    """True if there is something in a location without an id, and nothing of it is known."""
    names = list(islice(location.names(), _ENOUGH))
    return bool(names) and not any(name in known for name in names)


def _refusal(settings: ServerSettings, location: _Location) -> StoreError:
    folder, shown = settings.folder, make_url(settings.database_url).render_as_string()
    return StoreError(
        f"the database {shown} is not the one of the files in {location.shown}: it is "
        "new, or of another server. Nothing was changed. Put the right database back; or take the "
        f"files over with: jangin serve --folder {folder} --adopt; or start afresh with: "
        "jangin serve --folder ANOTHER-FOLDER"
    )
