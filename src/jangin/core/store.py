"""Content-addressed artifacts: a directory is complete if and only if it has a manifest.

    store/<stage>/<key16>/              a finished artifact, never changed again
    store/<stage>/<key16>.partial/      unfinished work; kept after a crash to resume from
    store/<stage>/<key16>.lock          held (flock) while a process works on that key

`key` identifies how an artifact is built (stage, version, config, inputs), `content` what came
out. Downstream keys use `content`, so a rebuild with an equal result invalidates nothing.
Files below `runtime/` (timings, machine) stay in the artifact but not in its content digest.

A store may have a `Remote` that it shares with the stores of other machines: the folder is then the
working copy, finished artifacts are published to the remote, and what is only there is downloaded
when it is read.
"""

import errno
import fcntl
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from jangin.core.digest import digest_file, digest_tree
from jangin.core.errors import DataError, LockedStoreError, StoreError, UnreadableStoreError
from jangin.core.parquet import digest_parts, digest_table

MANIFEST = "manifest.json"
RUNTIME = "runtime"
JOURNAL = "journal"
LOCATION = f"{RUNTIME}/location.json"
"""File of an artifact whose model stays in a folder of the machine that made it."""
TABLES = "tables"
"""Folder of a store with what is derived from its artifacts; made again when needed."""
TABLE = ".parquet"
"""Suffix of a table: a file, or a folder of parts whose digests are joined."""
FORMAT = 1
OUTPUTS = ".jangin-outputs"
"""In a folder of documents: what jangin wrote there, a path a line; no run reads it."""
_OUTPUTS_HEAD = (
    "# Files and folders that jangin wrote here, and review sheets that it took decisions from.\n"
    "# They are not read as documents. To have one read, delete its line.\n"
)


class Manifest(BaseModel):
    """How an artifact was built, from what, and the digest of every file in it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int
    stage: str
    version: int
    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, str]
    content: str
    summary: dict[str, Any]
    created_at: datetime


Fetch = Callable[[str], None]
"""Downloads the files of an artifact that this machine lacks: one file or table, `""` for all."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished, immutable directory and its manifest."""

    folder: Path
    """The directory, which lacks files while `fetch` has not downloaded them."""
    manifest: Manifest
    fetch: Fetch | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The directory with all its files, downloaded where it lacks some."""
        if self.fetch is not None:
            self.fetch("")
        return self.folder

    def file(self, name: str) -> Path:
        """A file or table, which need not exist; only this one is downloaded."""
        if self.fetch is not None:
            self.fetch(name)
        return self.folder / name


class Remote(Protocol):
    """Finished artifacts that several machines share, each of them there whole or not at all."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def check(self) -> None:
        """Raise a `JanginError` where it cannot be reached, or cannot keep two runs apart."""
        ...

    def find(self, stage: str, key: str) -> Manifest | None:
        """The manifest of an artifact that is there and can be used on this machine."""
        ...

    def missing(self, manifest: Manifest, folder: Path) -> int:
        """Bytes of an artifact that was found there and that `folder` lacks."""
        ...

    def download(self, manifest: Manifest, folder: Path, name: str) -> None:
        """Download what `folder` lacks of an artifact: a file or table, or all with its manifest.

        Raises: StoreError: the remote cannot be reached, lost a file, or has a damaged one.
        """
        ...

    def publish(self, artifact: Artifact, *, replaces: bool = False) -> Manifest:
        """Upload an artifact, and return the manifest that is there now.

        It is another one where a different machine was first, unless this one `replaces` it.
        """
        ...

    def lock(self, stage: str, key: str) -> AbstractContextManager[None]:
        """Hold this key for one process; raises `LockedStoreError`."""
        ...


@dataclass(frozen=True, slots=True)
class Store:
    """All artifacts of one project, under `root`."""

    root: Path
    remote: Remote | None = None

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact with this key, or None; its files may be on the remote only."""
        path = self.root / stage / key[:16]
        if not (path / MANIFEST).exists():
            manifest = self.remote.find(stage, key) if self.remote is not None else None
            return self._remote(path, manifest) if manifest is not None else None
        try:
            return _open(path)
        except UnreadableStoreError:
            shared = self.remote.find(stage, key) if self.remote is not None else None
            own = _manifest(path) if shared is not None else None
            if shared is None or own is None or own.content != shared.content:
                raise
            return self._remote(path, shared)

    def _remote(self, folder: Path, manifest: Manifest) -> Artifact:
        """An artifact of the remote, as it will be in `folder`."""
        remote = self.remote
        if remote is None:
            return Artifact(folder, manifest)

        def fetch(name: str) -> None:
            with disk_errors(folder):
                remote.download(manifest, folder, name)

        return Artifact(folder, manifest, fetch)

    def missing(self, artifact: Artifact) -> int:
        """Bytes that reading the whole artifact would download."""
        if self.remote is None or artifact.fetch is None:
            return 0
        return self.remote.missing(artifact.manifest, artifact.folder)

    def share(self, artifact: Artifact, *, replaces: bool = False) -> Artifact:
        """Publish an artifact that was built just now to the remote, if there is one.

        Returns that of another machine, in its place, where it was first with another content,
        so that all machines continue from the same one.
        """
        if self.remote is None:
            return artifact
        own = artifact.manifest
        self.remote.publish(artifact, replaces=replaces)
        manifest = self.remote.find(own.stage, own.key)
        if manifest is None or manifest.content == own.content:
            return artifact
        _set_aside(artifact.folder)
        return self._remote(artifact.folder, manifest)

    def offer(self, artifact: Artifact) -> str:
        """Publish an artifact that was here before; the remote, where that has another content."""
        if self.remote is None or artifact.fetch is not None:
            return ""
        present = self.remote.publish(artifact)
        return "" if present.content == artifact.manifest.content else self.remote.url

    def latest(self, stage: str) -> Artifact | None:
        """The newest finished artifact of a stage, with any key."""
        artifacts = [_open(m.parent) for m in (self.root / stage).glob(f"*[!l]/{MANIFEST}")]
        return max(artifacts, key=lambda artifact: artifact.manifest.created_at, default=None)

    def partial(self, stage: str, key: str) -> Path:
        """Folder of unfinished work on this key."""
        return self.root / stage / f"{key[:16]}.partial"

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold this key for one process.

        The kernel releases the lock when the process dies, so kill -9 leaves no stale lock.

        Raises:
            LockedStoreError: Another process holds it.

        """
        path = self.root / stage / f"{key[:16]}.lock"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+b", buffering=0)
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                process, _, host = stream.read().decode().partition(" ")
                where = f" on {host}" if host else ""
                raise LockedStoreError(
                    f"another jangin run (process {process or 'unknown'}{where}) is working on "
                    f"{stage} in {self.root}. Wait for it to end, or give this run another store "
                    "with --store."
                ) from error
            with disk_errors(path):
                stream.truncate(0)
                stream.write(f"{os.getpid()} {platform.node()}".encode())
            with self.remote.lock(stage, key) if self.remote is not None else nullcontext():
                yield

    def workspace(self, stage: str, key: str, *, keep: bool) -> Path:
        """The partial directory, with what a killed run left there if `keep`, else empty."""
        path = self.partial(stage, key)
        if path.exists() and not keep:
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish(
        self,
        stage: str,
        version: int,
        key: str,
        config: dict[str, Any],
        inputs: dict[str, str],
        summary: dict[str, Any],
    ) -> Artifact:
        """Write the manifest last, then rename: a reader never sees half an artifact."""
        partial = self.partial(stage, key)
        files = {
            path.relative_to(partial).as_posix(): _digest(path)
            for path in sorted(partial.rglob("*"))
            if (path.is_file() or path.suffix == TABLE)
            and path != partial / MANIFEST
            and partial / JOURNAL not in path.parents
        }
        shutil.rmtree(partial / JOURNAL, ignore_errors=True)
        content = {k: v for k, v in files.items() if not k.startswith(f"{RUNTIME}/")}
        content = {k: v for k, v in content.items() if f"{TABLE}/" not in k}
        manifest = Manifest(
            format=FORMAT,
            stage=stage,
            version=version,
            key=key,
            config=config,
            inputs=inputs,
            files=files,
            content=digest_tree(content),
            summary=summary,
            created_at=datetime.now(UTC),
        )
        with (partial / MANIFEST).open("w") as stream:
            stream.write(manifest.model_dump_json(indent=2))
            stream.flush()
            os.fsync(stream.fileno())
        copy_mode(partial / MANIFEST, partial)
        final = self.root / stage / key[:16]
        old = _old(final)
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        return Artifact(final, manifest)


def moved_with(artifact: Path, path: str) -> Path:
    """The path of a file that an artifact refers to: in the store of the artifact, if it is there.

    A store that was copied must not read from the one that it was copied from.
    """
    parts = Path(path).parts[-3:]
    beside = artifact.parent.parent.joinpath(*parts)
    return beside if len(parts) == 3 and beside.exists() else Path(path)


def _old(final: Path) -> Path:
    """What an artifact is called while another takes its name."""
    return final.with_name(f"{final.name}.old.partial")


def _set_aside(final: Path) -> None:
    """Delete an artifact; its name is free at once."""
    shutil.rmtree(_old(final), ignore_errors=True)
    final.rename(_old(final))
    shutil.rmtree(_old(final), ignore_errors=True)


def copy_mode(like: Path, folder: Path) -> None:
    """Give every file in `folder` the permissions of `like`, which were those of the umask.

    safetensors writes through a temporary file, which only its owner may read.
    """
    mode = like.stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full, limited or read-only disk into `StoreError`."""
    try:
        yield
    except Exception as error:
        text = _of_the_disk(_system_error(error), path)
        if text:
            raise StoreError(text) from error
        raise


def _system_error(error: Exception) -> int:
    """Its number; 0 for another error. safetensors and pyarrow name it in errors of their own."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    number = re.search(r"os error (\d+)", str(error))
    if number:
        return int(number[1])
    return errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else 0


def _of_the_disk(number: int, path: Path) -> str:
    """What an error of a full, limited or read-only disk means; empty for another one."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full while writing {path}. "
            "Free some space and run again; finished work is kept."
        )
    if number == errno.EFBIG:
        return (
            f"a file for {path} is larger than this disk or `ulimit -f` allows. Raise the "
            "limit or give another store with --store, and run again."
        )
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{path} cannot be written: {os.strerror(number)}. "
            "Give a store you may write to with --store."
        )
    return ""


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn errors in writing a file that a user named into `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}. Name another file, in a folder that "
            "exists."
        ) from error


def add_output(folder: Path, path: Path) -> None:
    """Note in a folder of documents that `path` is none of them; nothing if it is elsewhere.

    What was noted and is gone by now is forgotten: another file may take its name.

    Raises: DataError: the note cannot be written.
    """
    root, given = folder.resolve(), path.resolve()
    if given == root or not given.is_relative_to(root):
        return
    name, before = given.relative_to(root).as_posix(), output_names(root)
    if name in before:
        return
    names = sorted({*(old for old in before if (root / old).exists()), name})
    note = root / OUTPUTS
    with output_errors(note):
        note.write_text(_OUTPUTS_HEAD + "".join(f"{name}\n" for name in names), encoding="utf-8")


def output_names(folder: Path) -> list[str]:
    """Names inside a folder of documents of the files and folders that jangin wrote there."""
    try:
        lines = (folder / OUTPUTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line and not line.startswith("# ")]


def _digest(path: Path) -> str:
    """Digest of a file; of the rows of a table, or of one of its parts."""
    if path.suffix != TABLE:
        return digest_file(path)
    joins = path.is_dir() or path.parent.suffix == TABLE
    return digest_parts(path) if joins else digest_table(path)


def _manifest(path: Path) -> Manifest | None:
    """The manifest of a folder; None where it is damaged."""
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except ValidationError:
        return None


def _open(path: Path) -> Artifact:
    manifest = _manifest(path)
    if manifest is None:
        raise UnreadableStoreError(
            f"{path / MANIFEST} is damaged. Delete the folder {path} and run again."
        )
    if manifest.format > FORMAT:
        raise UnreadableStoreError(
            f"{path} was written by a newer jangin (store format {manifest.format}, this one "
            f"reads up to {FORMAT}). Upgrade jangin, or use another store with --store."
        )
    missing = [name for name in manifest.files if not (path / name).exists()]
    if missing:
        raise UnreadableStoreError(
            f"{path} lacks {missing[0]}, which its manifest names. "
            "Delete that folder and run again to rebuild it."
        )
    return Artifact(path, manifest)
