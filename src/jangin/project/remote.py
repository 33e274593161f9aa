"""A store that several machines share through an object store, by a URL such as `s3://bucket/a`."""

import hashlib
import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jangin.core.digest import digest_file
from jangin.core.errors import (
    ConfigError,
    JanginError,
    LockedStoreError,
    MachineError,
    StoreError,
    UnreadableStoreError,
)
from jangin.core.events import Progress
from jangin.core.execution.transfer import object_name
from jangin.core.store import LOCATION, MANIFEST, Artifact, Manifest

# Objects below a prefix of a bucket, on a server that speaks S3; writes may have a condition.
#
# obstore reads the usual environment variables: `AWS_ENDPOINT_URL`, `AWS_REGION`,
# `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`. Credentials that are in none
# of them, nor in the options, are those of botocore, if it is installed: profiles and roles.


URL = re.compile(r"s3://([^/\s]+)/?(\S*)")
BLOCK = 8 << 20
"""Bytes that one request sends or fetches at most."""
_MOST_PARTS = 9_000
"""S3 takes at most 10,000 parts of one object."""
_KEYS = frozenset(
    {
        "access_key_id",
        "skip_signature",
        "container_credentials_relative_uri",
        "container_credentials_full_uri",
        "web_identity_token_file",
    }
)
"""Settings that say where obstore gets credentials; some of the environment are for it alone."""
_METADATA = "169.254.169.254"
"""Where machines of AWS ask for their credentials; others have no such address."""
_HOW = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or `store_options` in the "
    "project file."
)
Options = Mapping[str, str | bool | int]


def open_bucket(url: str, options: Options) -> "Bucket":
    """The prefix of a bucket; nothing is sent yet.

    Raises: ConfigError: an option is unknown, or there are no credentials. MachineError: obstore is
    not installed.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ModuleNotFoundError as error:
        raise MachineError(
            f"store: {url} needs the package obstore. Install it with: pip install 'jangin[s3]'"
        ) from error
    match = URL.fullmatch(url)
    if match is None:
        raise ConfigError(f"store: {url!r} is no URL of a bucket. Write s3://BUCKET/PREFIX.")
    names = {name.lower().removeprefix("aws_"): str(value) for name, value in options.items()}
    environment = {
        name.lower().removeprefix("aws_"): value
        for name, value in os.environ.items()
        if name.startswith("AWS_") and value
    }
    plain = any(
        name.startswith("endpoint") and value.startswith("http://")
        for name, value in {**environment, **names}.items()
    )
    given: dict[str, Any] = {}
    if not _KEYS & {*names, *environment}:
        given["credential_provider"] = _provider(url)
    try:
        store = S3Store(
            match[1],
            prefix=match[2].strip("/") or None,
            config=dict(options),
            client_options={"allow_http": plain, "connect_timeout": "5s", "timeout": "120s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
            **given,
        )
    except (BaseError, ValueError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"store: {url} cannot be opened: {reason}. Correct `store_options`."
        ) from error
    return Bucket(store, url)


def _provider(url: str) -> "Callable[[], dict[str, Any]] | None":
    """Gives the credentials that botocore knows; None without botocore."""
    try:
        import botocore.exceptions
        import botocore.session
    except ModuleNotFoundError:
        return None
    try:
        credentials = botocore.session.Session().get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise ConfigError(f"there are no credentials for {url}: {error}. {_HOW}") from error
    if credentials is None:
        raise ConfigError(f"there are no credentials for {url}. {_HOW}")

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # Asked again after this time; botocore renews them where they expire.
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }

    return provide


@dataclass(frozen=True, slots=True)
class Bucket:
    """Objects by their names below a prefix.

    Every method raises `StoreError` where the server cannot be reached, and `ConfigError` where
    it has no such bucket or refuses the credentials.
    """

    store: Any
    """An object store of obstore."""
    url: str

    def read(self, name: str) -> tuple[bytes, str] | None:
        """(content, ETag) of an object, or None."""
        import obstore

        with suppress(FileNotFoundError), self._answers():
            result = obstore.get(self.store, name)
            return bytes(result.bytes()), str(result.meta["e_tag"])
        return None

    def create(self, name: str, content: bytes) -> str | None:
        """Write an object that does not exist yet; returns its ETag, or None if it exists."""
        return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, etag: str) -> str | None:
        """Write an object that still has this ETag; returns the new one, or None if it changed."""
        return self._put(name, content, {"e_tag": etag})

    def _put(self, name: str, content: bytes, mode: Any) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with suppress(AlreadyExistsError, PreconditionError), self._answers():
            return str(obstore.put(self.store, name, content, mode=mode)["e_tag"])
        return None

    def size(self, name: str) -> int | None:
        """Bytes of an object, or None where there is none."""
        import obstore

        with suppress(FileNotFoundError), self._answers():
            return int(obstore.head(self.store, name)["size"])
        return None

    def changed(self, name: str) -> datetime:
        """When an object was last written, by the clock of the server."""
        import obstore

        with self._answers():
            moment: datetime = obstore.head(self.store, name)["last_modified"]
        return moment

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whether it exists or not."""
        import obstore

        with self._answers():
            obstore.put(self.store, name, content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        import obstore

        with self._answers():
            obstore.delete(self.store, name)

    def delete_below(self, folder: str, before: datetime | None = None) -> None:
        """Delete the objects below a folder, or those of them last written before a moment."""
        import obstore

        with self._answers():
            for batch in obstore.list(self.store, prefix=folder, chunk_size=1000):
                names = [
                    each["path"]
                    for each in batch
                    if before is None or each["last_modified"] < before
                ]
                if names:
                    obstore.delete(self.store, names)

    def upload(self, path: Path, name: str, sent: Callable[[int], None]) -> None:
        """Write an object from a file; half of one is never there. `sent` gets numbers of bytes."""
        import obstore

        size = path.stat().st_size
        if size <= BLOCK:
            self.write(name, path.read_bytes())
            sent(size)
            return
        step = max(BLOCK, size // _MOST_PARTS + 1)
        with path.open("rb") as stream, self._answers():

            def blocks() -> Iterator[bytes]:
                while block := stream.read(step):
                    yield block
                    sent(len(block))

            obstore.put(self.store, name, blocks(), chunk_size=step, max_concurrency=3)

    def download(self, name: str, size: int, path: Path, received: Callable[[int], None]) -> str:
        """Write an object of `size` bytes to a file; returns the sha256 of what was received.

        Raises `FileNotFoundError` where there is no such object.
        """
        import obstore

        digest = hashlib.sha256()
        with path.open("wb") as stream:
            for start in range(0, size, BLOCK):
                with self._answers():
                    end = min(start + BLOCK, size)
                    block = bytes(obstore.get_range(self.store, name, start=start, end=end))
                stream.write(block)
                digest.update(block)
                received(len(block))
        return digest.hexdigest()

    def check_conditions(self) -> None:
        """Try that the server honours conditional writes.

        Some servers ignore the conditions, and then two runs could overwrite each other's results.

        Raises: ConfigError: it does not. StoreError: it cannot be reached.
        """
        name = f"probe-{secrets.token_hex(8)}"
        first = self.create(name, b"1")
        try:
            honoured = (
                first is not None
                and self.create(name, b"2") is None
                and (second := self.replace(name, b"3", first)) is not None
                and self.replace(name, b"4", first) is None
                and self.read(name) == (b"3", second)
            )
        finally:
            with suppress(JanginError):  # keys that may not delete: the next line matters more
                self.delete(name)
        if not honoured:
            raise ConfigError(
                f"the server of {self.url} ignores the conditions of writes (If-None-Match and "
                "If-Match), so two runs could overwrite each other's results. Use a server that "
                "honours them, or leave out `store`."
            )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn errors of the server or the network into ours, except failed preconditions."""
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            NotSupportedError,
            PermissionDeniedError,
            PreconditionError,
            UnauthenticatedError,
        )

        try:
            yield
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise ConfigError(
                    f"{self.url}: there is no such bucket. Create it, or correct `store` in the "
                    "project file."
                ) from error
            raise
        except NotSupportedError as error:
            raise StoreError(f"the server of {self.url} lacks this: {_reason(error)}.") from error
        except (UnauthenticatedError, PermissionDeniedError) as error:
            raise ConfigError(
                f"the server of {self.url} refuses the credentials: {_reason(error)}. They must "
                "allow to list, read, write and delete objects there."
            ) from error
        except BaseError as error:
            if _METADATA in str(error):
                raise ConfigError(f"there are no credentials for {self.url}. {_HOW}") from error
            raise StoreError(
                f"{self.url} cannot be reached: {_reason(error)}. Check the endpoint and the "
                "network and run again; finished work is kept on this machine."
            ) from error


def _reason(error: Exception) -> str:
    """The message of a server or of the network in the long text of obstore."""
    text = str(error)
    said = re.search(r"<Message>([^<]+)</Message>", text)
    if said is not None:
        return said[1].strip().rstrip(".")
    kind = re.search(r"kind: (Connect|Timeout)", text)
    if kind is not None:
        return {"Connect": "no connection", "Timeout": "no answer in time"}[kind[1]]
    first = text.strip().partition("\n")[0]
    return first.rpartition(" - ")[2].strip().rstrip(".:")[:200]


# The lock on an artifact that several machines build: an object that its holder keeps renewing.
#
# Every change is a conditional write, so only one of two takers gets it. Whether a holder is alive
# is told by the server's own clock, so the clocks of the machines need not agree. A holder that
# was suspended for longer than the lease may lose it; then two machines do the same work, and only
# one of them publishes it.


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


# Finished artifacts in a bucket, for all machines that name it in `store`.
#
#     <stage>/<key>.json          manifest, and digest and size of each file; written last, once
#     objects/<xx>/<sha256>       bytes of a file, by their digest
#     locks/<stage>/<key>.json    who works on a key
#
# An artifact is there as soon as its manifest is, whose write fails if there is one already.
# Objects are named by their content: an upload that was interrupted continues with what is
# missing, and equal files of several artifacts are there once. A download is checked against the
# digest.


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


class ArtifactRecord(BaseModel):
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
    _records: dict[tuple[str, str], ArtifactRecord] = field(default_factory=dict)

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
        self, record: ArtifactRecord, folder: Path, name: str, received: Callable[[int], None]
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
        record = ArtifactRecord(
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

    def _known(self, record: ArtifactRecord) -> Manifest:
        self._records[record.manifest.stage, record.manifest.key] = record
        return record.manifest

    def _read(self, stage: str, key: str) -> tuple[ArtifactRecord | None, str]:
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
            return ArtifactRecord.model_validate(content), present[1]
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


def _lacking(record: ArtifactRecord, folder: Path, name: str) -> list[str]:
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
