"""A clock around `transformers.Trainer.train`, for peers that are run as a whole command."""

from functools import wraps
from typing import Any

from meter import Meter
from transformers import Trainer


class Clock:
    """What the wrapped `train` was called on, and what it took. One training per process."""

    trainer: Any = None
    meter: Meter

    def install(self) -> None:
        """From now on every trainer of this process is timed."""
        original = Trainer.train

        @wraps(original)
        def timed(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            self.trainer = trainer
            with Meter() as self.meter:
                return original(trainer, *args, **kwargs)

        Trainer.train = timed

    def facts(self) -> dict[str, Any]:
        """What goes into the report."""
        losses = [line["loss"] for line in self.trainer.state.log_history if "loss" in line]
        return {
            "first_loss": float(losses[0]),
            "steps": self.trainer.state.global_step,
            **self.meter.figures(),
        }
