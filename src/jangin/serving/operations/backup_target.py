"""Where a backup is kept: objects by the digest of their bytes, snapshots, and leases."""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from jangin import __version__
from jangin.core.errors import ConfigError, JanginError, UnreadableStoreError
from jangin.core.events import Progress
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import (
    CHUNK,
    PARTIAL,
    folder_of_storage,
    is_remote,
    open_storage,
)

SNAPSHOT, LEASE = "snapshot-", "lease-"
BACKUP, PRUNE = "backup", "prune"
"""What a lease is for."""
RENEW_SECONDS, STALE_SECONDS = 60, 600
"""How often a lease is renewed, and after how long its process counts as dead."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a snapshot."""

    sha256: str
    bytes: int
    mode: int = 0o600
    mtime_ns: int = 0
    inode: str = ""
    """Device and inode: two files with the same one are links to each other."""


@dataclass(slots=True)
class Snapshot:
    """What a server had at one moment."""

    database: Entry
    engine: str
    """`sqlite` or `postgresql`."""
    folder: dict[str, Entry]
    """By the path in the folder of the server."""
    storage: dict[str, Entry]
    """By the id of the file."""
    created_at: int = 0
    version: str = __version__
    format: int = FORMAT
    lost: list[str] = field(default_factory=list)
    """Files and models that the database names and that were gone before the backup."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything in it."""
        return (self.database, *self.folder.values(), *self.storage.values())

    @property
    def objects(self) -> dict[str, int]:
        """{digest: bytes} of what it needs."""
        return {entry.sha256: entry.bytes for entry in self.entries}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a backup has at one moment."""

    names: set[str]
    """Of everything, unfinished writes included."""
    snapshots: list[str]
    """Oldest first."""
    leases: set[str]
    """Of processes that work there now."""


class Target:
    """A backup: the objects and snapshots in a folder or behind an fsspec URL."""

    def __init__(self, address: str, settings: ServerSettings, *, is_new: bool = False) -> None:
        """Open the backup at an address; `is_new`: create a folder that is not there.

        Raises:
            ConfigError: it is within the folder of the server, it is not there, or the URL is
                wrong.
            StoreError: it cannot be written.

        """
        at = ServerSettings(folder=settings.folder, storage=address)
        if not is_remote(at):
            folder = folder_of_storage(at).resolve()
            parts = (settings.folder, folder_of_storage(settings))
            if any(folder.is_relative_to(part.resolve()) for part in parts):
                raise ConfigError(
                    f"{address} is within the folder of the server, and would be lost with it. "
                    "Name a folder elsewhere, better on another disk."
                )
            if not is_new and not folder.exists():
                raise ConfigError(f"{address} does not exist. Name the folder of the backup.")
            with suppress(OSError):  # `open_storage` says what is wrong with it
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.shown = address
        self.storage = open_storage(at)

    def listing(self) -> Listing:
        """What is in it now."""
        times = dict(self.storage.names())
        complete = [name for name in times if not name.endswith(PARTIAL)]
        alive = time.time() - STALE_SECONDS
        leases = {
            name.removesuffix(PARTIAL)
            for name, at in times.items()
            if name.startswith(LEASE) and at > alive
        }
        snapshots = sorted(name for name in complete if name.startswith(SNAPSHOT))
        return Listing(set(times), snapshots, leases)

    def names(self) -> list[str]:
        """Names of the snapshots, oldest first."""
        return self.listing().snapshots

    @contextmanager
    def lease(self, work: str) -> Iterator[str]:
        """Tell others, until the end of the block, that this process backs up or prunes.

        A backup lists the objects after its lease is written, and waits while another process
        prunes; a process that prunes gives up where there is another lease. So no object is deleted
        that a running backup relies on, whichever begins first.

        Args:
            work: `BACKUP` or `PRUNE`.

        Yields:
            The name of the lease.

        """
        name, ended = f"{LEASE}{work}-{secrets.token_hex(8)}", threading.Event()

        def write() -> None:
            with self.storage.writer(name) as stream:
                stream.write(b"")

        def renew() -> None:
            while not ended.wait(RENEW_SECONDS):
                with suppress(JanginError, OSError):
                    write()

        write()
        thread = threading.Thread(target=renew, name="lease of a backup", daemon=True)
        thread.start()
        try:
            yield name
        finally:
            ended.set()
            thread.join()
            with suppress(JanginError, OSError):
                self.storage.delete(name)

    def read(self, name: str) -> Snapshot:
        """A snapshot; raises `UnreadableStoreError` where this version cannot read it."""
        with closing(self.storage.reader(name)) as stream:
            data = json.loads(stream.read())
        if data.get("format") != FORMAT:
            raise UnreadableStoreError(
                f"{name} in {self.shown} was written by jangin {data.get('version')}, in another "
                "format. Restore it with that version."
            )
        parts = {
            part: {path: Entry(**entry) for path, entry in data[part].items()}
            for part in ("folder", "storage")
        }
        return Snapshot(**data | parts | {"database": Entry(**data["database"])})

    def prune(self, keep: int) -> int | None:
        """Delete all but the newest snapshots and what only they need.

        Returns:
            How many snapshots were deleted; None, with nothing deleted, while a backup or another
            prune is running.

        """
        with self.lease(PRUNE) as own:
            listed = self.listing()
            if listed.leases - {own}:
                return None
            keeps, old = listed.snapshots[-keep:], listed.snapshots[:-keep]
            needed = {own, *keeps, *old}.union(*(self.read(name).objects for name in keeps))
            # Snapshots first, so that none is left that lacks an object.
            for name in (*old, *(listed.names - needed)):
                if name.removesuffix(PARTIAL) != own:
                    self.storage.delete(name)
            return len(old)

    def damaged(self, snapshot: Snapshot, progress: Progress) -> list[str]:
        """Digests of the objects of a snapshot that are missing or hold other bytes."""
        bad, bar = [], progress.start("objects", len(snapshot.objects))
        for digest in snapshot.objects:
            try:
                with closing(self.storage.reader(digest)) as stream:
                    read, _ = hash_of(stream)
            except FileNotFoundError:
                read = ""
            if read != digest:
                bad.append(digest)
            progress.advance(bar)
        progress.stop(bar)
        return bad


def new_name() -> str:
    """The name of a snapshot of now; names have the order of time, and no two are the same."""
    return f"{SNAPSHOT}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def hash_of(stream: BinaryIO, size: int | None = None) -> tuple[str, int]:
    """(SHA-256, number) of the first `size` bytes, or of all."""
    digest, length = hashlib.sha256(), 0
    while block := stream.read(CHUNK if size is None else min(CHUNK, size - length)):
        digest.update(block)
        length += len(block)
    return digest.hexdigest(), length


def copy_and_hash(source: BinaryIO, target: BinaryIO, size: int) -> str:
    """Copy the first `size` bytes; returns the SHA-256 of what was copied."""
    digest, left = hashlib.sha256(), size
    while left and (block := source.read(min(CHUNK, left))):
        digest.update(block)
        target.write(block)
        left -= len(block)
    return digest.hexdigest()
