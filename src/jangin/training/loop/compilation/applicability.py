"""Where `compile: auto` measures. Imports no torch."""

from jangin.models.memory import Device
from jangin.training.loop.config import Qlora, TrainingKeys

NO_GPU = "there is no GPU"


def eager_reason(config: TrainingKeys, device: Device) -> str:
    """Why the layers run eagerly, whatever a measurement would say; empty where it decides."""
    if config.compile == "off":
        return "`compile: off`"
    if config.compile == "auto" and device == "cpu":
        return NO_GPU
    if config.sharding == "fsdp" and config.processes > 1:
        return "layers of `sharding: fsdp` are gathered one by one, which is not compiled"
    if config.compile == "layers":
        return ""
    if isinstance(config.method, Qlora):
        return "the 4-bit weights of `method: {type: qlora}` are not compiled"
    if config.processes > 1:
        return "with several `devices` nothing is measured; `compile: layers` compiles"
    return ""


def plan_note(config: TrainingKeys, device: Device) -> str:
    """What `jangin plan` says about it; empty where nothing is measured."""
    if config.compile not in ("auto", "measure") or eager_reason(config, device):
        return ""
    return f"`compile: {config.compile}` times the first steps and keeps the faster way"
