"""The review queue of the project that the pages show: built once for what a run has made."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotReadyError
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.core.errors import ConfigError, JanginError
from jangin.core.execution.local import Local
from jangin.examples.reviews.index import ReviewIndex
from jangin.examples.split import SplitConfig
from jangin.project.plan import PlannedStage
from jangin.project.session import open_session
from jangin.report.data.review_queue import open_index, queue_inputs
from jangin.serving.pages.preparing import preparing
from jangin.serving.state.project import OpenProject, Snapshot

LARGE = 5_000
"""Rows from which on a queue is made in a process of its own: it takes seconds, for which all other
requests would wait."""
log = logging.getLogger("jangin.serving")


class ReviewQueues:
    """The indexes of a server's project; a new one is built when a run has made other rows."""

    def __init__(self) -> None:
        """Nothing is built yet."""
        self._lock = threading.Lock()
        self._futures: dict[tuple[str, str], Future[ReviewIndex]] = {}

    def open(
        self, project: OpenProject, variant: str, patience: float | None = None
    ) -> ReviewIndex:
        """The index of a variant, with all decisions that the log has by now.

        Raises `NotReadyError` where it takes longer than `patience` seconds, `DataError` where
        there is nothing to review.
        """
        snapshot = project.snapshot()
        key = (snapshot.version, variant)
        with self._lock:
            if key not in self._futures:
                self._forget(snapshot.version)
                self._futures[key] = _begin(snapshot, variant)
            future = self._futures[key]
        try:
            with preparing("pages_preparing_review"):
                index = future.result(timeout=patience)
        except NotReadyError:
            raise
        except Exception:
            with self._lock:
                self._futures.pop(key, None)
            raise
        index.refresh()
        return index

    def build_early(self, project: OpenProject) -> None:
        """Begin to build the queue that the page shows first, so that no reader waits for it."""
        threading.Thread(target=self._build_early, args=(project,), daemon=True).start()

    def _build_early(self, project: OpenProject) -> None:
        try:
            self.open(project, choose_variant(project.snapshot().variants, ""))
        except JanginError as error:  # shown by the page
            log.debug("no review queue was built at the start: %s", error)

    def _forget(self, version: str) -> None:
        """Drop what was built for an earlier state of the store."""
        for key in [key for key in self._futures if key[0] != version]:
            self._futures.pop(key)


def _begin(snapshot: Snapshot, variant: str) -> "Future[ReviewIndex]":
    """Build an index in a thread that no end of the server waits for."""
    future: Future[ReviewIndex] = Future()

    def work() -> None:
        try:
            future.set_result(_build(snapshot, variant))
        except Exception as error:  # noqa: BLE001  # raised by the next request
            future.set_exception(error)

    threading.Thread(target=work, name="review queue", daemon=True).start()
    return future


def _build(snapshot: Snapshot, variant: str) -> ReviewIndex:
    last = snapshot.variants[variant].last
    with open_session(snapshot.project, creates_store=False) as session:
        inputs = queue_inputs(session, variant, last)
        if inputs.rows >= LARGE and not inputs.path.exists():
            order = (snapshot.project.path, variant)
            list(Local(workers=2).map(pack_elsewhere, [order]))
        return open_index(session, variant, last)


def pack_elsewhere(order: tuple[Path, str]) -> None:
    """Make and keep the queue of (project file, variant); the work of another process."""
    path, variant = order
    snapshot = OpenProject(path).snapshot()
    with open_session(snapshot.project, creates_store=False) as session:
        queue_inputs(session, variant, snapshot.variants[variant].last).pack()


def choose_variant(names: Mapping[str, object], wanted: str) -> str:
    """The variant of this name, the last one for an empty name; raises `ConfigError`."""
    if not wanted:
        return list(names)[-1]
    if wanted not in names:
        raise ConfigError(f"there is no variant {wanted!r}. Known variants: {', '.join(names)}.")
    return wanted


# What becomes of a review: how far it is, which stages use it, what to do next.


PATIENCE = 0.02
"""Seconds that the page of the pipeline waits for a queue that is being built."""
Use = Literal["respected", "required", "ignored"]


@dataclass(frozen=True, slots=True)
class ReviewStanding:
    """The review of a project between two runs."""

    accepted: int
    """Rows that were accepted or edited."""
    rejected: int
    open: int
    """Rows without a decision."""
    use: Use
    """What `split: review` says; `ignored` too where the stage `review` is off."""
    applied: bool
    """True if the last run has used every decision."""
    pending: tuple[str, ...]
    """Stages that the next run executes, from the review on."""

    @property
    def decided(self) -> int:
        """Rows with a decision."""
        return self.accepted + self.rejected

    @property
    def next_step(self) -> Literal["ignored", "start", "needed", "run", "finished"]:
        """Key of the message that says what to do next."""
        if self.use == "ignored":
            return "ignored"
        if self.use == "required" and not self.accepted:
            return "needed"
        if not self.decided:
            return "start"
        return "finished" if self.applied else "run"


def review_standing(
    queues: ReviewQueues, project: OpenProject, steps: Sequence[PlannedStage]
) -> ReviewStanding | None:
    """The standing with the steps of a plan; None while there is nothing to review.

    Raises `NotReadyError` while the queue is made.
    """
    try:
        variant = choose_variant(project.snapshot().variants, "")
        index = queues.open(project, variant, PATIENCE)
    except JanginError:
        return None
    counts = index.counts
    decided = counts["accept"] + counts["edit"] + counts["reject"]
    split = project.loaded().variants[variant].stage_config("split")
    mine = [step for step in steps if step.variant == variant or step.stage.name == "review"]
    reviews = [step for step in mine if step.stage.name == "review"]
    use: Use = split.review if isinstance(split, SplitConfig) else "respected"
    open_steps = [step.stage.name for step in mine if step.state != "cached"]
    if "review" in open_steps:
        open_steps = open_steps[open_steps.index("review") :]
    return ReviewStanding(
        counts["accept"] + counts["edit"],
        counts["reject"],
        counts["rows"] - decided,
        "ignored" if decided and steps and not reviews else use,
        bool(reviews) and all(step.state == "cached" for step in reviews),
        tuple(dict.fromkeys(open_steps)),
    )
