"""Finished artifacts in a bucket, for all machines that name it in `store`.

    <stage>/<key>.json          manifest, and digest and size of each file; written last, once
    objects/<xx>/<sha256>       bytes of a file, by their digest
    locks/<stage>/<key>.json    who works on a key

An artifact is there as soon as its manifest is, whose write fails if there is one already. Objects
are named by their content: an upload that was interrupted continues with what is missing, and
equal files of several artifacts are there once. A download is checked against the digest.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jangin.core.digest import digest_file
from jangin.core.errors import StoreError, UnreadableStoreError
from jangin.core.events import Progress
from jangin.core.execution.transfer import object_name
from jangin.core.store import LOCATION, MANIFEST, Artifact, Manifest
from jangin.project.remote.bucket import Bucket, Options, open_bucket
from jangin.project.remote.lease import LEASE_SECONDS, Lease

FORMAT = 1
_FETCHING = ".fetching-"
"""Beginning of the name of a file while it is downloaded."""
_KILLED_SECONDS = 3600
"""Age of such a file from which on its download was killed."""
_AT_ONCE = 4
"""Files that are sent or received at the same time, each a few blocks at once."""
_MEGABYTE = 1_000_000


class StoredFile(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int

    @property
    def object(self) -> str:
        """Name of the object with its bytes."""
        return object_name(self.sha256)


class Record(BaseModel):
    """The object that makes an artifact visible."""

    model_config = ConfigDict(frozen=True)

    format: int
    manifest: Manifest
    objects: dict[str, StoredFile]
    """By the path inside the artifact."""
    location: str = ""
    """Folder or file outside the store that the artifact refers to; machines without it cannot use
    the artifact."""


@dataclass(slots=True)
class Exchange:
    """The `Remote` of a store at `root`, behind a URL; connects when it is first needed."""

    url: str
    options: Options
    root: Path
    progress: Progress
    open: Callable[[str, Options], Bucket] = open_bucket
    lease_seconds: float = LEASE_SECONDS
    downloaded: int = 0
    """Bytes since it was opened."""
    _bucket: Bucket | None = None
    _records: dict[tuple[str, str], Record] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        """The opened bucket; raises `ConfigError` where it cannot be."""
        if self._bucket is None:
            self._bucket = self.open(self.url, self.options)
        return self._bucket

    def check(self) -> None:
        """Raise `StoreError` or `ConfigError` where the server is away or ignores conditions."""
        self.bucket.check_conditions()

    def find(self, stage: str, key: str) -> Manifest | None:
        """The manifest of an artifact that is there and can be used on this machine."""
        record = self._records.get((stage, key)) or self._read(stage, key)[0]
        if record is None or (record.location and not Path(record.location).exists()):
            return None
        self._records[stage, key] = record
        return record.manifest

    def missing(self, manifest: Manifest, folder: Path) -> int:
        """Bytes that `download` would receive for an artifact that `find` returned."""
        record = self._records[manifest.stage, manifest.key]
        return sum(record.objects[name].bytes for name in _lacking(record, folder, ""))

    def download(self, manifest: Manifest, folder: Path, name: str) -> None:
        """Download what `folder` lacks of an artifact: a file or table, or all with its manifest.

        Raises: StoreError: the server cannot be reached, lost an object, or has a damaged one.
        """
        record = self._records[manifest.stage, manifest.key]
        lacking = _lacking(record, folder, name)
        total = sum(record.objects[each].bytes for each in lacking)
        with _meter(self.progress, f"download {manifest.stage}", total) as received:
            _in_threads(lambda each: self._download(record, folder, each, received), lacking)
        self.downloaded += total
        if not name and not (folder / MANIFEST).exists():
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.rglob(f"{_FETCHING}*"):
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > _KILLED_SECONDS:
                        left.unlink()
            with _replacing(folder / MANIFEST) as partial:
                partial.write_text(record.manifest.model_dump_json(indent=2))

    def _download(
        self, record: Record, folder: Path, name: str, received: Callable[[int], None]
    ) -> None:
        stored, manifest = record.objects[name], record.manifest
        source = f"{self.url.rstrip('/')}/{stored.object}"
        remedy = (
            f"Delete {self.url.rstrip('/')}/{_name(manifest.stage, manifest.key)} and run again: "
            "a machine that has the artifact uploads it again, any other rebuilds it."
        )
        with _replacing(folder / name) as partial:
            try:
                digest = self.bucket.download(stored.object, stored.bytes, partial, received)
            except FileNotFoundError as error:
                raise StoreError(
                    f"{source} is missing, the file {name} of {manifest.stage}. {remedy}"
                ) from error
            if digest != stored.sha256:
                raise StoreError(
                    f"{source} is damaged, the file {name} of {manifest.stage}. {remedy}"
                )

    def publish(self, artifact: Artifact, *, replaces: bool = False) -> Manifest:
        """Upload an artifact, and return the manifest that is there now."""
        manifest = artifact.manifest
        before, etag = self._read(manifest.stage, manifest.key)
        if before is not None and (before.manifest.content == manifest.content or not replaces):
            return self._known(before)
        objects = {name: _stored(path) for name, path in sorted(_files(artifact.folder))}
        by_digest = {stored.sha256: (name, stored) for name, stored in objects.items()}
        total = sum(stored.bytes for _, stored in by_digest.values())
        with _meter(self.progress, f"upload {manifest.stage}", total) as sent:
            _in_threads(
                lambda digest: self._upload(artifact.folder, *by_digest[digest], sent), by_digest
            )
        record = Record(
            format=FORMAT,
            manifest=manifest,
            objects=objects,
            location=_location(artifact.folder),
        )
        content = record.model_dump_json(indent=2).encode()
        name = _name(manifest.stage, manifest.key)
        if etag:
            written = self.bucket.replace(name, content, etag)
        else:
            written = self.bucket.create(name, content)
        if written is None:
            first, _ = self._read(manifest.stage, manifest.key)
            return self._known(first or record)
        return self._known(record)

    def _upload(
        self, folder: Path, name: str, stored: StoredFile, sent: Callable[[int], None]
    ) -> None:
        if self.bucket.size(stored.object) == stored.bytes:
            sent(stored.bytes)  # by an upload that was interrupted, or by another artifact
            return
        self.bucket.upload(folder / name, stored.object, sent)

    def lock(self, stage: str, key: str) -> AbstractContextManager[None]:
        """Hold this key for one process; raises `LockedStoreError`."""
        name = f"locks/{_name(stage, key)}"
        message = self.progress.message
        return Lease(self.bucket, name, self.root, message, self.lease_seconds).held(stage)

    def _known(self, record: Record) -> Manifest:
        self._records[record.manifest.stage, record.manifest.key] = record
        return record.manifest

    def _read(self, stage: str, key: str) -> tuple[Record | None, str]:
        """(what is there now, its ETag)."""
        name = _name(stage, key)
        present = self.bucket.read(name)
        if present is None:
            return None, ""
        where = f"{self.url.rstrip('/')}/{name}"
        try:
            content: Any = json.loads(present[0])
            if content["format"] > FORMAT:
                raise UnreadableStoreError(
                    f"{where} was written by a newer jangin (format {content['format']}, this one "
                    f"reads up to {FORMAT}). Upgrade jangin, or use another prefix in `store`."
                )
            return Record.model_validate(content), present[1]
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise UnreadableStoreError(
                f"{where} is damaged. Delete it and run again; a machine that has the artifact "
                "uploads it again."
            ) from error


def _name(stage: str, key: str) -> str:
    return f"{stage}/{key}.json"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path inside the artifact, file) of all but the manifest."""
    for path in folder.rglob("*"):
        if path.is_file() and path != folder / MANIFEST and not path.name.startswith(_FETCHING):
            yield path.relative_to(folder).as_posix(), path


def _stored(path: Path) -> StoredFile:
    return StoredFile(sha256=digest_file(path), bytes=path.stat().st_size)


def _location(folder: Path) -> str:
    file = folder / LOCATION
    return str(json.loads(file.read_text())["path"]) if file.exists() else ""


def _lacking(record: Record, folder: Path, name: str) -> list[str]:
    """Files that are not there, of all or of one file or table."""
    wanted = [n for n in record.objects if not name or n == name or n.startswith(f"{name}/")]
    return [each for each in wanted if not (folder / each).exists()]


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write, which gets its name only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_FETCHING}{secrets.token_hex(4)}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _in_threads(work: Callable[[str], None], names: Mapping[str, Any] | list[str]) -> None:
    """Do the work for all names, several at once; raises its first error."""
    if len(names) < 2:
        for name in names:
            work(name)
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        try:
            for result in [threads.submit(work, name) for name in names]:
                result.result()
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _meter(progress: Progress, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in megabytes, where there are enough of them; gets numbers of bytes from threads."""
    if total < 10 * _MEGABYTE:
        yield lambda _bytes: None
        return
    bar = progress.start(f"{label} (MB)", total // _MEGABYTE)
    counting, done = threading.Lock(), 0

    def add(count: int) -> None:
        nonlocal done
        with counting:
            before, done = done, done + count
            progress.advance(bar, done // _MEGABYTE - before // _MEGABYTE)

    try:
        yield add
    finally:
        progress.stop(bar)
