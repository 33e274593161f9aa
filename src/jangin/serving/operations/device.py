"""Who may use the one device: served models, or a job that needs its memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jangin.serving.protocol.errors import RETRY, SERVER, ApiError

DRAIN_SECONDS = 30
"""How long a job waits for answers in progress before they are ended."""
RETRY_SECONDS = 15
"""After which a refused client asks again."""


class Device:
    """A lock between models and jobs: any number of answers, or a job that takes its memory."""

    def __init__(self) -> None:
        """Open to models."""
        self._changed = threading.Condition()
        self.is_open = True
        self._answers = 0
        self.has_job = False
        """Whether a job trains in memory that models would use."""

    def refuse_if_busy(self) -> None:
        """Raises `ApiError` 503 while a job has the device; clients ask again by themselves."""
        if not self.is_open:
            raise ApiError(
                503,
                "A fine-tuning job needs the memory of the device now. Please try again later.",
                kind=SERVER,
                code="device_busy",
                headers={RETRY: "true", "retry-after": str(RETRY_SECONDS)},
            )

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Use a model within the block; raises as `refuse_if_busy`."""
        with self._changed:
            self.refuse_if_busy()
            self._answers += 1
        try:
            yield
        finally:
            with self._changed:
                self._answers -= 1
                self._changed.notify_all()

    def give_to_job(self, stopping: Callable[[], bool]) -> None:
        """Let no answer begin, and wait until those in progress have ended or time is up.

        `stopping`: whether the server stops, so that waiting is useless.
        """
        with self._changed:
            self.is_open, self.has_job = False, True
            self._changed.wait_for(lambda: stopping() or not self._answers, DRAIN_SECONDS)

    def give_to_models(self, *, beside_job: bool) -> None:
        """Let models answer again: alone, or in the memory that a job has left."""
        with self._changed:
            self.is_open, self.has_job = True, beside_job
