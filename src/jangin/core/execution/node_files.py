"""Files of the driver on a node that does not see its folders.

A node keeps what it has received by digest, for all processes and later runs, and gives each call a
folder in which the files have the paths of the driver. What a call writes there goes back with its
result. The other side is `transfer`.
"""

import fcntl
import hashlib
import io
import json
import os
import pickle
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jangin.core.digest import digest_file
from jangin.core.errors import JanginError, MachineError
from jangin.core.execution.nodes import sees
from jangin.core.execution.transfer import (
    INLINE_BYTES,
    BucketAccess,
    Content,
    Delivered,
    FolderAccess,
    Objects,
    Packed,
    Reference,
    fetch,
)
from jangin.core.store import LOCATION, disk_errors

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
