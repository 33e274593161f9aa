"""The review queue of the project that the pages show: built once for what a run has made."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReadyError

from jangin.core.errors import ConfigError
from jangin.examples.curation.review_index import ReviewIndex
from jangin.project.session import open_session
from jangin.report.data.review_queue import open_index
from jangin.serving.pages.project import OpenProject, Snapshot

PATIENCE = 30.0
"""Seconds that a page waits for a queue before it says that the queue is being made."""


class ReviewQueues:
    """The indexes of a server's project; a new one is built when a run has made other rows."""

    def __init__(self) -> None:
        """Nothing is built yet."""
        self._lock = threading.Lock()
        self._futures: dict[tuple[str, str], Future[ReviewIndex]] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="review-queue")

    def open(self, project: OpenProject, variant: str, patience: float = PATIENCE) -> ReviewIndex:
        """The index of a variant, with all decisions that the log has by now.

        Raises `NotReadyError` while it is built, `DataError` where there is nothing to review.
        """
        snapshot = project.snapshot()
        key = (snapshot.version, variant)
        with self._lock:
            if key not in self._futures:
                self._forget(snapshot.version)
                self._futures[key] = self._threads.submit(_build, snapshot, variant)
            future = self._futures[key]
        try:
            index = future.result(timeout=patience)
        except NotReadyError:
            raise
        except Exception:
            with self._lock:
                self._futures.pop(key, None)
            raise
        index.refresh()
        return index

    def _forget(self, version: str) -> None:
        """Drop what was built for an earlier state of the store."""
        for key in [key for key in self._futures if key[0] != version]:
            self._futures.pop(key)


def _build(snapshot: Snapshot, variant: str) -> ReviewIndex:
    with open_session(snapshot.project, creates_store=False) as session:
        return open_index(session, variant, snapshot.variants[variant].last)


def choose_variant(names: Mapping[str, object], wanted: str) -> str:
    """The variant of this name, the last one for an empty name; raises `ConfigError`."""
    if not wanted:
        return list(names)[-1]
    if wanted not in names:
        raise ConfigError(f"there is no variant {wanted!r}. Known variants: {', '.join(names)}.")
    return wanted
