"""The lock on an artifact that several machines build: an object that its holder keeps renewing.

Every change is a conditional write, so only one of two takers gets it. Whether a holder is alive is
told by the server's own clock, so the clocks of the machines need not agree. A holder that was
suspended for longer than the lease may lose it; then two machines do the same work, and only one of
them publishes it.
"""

import json
import os
import platform
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jangin.core.errors import JanginError, LockedStoreError
from jangin.project.remote.bucket import Bucket

LEASE_SECONDS = 90.0
"""Time after its last renewal from which on a lock is free."""
RENEWALS = 6
"""How often a lock is renewed in that time."""
_CLOCK = "clock"
"""Object that is written to learn the time of the server."""
_TRIES = 5


@dataclass(slots=True)
class Lease:
    """A lock with a name in a bucket, for the process that works in the store at `root`."""

    bucket: Bucket
    name: str
    root: Path
    message: Callable[[str], None]
    seconds: float = LEASE_SECONDS
    _owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _renewal: int = 0
    _etag: str = ""

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Hold the lock; `what` is being worked on.

        Raises: LockedStoreError: another process holds it.
        """
        self._take(what)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended, what), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            if self._etag:
                with suppress(JanginError):  # it ends by itself
                    self.bucket.replace(self.name, b"{}", self._etag)

    def _take(self, what: str) -> None:
        for _ in range(_TRIES):
            etag = self.bucket.create(self.name, self._content())
            if etag is None:
                present = self.bucket.read(self.name)
                if present is None:
                    continue
                self._refuse_alive(json.loads(present[0]), what)
                etag = self.bucket.replace(self.name, self._content(), present[1])
            if etag is not None:
                self._etag = etag
                return
        raise LockedStoreError(f"other runs take the lock on {what} in {self.bucket.url} first.")

    def _content(self) -> bytes:
        self._renewal += 1
        holder = {
            "owner": self._owner,
            "process": os.getpid(),
            "host": platform.node(),
            "store": self._store(),
            "renewal": self._renewal,
        }
        return json.dumps(holder).encode()

    def _store(self) -> str:
        """The folder of this machine, and not one of the same name on another."""
        status = self.root.stat()
        return f"{platform.node()} {self.root.resolve()} {status.st_dev} {status.st_ino}"

    def _refuse_alive(self, holder: dict[str, object], what: str) -> None:
        """Raise `LockedStoreError` if another process holds the lock.

        It is free after its release, without renewals, and where its holder worked in the same
        folder: this process has the lock of that folder, so the holder is dead.
        """
        if holder.get("owner") in (None, self._owner) or holder.get("store") == self._store():
            return
        self.bucket.write(_CLOCK, b"")
        age = self.bucket.changed(_CLOCK) - self.bucket.changed(self.name)
        if age.total_seconds() > self.seconds:
            return
        raise LockedStoreError(
            f"another jangin run (process {holder.get('process')} on {holder.get('host')}) is "
            f"working on {what} in {self.bucket.url}. Wait for it to end; if it was killed, its "
            f"lock is free {self.seconds:.0f} seconds after its last renewal."
        )

    def _renew(self, ended: threading.Event, what: str) -> None:
        while not ended.wait(self.seconds / RENEWALS):
            content = self._content()
            with suppress(JanginError):  # the server is away: tried again, until the lease ends
                etag = self.bucket.replace(self.name, content, self._etag)
                if etag is None:
                    etag = self._renewed_unnoticed(content)
                if etag is None:
                    self._etag = ""
                    self.message(
                        f"another run has taken the lock on {what} in {self.bucket.url}, because "
                        "this one could not renew it. The one that is finished first is kept."
                    )
                    return
                self._etag = etag

    def _renewed_unnoticed(self, content: bytes) -> str | None:
        """The ETag of a renewal of which only the answer was lost."""
        present = self.bucket.read(self.name)
        return present[1] if present is not None and present[0] == content else None
