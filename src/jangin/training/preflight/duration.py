"""Length of a training run, in steps and in epochs side by side. Imports no torch."""

from dataclasses import dataclass, replace

from jangin.core.errors import counted
from jangin.core.events import Progress
from jangin.training.loop.config import Epochs, TrainingKeys


@dataclass(frozen=True, slots=True)
class Duration:
    """Optimizer steps of a run and the epochs that they amount to."""

    steps: int
    per_step: int
    """Rows of each step; the last one of an epoch may have fewer."""
    rows: int
    """Rows of an epoch."""

    @classmethod
    def of(cls, config: TrainingKeys, rows: int) -> "Duration":
        """The length that the settings ask for."""
        per_step, length = min(config.examples_per_step, rows), config.length
        steps = length.epochs * -(-rows // per_step) if isinstance(length, Epochs) else length.steps
        return cls(steps, per_step, rows)

    @property
    def epochs(self) -> float:
        """Passes over all rows."""
        return self.steps / -(-self.rows // self.per_step)

    @property
    def text(self) -> str:
        """Such as `60 steps of 8 rows = 0.26 epochs of 1,848 rows`."""
        epochs = f"{self.epochs:.2f}".rstrip("0").rstrip(".")
        return (
            f"{counted(self.steps, 'step')} of {self.per_step} rows = "
            f"{epochs} {'epoch' if epochs == '1' else 'epochs'} of {counted(self.rows, 'row')}"
        )

    @property
    def unseen(self) -> int:
        """Rows that no step trains on."""
        return max(0, self.rows - self.steps * self.per_step)

    @property
    def warning(self) -> str:
        """What a length below one epoch means."""
        return (
            f"less than one epoch, so {counted(self.unseen, 'row is', 'rows are')} not trained on"
        )


def report_start(duration: Duration, progress: Progress) -> None:
    """Report steps and epochs before a run, with a warning below one epoch."""
    text = f"training for {duration.text}"
    if duration.epochs < 1:
        text += f": {duration.warning}. Raise `length` to train on them"
    progress.message(f"{text}.")


def report_end(duration: Duration, steps: int, progress: Progress) -> None:
    """Warn after a run that ended after `steps` steps if they were less than one epoch."""
    done = replace(duration, steps=steps)
    if done.epochs < 1:
        progress.message(f"trained for {done.text}: {done.warning}.")
