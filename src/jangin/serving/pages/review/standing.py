"""What becomes of a review: how far it is, which stages use it, what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jangin.core.errors import JanginError
from jangin.examples.split import SplitConfig
from jangin.project.plan import PlannedStage
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.review.queue import ReviewQueues, choose_variant

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
