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
from typing import BinaryIO

from jangin.core.errors import LockedStoreError
from jangin.serving.state.server import create_folder
from jangin.serving.state.settings import ServerSettings

FILE = "serving.lock"
"""Name in the folder; its first line describes the process."""
ATTEMPTS, PAUSE_SECONDS = 5, 0.1
"""A server that was just killed holds the lock until it has ended."""
STARTING = "starting"


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
    with os.fdopen(os.open(_path(settings), os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
        if not _take(stream):
            raise LockedStoreError(
                f"another server ({_holder(stream)}) serves {settings.folder}. Stop it, choose "
                "another --folder, or use PostgreSQL, which several servers may share."
            )

        def note(address: str) -> None:
            of = "" if settings.project is None else f"project {settings.project.resolve()}, "
            line = f"process {os.getpid()}, {of}{address}\n".encode()
            # Who reads meanwhile gets this line or the one before it, never a part of one.
            os.pwrite(stream.fileno(), line, 0)
            os.ftruncate(stream.fileno(), len(line))

        note(STARTING)
        try:
            yield note
        finally:
            os.ftruncate(stream.fileno(), 0)  # the next server has no address while it starts


def _take(stream: BinaryIO) -> bool:
    """Lock the file; False where another server has it. Who runs `running` waits for nothing."""
    refused = 0
    while not _locks(stream, fcntl.LOCK_EX):
        if _locks(stream, fcntl.LOCK_SH):  # others only look at it, for a moment
            fcntl.flock(stream, fcntl.LOCK_UN)
        else:
            refused += 1
        if refused == ATTEMPTS:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _locks(stream: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(stream: BinaryIO) -> str:
    """What the server that holds the lock says of itself."""
    stream.seek(0)
    return stream.readline().decode().rstrip("\n") or STARTING


def running(settings: ServerSettings) -> str:
    """Description of the server that holds the lock of the folder; "" without one."""
    path = _path(settings)
    if settings.database or not path.exists():
        return ""
    with path.open("rb") as stream:
        return "" if _locks(stream, fcntl.LOCK_SH) else _holder(stream)


def address_of(settings: ServerSettings) -> str:
    """The address of the pages of the server that holds the lock of the folder.

    "starting" while it has none yet, "" where there is no server.
    """
    said = running(settings)
    match = re.search(r"(https?://\S+/)v1$", said)
    return match[1] if match else STARTING if said else ""


def other_project(settings: ServerSettings) -> Path | None:
    """The project of the server that holds the lock of the folder, where it is another one."""
    match = re.search(r", project (.+), https?://\S+$", running(settings))
    if match is None or settings.project is None:
        return None
    path = Path(match[1])
    return None if path == settings.project.resolve() else path


def _path(settings: ServerSettings) -> Path:
    return settings.folder / FILE
