"""Files of the driver for nodes that do not see its folders, by way of a bucket.

Work and its items name files and folders by absolute `Path`s. For such nodes the driver sends with
each path the digests of what is there. Small files travel with them; a large one is an object of
the bucket: that of a finished artifact, or one below the prefix of the run, which is deleted with
the run. What a call wrote on a node comes back in the same way and gets its name on the driver
when it is complete. The other side is the second part of this file.
"""

import fcntl
import hashlib
import io
import json
import os
import pickle
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jangin.core.digest import digest_file
from jangin.core.errors import JanginError, MachineError, StoreError
from jangin.core.execution.nodes import StoreProbe, sees
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


# Files of the driver on a node that does not see its folders.
#
# A node keeps what it has received by digest, for all processes and later runs, and gives each
# call a folder in which the files have the paths of the driver. What a call writes there goes back
# with its result.


_UNUSED_SECONDS = 7 * 86_400
"""How long a file is kept that no call uses."""
_BEGUN_SECONDS = 3600
"""Age from which on a folder of calls that is not locked was left by a process that was killed."""
PROBE = "probe"
"""Name of an object that the driver writes for the nodes to read."""
SEEN = "seen-by-"
"""Beginning of the name of an object that a node writes for the driver to see."""


def try_bucket(bucket: BucketAccess, node: str) -> str:
    """Why this node, which has this id, cannot use the bucket, as a sentence; empty where it can.

    As work for a node.
    """
    try:
        objects = bucket.open()
        if objects.read(f"{bucket.prefix}/{PROBE}") is None:
            return f"It reads another bucket at {bucket.url}. Set the same AWS_ENDPOINT_URL there."
        objects.write(f"{bucket.prefix}/{SEEN}{node}", b"")
    except JanginError as error:
        return f"It cannot use {bucket.url} either: {error}"
    return ""


class NodeFiles:
    """Values of the driver in this process: its paths as they are, or with files of its own."""

    def __init__(self, access: FolderAccess, node: str) -> None:
        """On the node with this id.

        Raises: MachineError: it sees neither the folders of the driver nor a bucket.
        """
        self._bucket: Objects | None = None
        self._cache = Path(tempfile.gettempdir()) / f"jangin-files-{os.getuid()}"
        self._prefix = ""
        if node in access.sharing or sees(access.probe):
            return
        if access.bucket is None:
            raise MachineError(
                f"node {platform.node()} joined the cluster during the run and does not see the "
                f"store {Path(access.probe.folder).parent}. Run again to resume: what nodes see is "
                "looked at when a run begins."
            )
        self._bucket, self._prefix = access.bucket.open(), access.bucket.prefix
        with disk_errors(self._cache):
            self._cache.mkdir(mode=0o700, exist_ok=True)
            if self._cache.is_symlink() or self._cache.stat().st_uid != os.getuid():
                raise MachineError(
                    f"{self._cache} on node {platform.node()} belongs to another user. Delete it, "
                    "or set TMPDIR there."
                )
            self._calls = self._own_folder()

    def loaded(self, value: Any) -> tuple[Any, "CallFolder | None"]:
        """A value of the driver, and the folder of its files if it names any here."""
        if not isinstance(value, Packed):
            return value, None
        if self._bucket is None:
            return _Unpickler(value.content, lambda reference: Path(reference.path)).load(), None
        folder = CallFolder(Path(tempfile.mkdtemp(dir=self._calls)), self)
        return _Unpickler(value.content, folder.local).load(), folder

    def called(self, call: Callable[[Any], Any], packed: Any, work: "CallFolder | None") -> Any:
        """The result of a call, with what it wrote where the driver does not see that."""
        item, own = self.loaded(packed)
        folders = [folder for folder in (work, own) if folder is not None]
        try:
            result = call(item)
            if not folders:
                return result
            files = [self._content(*each) for folder in folders for each in folder.written()]
            return Delivered(result, tuple(files))
        finally:
            if work is not None:
                work.empty()
            if own is not None:
                shutil.rmtree(own.root, ignore_errors=True)

    def link(self, content: Content, path: Path) -> None:
        """Give these bytes this path; they are received first unless this node has them."""
        if self._bucket is None:
            raise ValueError("the files of the driver are seen here")
        kept = self._cache / "files" / content.sha256[:2] / content.sha256
        with disk_errors(kept), self._locked(content.sha256[:2]):
            if not kept.exists():
                partial = kept.with_name(f"{kept.name}.partial")
                fetch(content, self._bucket, partial)
                # Calls share it: one that would write into it gets an error instead.
                partial.chmod(0o444)
                partial.replace(kept)
            os.utime(kept)
            path.unlink(missing_ok=True)
            os.link(kept, path)

    def _content(self, name: str, path: Path) -> Content:
        """What the driver needs to know of a file that a call wrote."""
        size = path.stat().st_size
        if size <= INLINE_BYTES or self._bucket is None:
            data = path.read_bytes()
            return Content(name, hashlib.sha256(data).hexdigest(), size, data, "")
        sha256 = digest_file(path)
        target = f"{self._prefix}/{sha256}"
        self._bucket.upload(path, target, lambda _bytes: None)
        return Content(name, sha256, size, None, target)

    @contextmanager
    def _locked(self, part: str) -> Iterator[None]:
        """Hold a part of what is kept; files that nothing has used for a week are deleted."""
        folder = self._cache / "files" / part
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in folder.iterdir():
                if path.stat().st_mtime < time.time() - _UNUSED_SECONDS and path.name != "lock":
                    path.unlink()
            yield

    def _own_folder(self) -> Path:
        """A folder for the calls of this process; those of ended processes are deleted."""
        every = self._cache / "calls"
        every.mkdir(exist_ok=True)
        for folder in every.iterdir():
            with suppress(OSError), (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.stat().st_mtime < time.time() - _BEGUN_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        own = Path(tempfile.mkdtemp(dir=every))
        # Never closed, and so held as long as this process lives.
        fcntl.flock(os.open(own / "lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
        return own


class CallFolder:
    """Files at the paths of the driver below a folder of this node."""

    def __init__(self, root: Path, files: NodeFiles) -> None:
        self.root = root
        self._files = files
        self._inputs: dict[Path, int] = {}
        """{path: inode} of what was received."""

    def local(self, reference: Reference) -> Path:
        """The path here of a path of the driver."""
        path = self._below(reference.path)
        (path if reference.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        for content in reference.files:
            target = path / content.name if content.name else path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.link(content._replace(name=_joined(reference.path, content.name)), target)
            self._inputs[target] = target.stat().st_ino
        if reference.weights is not None:
            self._relocate(path / LOCATION, self.local(reference.weights))
        return path

    def written(self) -> list[tuple[str, Path]]:
        """(path of the driver, path here) of each file that a call wrote."""
        return [
            (f"/{path.relative_to(self.root).as_posix()}", path)
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and self._inputs.get(path) != path.stat().st_ino
        ]

    def empty(self) -> None:
        """Delete what calls wrote."""
        for _, path in self.written():
            path.unlink()

    def _below(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _relocate(self, location: Path, weights: Path) -> None:
        """Let an artifact refer to the weights here."""
        source = json.loads(location.read_text())
        location.unlink()
        location.write_text(json.dumps(source | {"path": str(weights)}))
        self._inputs[location] = location.stat().st_ino


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if name else folder


class _Unpickler(pickle.Unpickler):
    """Turns references into paths."""

    def __init__(self, content: bytes, local: Callable[[Reference], Path]) -> None:
        super().__init__(io.BytesIO(content))
        self._local = local

    def persistent_load(self, reference: Reference) -> Path:
        """The path here."""
        return self._local(reference)
