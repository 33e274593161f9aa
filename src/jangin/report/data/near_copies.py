"""Near-copies among the questions of a review, kept on the disk: a restart reads them.

Searching 50,000 questions takes many seconds and a gigabyte; what was found is kept beside the
artifacts by the digest of the questions. The files may be deleted at any time.
"""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from jangin.core.store import TABLES
from jangin.examples.reviews.reasons import NEAR_COPY, near_copies

SEARCH_VERSION = 1
"""To be raised when the search finds other copies in the same questions."""
LEAST = 1_000
"""Questions from which on the search is worth a file."""
MOST_FILES = 8


@dataclass(frozen=True, slots=True)
class KeptNearCopies:
    """The search for near-copies with its results in a store."""

    store: Path

    def __call__(self, questions: Sequence[str]) -> dict[int, int]:
        """{index of a question: index of the one that it resembles}, read where it is known."""
        if len(questions) < LEAST:
            return near_copies(questions)
        path = self.store / TABLES / f"near_copies.{_digest(questions)}.npy"
        with suppress(OSError, ValueError, EOFError):
            pairs = np.load(path, allow_pickle=False)
            if pairs.dtype == np.int64 and pairs.ndim == 2 and (pairs < len(questions)).all():
                return dict(pairs.tolist())
        copies = near_copies(questions)
        with suppress(OSError):  # on a full disk the next start searches again
            self._keep(path, np.array([*copies.items()], dtype=np.int64).reshape(-1, 2))
        return copies

    def _keep(self, path: Path, pairs: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> None:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            with partial.open("wb") as stream:
                np.save(stream, pairs, allow_pickle=False)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        files = sorted(path.parent.glob("near_copies.*.npy"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink(missing_ok=True)


def _digest(questions: Sequence[str]) -> str:
    """Of the questions in their order and of all that decides what the search finds."""
    digest = hashlib.sha256(rules_of_near_copies().encode())
    for question in questions:
        data = question.encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def rules_of_near_copies() -> str:
    """Changes when the search finds other copies in the same questions."""
    return f"{SEARCH_VERSION} {NEAR_COPY} {_guard()}"


def _guard() -> str:
    """The package by which the words of Korean questions are compared; empty without it."""
    try:
        return version("kiwipiepy")
    except PackageNotFoundError:
        return ""
