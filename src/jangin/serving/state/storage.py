"""The bytes of files: in a folder, or anywhere that fsspec reaches.

Names in the storage are ids that the server generated; no name of a client gets here.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from jangin.core.errors import ConfigError, MachineError, StoreError
from jangin.serving.state.settings import ServerSettings

CHUNK = 1 << 20
BLOCK = 8 << 20
"""Bytes that are sent or fetched at once: S3 takes at most 10,000 parts of at least 5 MiB."""
PARTIAL = ".partial"
"""Ending of the name of a file that is being written."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}(\.partial)?")
_TIMES = ("LastModified", "mtime", "last_modified", "created")
"""Where filesystems of fsspec keep the time of a file."""


class Storage(Protocol):
    """Bytes by id."""

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A stream for new bytes; they are there only if the block ends without an error."""
        ...

    def reader(self, name: str) -> BinaryIO:
        """A stream of the bytes, which the caller closes; raises `FileNotFoundError`."""
        ...

    def delete(self, name: str) -> None:
        """Delete the bytes; no error if there are none."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give bytes another name, and the time of now; no error if there are none."""
        ...

    def names(self) -> Iterator[tuple[str, float]]:
        """(name, unix time of its last change) of everything that is stored."""
        ...

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """A file of this machine with the bytes, to read only, until the end of the block."""
        ...


def is_remote(settings: ServerSettings) -> bool:
    """True for an fsspec URL, False for a folder."""
    return "://" in settings.storage and not settings.storage.startswith("file://")


def open_storage(settings: ServerSettings) -> Storage:
    """The storage of the settings; raises `ConfigError` or `MachineError` if there is none."""
    if is_remote(settings):
        return _remote(settings)
    return FolderStorage(folder_of_storage(settings))


def folder_of_storage(settings: ServerSettings) -> Path:
    """The folder of a storage that is one."""
    return Path(settings.storage.removeprefix("file://") or settings.folder / "files")


class FolderStorage:
    """A folder with one file per id, in sub-folders by the end of the id."""

    def __init__(self, folder: Path) -> None:
        """Raises `StoreError` where the folder cannot be created."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the storage {folder} cannot be written: {error.strerror}. Correct `storage`."
            ) from error

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A stream for new bytes."""
        target = self._path(name)
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(name + PARTIAL)
        try:
            with partial.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def reader(self, name: str) -> BinaryIO:
        """A stream of the bytes."""
        return self._path(name).open("rb")

    def delete(self, name: str) -> None:
        """Forget the bytes."""
        self._path(name).unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> None:
        """Rename the file."""
        target = self._path(new)
        target.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            os.utime(self._path(old).rename(target))

    def names(self) -> Iterator[tuple[str, float]]:
        """Names and times; those of unfinished writes included."""
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):
                yield path.name, path.stat().st_mtime

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self._path(name)

    def _path(self, name: str) -> Path:
        checked = _checked(name)
        return self._folder / checked.removesuffix(PARTIAL)[-2:].lower() / checked


class StorageAwayError(StoreError):
    """A storage elsewhere does not answer, or refuses; the same request may succeed later."""


class RemoteStorage:
    """Bytes behind an fsspec URL, such as `s3://bucket/jangin`; failures are `StorageAwayError`."""

    def __init__(self, filesystem: Any, root: str, cache: Path) -> None:
        """`cache`: folder for local copies."""
        self._files = filesystem
        self._root = root.rstrip("/")
        self._cache = cache

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A stream for new bytes."""
        path = self._path(name)
        with _answering():
            stream = self._files.open(path, "wb", block_size=BLOCK)
        try:
            yield cast("BinaryIO", _Guarded(stream))
            with _answering():
                stream.close()
        except BaseException:
            # The first error is raised; the storage that caused it may fail again here.
            with suppress(Exception):
                _abandon(stream)
            with suppress(Exception):
                self.delete(name)
            raise

    def reader(self, name: str) -> BinaryIO:
        """A stream of the bytes."""
        with _answering():
            stream = self._files.open(self._path(name), "rb", block_size=BLOCK)
        return cast("BinaryIO", _Guarded(stream))

    def delete(self, name: str) -> None:
        """Forget the bytes."""
        with _answering(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def rename(self, old: str, new: str) -> None:
        """Copy the bytes, then delete them, as object stores rename."""
        with _answering(), suppress(FileNotFoundError):
            self._files.copy(self._path(old), self._path(new))
            self._files.rm_file(self._path(old))

    def names(self) -> Iterator[tuple[str, float]]:
        """Names and times, where the filesystem knows times."""
        with _answering():
            listed = self._files.find(self._root, detail=True)
        for path, details in listed.items():
            changed = next((details[key] for key in _TIMES if details.get(key)), None)
            if changed is not None:
                moment = changed.timestamp() if isinstance(changed, datetime) else float(changed)
                yield path.rpartition("/")[2], moment

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """A copy."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as folder:
            copy = Path(folder) / _checked(name)
            with self.reader(name) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
            yield copy

    def _path(self, name: str) -> str:
        return f"{self._root}/{_checked(name)}"


class _Guarded:
    """A stream of a filesystem, whose failures are those of the storage."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        with _answering():
            return int(self._stream.write(data))

    def read(self, size: int = -1) -> bytes:
        with _answering():
            return bytes(self._stream.read(size))

    def close(self) -> None:
        with _answering():
            self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        """Lines."""
        lines = iter(self._stream)
        while True:
            with _answering():
                line = next(lines, None)
            if line is None:
                return
            yield line

    def __enter__(self) -> "_Guarded":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what a filesystem raises, each its own errors, into `StorageAwayError`."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StorageAwayError(
            f"the storage of files failed: {reason}. Check that `storage` in server.yaml can be "
            "reached and that its keys allow to read, write and delete."
        ) from error


def _abandon(stream: Any) -> None:
    """End a write without its last block, so that the bytes never come into being."""
    try:
        stream.discard()
    finally:
        if hasattr(stream, "blocksize") and hasattr(stream, "forced"):  # fsspec's buffered file
            stream.closed = True  # else the garbage collector writes what is buffered
        else:
            stream.close()


def _remote(settings: ServerSettings) -> RemoteStorage:
    url = settings.storage
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MachineError(
            f"storage: {url} needs the package fsspec. Install it with: pip install fsspec"
        ) from error
    try:
        # Another process writes files, too: what a listing did not have may be there now.
        options = {"use_listings_cache": False, **settings.storage_options}
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"storage: {url} cannot be used: {error}. Correct `storage`.") from error
    try:
        with _answering(), suppress(FileExistsError):
            filesystem.mkdir(root, create_parents=False)
    except FileNotFoundError as error:
        raise ConfigError(
            f"storage: {url} is in a bucket or folder that does not exist. Create it, or correct "
            "`storage`."
        ) from error
    return RemoteStorage(filesystem, root, settings.folder / "storage-cache")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} is no id of the server.")
    return name
