"""The precision of a training, where the machine decides it."""

from collections.abc import Mapping

from jangin.models.device import native_precision
from jangin.training.loop.config import TrainingKeys


def machine_facts(config: TrainingKeys) -> Mapping[str, str]:
    """The precision that `auto` selects on this machine."""
    return {"precision": native_precision()} if config.precision == "auto" else {}
