"""Recorded replies that do not cover the calls of a plan, which a run would stop at."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.errors import counted
from jangin.project.plan import PlannedStage, shared_steps


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A stage whose teacher has recorded replies, but not to all of its requests."""

    variants: str
    """Names, or `all`."""
    stage: str
    calls: int
    """Requests that the stage would send, as far as they are known."""
    missing: int
    """Those of them without a recorded reply."""

    def __str__(self) -> str:
        """What is missing and what to do, for a terminal."""
        return (
            f"{self.stage} would stop: the recorded replies cover "
            f"{self.calls - self.missing:,} of its {counted(self.calls, 'call')}. Recorded "
            "replies fit only "
            "the documents and settings that they were recorded with: use those, name another "
            "teacher, or record the replies with: jangin run --record"
        )


def unrecorded_calls(steps: Sequence[PlannedStage]) -> list[Unrecorded]:
    """The stages of a forecast that lack recorded replies; those that variants share once."""
    return [
        Unrecorded(variants, step.stage.name, step.calls.count, len(step.calls.unrecorded))
        for variants, step in shared_steps(steps)
        if step.calls.unrecorded
    ]
