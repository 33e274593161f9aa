"""Pictures of pages and places of their words, kept in the store beside the artifacts."""

import itertools
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jangin.project.setup.housekeeping import PICTURES

FOLDER = PICTURES
"""Folder in the store. It may be deleted at any time: all of it is made again when needed."""
MOST_BYTES = 1_000_000_000
TRIM_EVERY = 200
"""Files that are written between two looks at the size of the folder."""


@dataclass(slots=True)
class PictureCache:
    """Files by the id of a document and a name; a file that cannot be kept is made again."""

    store: Path
    """The project's store."""
    most_bytes: int = MOST_BYTES
    _writes: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def get(self, document_id: str, name: str) -> bytes | None:
        """The content of a file, or None."""
        try:
            return (self.store / FOLDER / document_id / name).read_bytes()
        except OSError:
            return None

    def put(self, document_id: str, name: str, data: bytes) -> None:
        """Keep a file, whole or not at all; nothing happens where the disk is full or read-only."""
        folder = self.store / FOLDER / document_id
        path = folder / f".{name}.{secrets.token_hex(4)}"
        try:
            if not self.store.is_dir():
                return
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.replace(path, folder / name)  # noqa: PTH105 - overwrites without a gap
            if next(self._writes) % TRIM_EVERY == 0:
                self.trim()
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Delete the oldest files until the rest takes no more than `most_bytes`."""
        files = [path for path in (self.store / FOLDER).glob("*/*") if path.is_file()]
        aged = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in files)
        excess = sum(size for _, size, _ in aged) - self.most_bytes
        for _, size, path in aged:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
