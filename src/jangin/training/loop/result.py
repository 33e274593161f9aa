"""The result of a training run."""

from dataclasses import dataclass
from typing import Any

from jangin.training.loop.config import StepMetrics


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Steps, losses, and figures of the machine."""

    steps: int
    """Optimizer steps done."""
    trained_tokens: int
    first: StepMetrics
    """The first line of metrics."""
    last: StepMetrics
    kept: StepMetrics
    """The line of the step whose weights are the result."""
    runtime: dict[str, Any]
    """Speed, memory and machine; not part of an artifact's content."""
    stopped: str = ""
    """Why the run ended before its last step; empty if it did not."""

    def figures(self) -> dict[str, Any]:
        """For the summary of an artifact."""
        return {
            "steps": self.steps,
            "epochs": self.last.epoch,
            "kept_step": self.kept.step,
            "trained_tokens": self.trained_tokens,
            "train_loss": self.kept.train_loss,
            "train_mean_token_accuracy": self.kept.train_mean_token_accuracy,
            "valid_loss": self.kept.valid_loss,
            "valid_mean_token_accuracy": self.kept.valid_mean_token_accuracy,
            "stopped": self.stopped,
        }
