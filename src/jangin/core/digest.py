"""Canonical JSON and sha256 digests, equal on every machine; seeded ordering by digest."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from jangin.core.errors import DataError, DigestError

INPUT_TABLE = "inputs.parquet"
"""Name of the table of `FileDigests` in a store."""
SETTLED_NS = 10_000_000_000
"""Age of a file's timestamps from which on they say that it has not changed.

A file that is written twice within the resolution of a timestamp, at most 2 s (FAT), can have the
same size and times as before. The rest is for clocks of file servers that are slow.
"""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and without whitespace.

    Raises:
        DigestError: The value has no JSON form (NaN, sets, objects, ...).

    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise DigestError(f"this value has no canonical JSON, so no digest: {error}") from error


def digest_value(value: object) -> str:
    """sha256 of `canonical_json(value)`, as 64 hex characters."""
    try:
        return hashlib.sha256(canonical_json(value).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise DigestError(f"text is not valid Unicode, so it has no digest: {error}") from error


def short_digest(value: object) -> str:
    """The first 16 hex characters of `digest_value`: the form of every record id."""
    return digest_value(value)[:16]


def digest_file(path: Path) -> str:
    """sha256 of the bytes of one file, as 64 hex characters."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class FileDigests:
    """Digests of files outside the store, which are not read again while nothing changed them.

    A row is the name of a file, its size, the times of its last change of content and of status,
    its inode, and its digest. As in the index of git, a file is read again if any of them differs,
    and a digest is kept only if the times of the file were older than `settled_ns` when it was
    read. The table is a cache: where it is missing or damaged, files are read.
    """

    def __init__(self, table: Path | None = None, settled_ns: int = SETTLED_NS) -> None:
        """Open the table of a store; None keeps digests in memory only."""
        self._table = table
        self._settled_ns = settled_ns
        self._base = f"{table.parent.parent.absolute()}{os.sep}" if table else ""
        self._rows: dict[str, tuple[int, int, int, int, str]] | None = None
        self._changed = False

    def digest(self, path: Path) -> str:
        """What `digest_file` returns for this file, from the table where it is unchanged.

        Raises: DataError: the file may not be read.
        """
        rows = self._rows if self._rows is not None else self._load()
        name = str(path.absolute()).removeprefix(self._base)
        state = _state(path.stat())
        known = rows.get(name)
        if known is not None and known[:4] == state:
            return known[4]
        begin = time.time_ns()
        try:
            digest = digest_file(path)
        except PermissionError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}. Give yourself the right to read it."
            ) from error
        settled = max(state[1], state[2]) + self._settled_ns < begin
        if settled and _state(path.stat()) == state:
            rows[name] = (*state, digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what is new to the store, if that exists and can be written."""
        if self._table is None or not self._changed or not self._table.parent.is_dir():
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = self._load() | (self._rows or {})
        columns = zip(*rows.values(), strict=True)
        names = ("size", "mtime_ns", "ctime_ns", "inode", "sha256")
        table = pa.table({"name": list(rows), **dict(zip(names, map(list, columns), strict=True))})
        partial = self._table.with_suffix(f".{secrets.token_hex(4)}.partial")
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.replace(self._table)
            self._changed = False
        except (OSError, pa.ArrowException):
            partial.unlink(missing_ok=True)  # a full or read-only disk: files are read again

    def _load(self) -> dict[str, tuple[int, int, int, int, str]]:
        """The table as it is in the store now, which becomes that in memory if there was none."""
        rows = {}
        if self._table is not None and self._table.exists():
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                columns = pq.read_table(self._table).to_pydict()
                names = columns.pop("name")
                rows = dict(zip(names, zip(*columns.values(), strict=True), strict=True))
            except (OSError, KeyError, ValueError, pa.ArrowException):
                rows = {}
        if self._rows is None:
            self._rows = rows
        return rows


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def files_of(folder: Path) -> dict[str, Path]:
    """{path relative to the folder, with `/`: path} of all files below it, sorted by path.

    Files and folders at its top whose name begins with a dot are left out, such as `.git`.
    """
    names = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")))
    return {name: path for name, path in names if path.is_file() and not name.startswith(".")}


def digest_tree(files: Mapping[str, str]) -> str:
    """Digest of {relative path: file digest}; independent of order, times and location."""
    return digest_value(dict(files))


def seeded_rank(seed: int, purpose: str, name: str) -> float:
    """A pseudo-random number in [0, 1) that depends only on the three arguments."""
    return float(int(digest_value([seed, purpose, name])[:13], 16) / 16**13)
