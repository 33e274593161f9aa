"""Files of the driver for nodes that do not see its folders, by way of a bucket.

Work and its items name files and folders by absolute `Path`s. For such nodes the driver sends with
each path the digests of what is there. Small files travel with them; a large one is an object of
the bucket: that of a finished artifact, or one below the prefix of the run, which is deleted with
the run. What a call wrote on a node comes back in the same way and gets its name on the driver
when it is complete. The other side is `node_files`.
"""

import hashlib
import io
import json
import pickle
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jangin.core.digest import digest_file
from jangin.core.errors import JanginError, StoreError
from jangin.core.execution.nodes import StoreProbe
from jangin.core.store import LOCATION, disk_errors

INLINE_BYTES = 1 << 20
"""Largest file that travels beside the item or the result instead of through the bucket."""
FOLDER = "transfer"
"""Beginning of the names of objects that only live as long as a run."""
_KILLED_AGE = timedelta(days=14)
"""Age from which on an object of a run that was killed is deleted by another run."""


class Objects(Protocol):
    """A bucket; see `project.remote.bucket.Bucket`, also for the errors."""

    def read(self, name: str) -> tuple[bytes, str] | None:
        """(content, ETag) of an object, or None."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of an object, or None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whether it exists or not."""
        ...

    def upload(self, path: Path, name: str, sent: Callable[[int], None]) -> None:
        """Write an object from a file; half of one is never there."""
        ...

    def download(self, name: str, size: int, path: Path, received: Callable[[int], None]) -> str:
        """Write an object to a file; returns its sha256. Raises `FileNotFoundError`."""
        ...

    def delete_below(self, folder: str, before: datetime | None = None) -> None:
        """Delete the objects whose names begin with this folder, or the older ones of them."""
        ...


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """What a node needs to know of the bucket of a run."""

    url: str
    open: Callable[[], Objects]
    """Opens it with the credentials of the machine on which it is called."""
    prefix: str
    """Beginning of the names of the objects of this run."""


@dataclass(frozen=True, slots=True)
class FolderAccess:
    """What a node needs to know of the driver's folders."""

    probe: StoreProbe
    sharing: frozenset[str]
    """Ids of the nodes that see them; of another node, the probe tells."""
    bucket: BucketAccess | None = None
    """For nodes that do not; None where all of them did when the run began."""


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """What nodes need of a project."""

    store: Path
    file: Path
    bucket: BucketAccess | None = None
    """Where it shares its store, for nodes that do not see the folder."""
    needs_folder: Sequence[str] = ()
    """What a run will do that only nodes which see it can, as beginnings of sentences."""
    digest: Callable[[Path], str] = digest_file
    """sha256 of a file."""

    @property
    def url(self) -> str:
        """URL of the bucket, or empty."""
        return self.bucket.url if self.bucket else ""


class Content(NamedTuple):
    """The bytes of a file."""

    name: str
    """Path below the folder that is sent, empty for a file; of a result, the driver's path."""
    sha256: str
    size: int
    data: bytes | None
    """Those of a small file."""
    object: str
    """Where those of a large one are."""


class Reference(NamedTuple):
    """A path of the driver and what is there."""

    path: str
    is_folder: bool
    files: tuple[Content, ...]
    """Those of a folder, or the file itself; none of a path that the work will write."""
    weights: "Reference | None" = None
    """What the location in a folder of an artifact refers to."""


class Packed(NamedTuple):
    """A pickled value whose paths are `Reference`s."""

    content: bytes


class Delivered(NamedTuple):
    """The result of a call on a node that does not see the driver's folders."""

    result: Any
    files: tuple[Content, ...]
    """What the call wrote."""


def bucket_access(url: str, opens: Callable[[], Objects]) -> BucketAccess:
    """Access for one run."""
    return BucketAccess(url, opens, f"{FOLDER}/{secrets.token_hex(8)}")


def object_name(sha256: str) -> str:
    """Name of the object with these bytes, if a finished artifact has them."""
    return f"objects/{sha256[:2]}/{sha256}"


@dataclass(slots=True)
class Transfer:
    """The driver's side."""

    bucket: Objects
    prefix: str
    digest: Callable[[Path], str]
    _objects: dict[str, str] = field(default_factory=dict)
    """{sha256: object} of what is known to be in the bucket."""

    def pack(self, value: Any) -> Packed:
        """The value for a node, with the files that its paths name.

        Raises: StoreError, ConfigError: a file cannot be sent.
        """
        stream = io.BytesIO()
        _Pickler(stream, self._reference).dump(value)
        return Packed(stream.getvalue())

    def take(self, delivered: Delivered) -> Any:
        """The result, once the files that belong to it are here.

        Raises: StoreError: one cannot be written, or is missing or damaged in the bucket.
        """
        for content in delivered.files:
            target = Path(content.name)
            partial_file = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    fetch(content, self.bucket, partial_file)
                    partial_file.replace(target)
                finally:
                    partial_file.unlink(missing_ok=True)
            if content.object:
                self._objects[content.sha256] = content.object
        return delivered.result

    def _reference(self, path: Path) -> Reference:
        if not path.is_dir():
            return Reference(str(path), False, (self._content("", path),) if path.exists() else ())
        files = tuple(self._content(name, each) for name, each in _below(path))
        location = path / LOCATION
        weights = None
        if location.exists():
            weights = self._reference(Path(json.loads(location.read_text())["path"]))
        return Reference(str(path), True, files, weights)

    def _content(self, name: str, path: Path) -> Content:
        size = path.stat().st_size
        if size <= INLINE_BYTES:
            data = path.read_bytes()
            return Content(name, hashlib.sha256(data).hexdigest(), len(data), data, "")
        sha256 = self.digest(path)
        if sha256 not in self._objects:
            self._objects[sha256] = self._send(path, sha256, size)
        return Content(name, sha256, size, None, self._objects[sha256])

    def _send(self, path: Path, sha256: str, size: int) -> str:
        name = object_name(sha256)
        if self.bucket.size(name) != size:
            name = f"{self.prefix}/{sha256}"
            self.bucket.upload(path, name, lambda _bytes: None)
        return name


@contextmanager
def opened_transfer(access: BucketAccess, digest: Callable[[Path], str]) -> Iterator[Transfer]:
    """The driver's side for one run.

    At the end what was sent is deleted, and what runs that were killed long ago have left.
    """
    bucket = access.open()
    try:
        yield Transfer(bucket, access.prefix, digest)
    finally:
        with suppress(JanginError):  # what the run has made is complete
            bucket.delete_below(access.prefix)
            bucket.delete_below(FOLDER, datetime.now(UTC) - _KILLED_AGE)


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


class _Pickler(pickle.Pickler):
    """Asks what is at each absolute path that it meets, once."""

    def __init__(self, stream: io.BytesIO, describe: Callable[[Path], Reference]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._describe = describe
        self._described: dict[Path, Reference] = {}

    def persistent_id(self, value: Any) -> Reference | None:
        """What the unpickler gets in place of this value."""
        if not isinstance(value, Path) or not value.is_absolute():
            return None
        if value not in self._described:
            self._described[value] = self._describe(value)
        return self._described[value]


def fetch(content: Content, bucket: Objects, path: Path) -> None:
    """Write the bytes to a file; raises `StoreError` where they are missing or damaged."""
    try:
        if content.data is not None:
            path.write_bytes(content.data)
            sha256 = hashlib.sha256(content.data).hexdigest()
        else:
            sha256 = bucket.download(content.object, content.size, path, lambda _bytes: None)
    except FileNotFoundError as error:
        raise StoreError(
            f"{content.object} is missing in the bucket, where it was for {content.name or path}. "
            "Run again to resume; the file is sent again."
        ) from error
    if sha256 != content.sha256:
        raise StoreError(
            f"{content.name or path} arrived damaged or was changed while it was sent. Run again "
            "to resume."
        )
