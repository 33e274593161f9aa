"""What a finished training run came to."""

from dataclasses import dataclass
from typing import Any

from jangin.training.loop.config import StepMetrics


@dataclass(frozen=True, slots=True)
class Outcome:
    """Steps, losses and figures of the machine."""

    steps: int
    trained_tokens: int
    first: StepMetrics
    last: StepMetrics
    kept: StepMetrics
    """The line at whose step the resulting weights stood."""
    runtime: dict[str, Any]
    """Speed, memory and machine: no part of the result."""
    stopped: str = ""
    """Why it ended before its last step; empty where it did not."""

    def figures(self) -> dict[str, Any]:
        """For the summary of an artifact."""
        return {
            "steps": self.steps,
            "kept_step": self.kept.step,
            "trained_tokens": self.trained_tokens,
            "train_loss": self.kept.train_loss,
            "train_mean_token_accuracy": self.kept.train_mean_token_accuracy,
            "valid_loss": self.kept.valid_loss,
            "valid_mean_token_accuracy": self.kept.valid_mean_token_accuracy,
            "stopped": self.stopped,
        }
