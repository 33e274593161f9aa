"""One process serves a folder with SQLite: the file that it locks until it ends.

The kernel frees the lock of a process that was killed.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jangin.core.errors import LockedStoreError
from jangin.serving.state.server import create_folder
from jangin.serving.state.settings import ServerSettings

FILE = "serving.lock"
"""Name in the folder; its content describes the process."""
ATTEMPTS, PAUSE_SECONDS = 5, 0.1
"""`running` holds the lock for a moment too, so one attempt is not enough."""


@contextmanager
def sole_server(settings: ServerSettings) -> Iterator[Callable[[str], None]]:
    """Hold the lock of the folder; call the result with the address that this process serves.

    On PostgreSQL, which several servers may share, there is no lock.

    Raises:
        LockedStoreError: another process serves this folder.
        StoreError: the folder cannot be created.

    """
    create_folder(settings)
    if settings.database:
        yield lambda _address: None
        return
    with _path(settings).open("a+b", buffering=0) as stream:
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if attempt == ATTEMPTS - 1:
                    stream.seek(0)
                    raise LockedStoreError(
                        f"another server ({stream.read().decode() or 'starting'}) serves "
                        f"{settings.folder}. Stop it, choose another --folder, or use PostgreSQL, "
                        "which several servers may share."
                    ) from error
                time.sleep(PAUSE_SECONDS)

        def note(address: str) -> None:
            stream.truncate(0)
            of = "" if settings.project is None else f"project {settings.project.resolve()}, "
            stream.write(f"process {os.getpid()}, {of}{address}".encode())

        note("starting")
        yield note


def running(settings: ServerSettings) -> str:
    """Description of the server that holds the lock of the folder; "" without one."""
    path = _path(settings)
    if settings.database or not path.exists():
        return ""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read().decode()
    return ""


def address_of(settings: ServerSettings) -> str:
    """The address of the pages of the server that holds the lock of the folder.

    "starting" while it has none yet, "" where there is no server.
    """
    said = running(settings)
    match = re.search(r"(https?://\S+/)v1$", said)
    return match[1] if match else "starting" if said else ""


def other_project(settings: ServerSettings) -> Path | None:
    """The project of the server that holds the lock of the folder, where it is another one."""
    match = re.search(r", project (.+), https?://\S+$", running(settings))
    if match is None or settings.project is None:
        return None
    path = Path(match[1])
    return None if path == settings.project.resolve() else path


def _path(settings: ServerSettings) -> Path:
    return settings.folder / FILE
