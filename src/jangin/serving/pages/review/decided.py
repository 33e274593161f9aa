"""What people have decided about an example, for the page of its way."""

from collections.abc import Mapping
from concurrent.futures import TimeoutError as NotReadyError
from dataclasses import dataclass
from typing import Any

from jangin.core.errors import JanginError
from jangin.examples.curation.review_log import ReviewDecision
from jangin.examples.split import SplitConfig
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.review.queue import ReviewQueues

PATIENCE = 0.3
"""Seconds that the page waits for a queue that is being built."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict about an example, or about the one that it rewords."""

    verdict: ReviewDecision
    of_parent: bool
    """True where the verdict is about the example that this one rewords."""
    used: bool
    """Whether the project uses decisions at all."""


def decided_on(
    queues: ReviewQueues, project: OpenProject, variant: str, example: Mapping[str, Any]
) -> Decided | None:
    """The verdict that counts for an example; None without one, or while the queue is built."""
    try:
        index = queues.open(project, variant, PATIENCE)
    except (JanginError, NotReadyError):
        return None
    config = project.loaded().variants[variant].stage_config("split")
    used = not isinstance(config, SplitConfig) or config.review != "ignored"
    rewords = example["kind"] == "paraphrase"
    for name in (example["id"], example["parent"] if rewords else ""):
        position = index.position(name) if name else None
        review = index.reviews.get(position) if position is not None else None
        if review is not None and review.verdict is not None:
            return Decided(review.verdict, name != example["id"], used)
    return None
