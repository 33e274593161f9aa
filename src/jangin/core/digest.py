"""Canonical JSON and sha256 digests, equal on every machine; seeded ordering by digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from jangin.core.errors import DigestError


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
