"""Predicted and measured memory of every training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jangin.report.data.artifacts import MACHINE_FIGURES, Artifacts, groups_with, machine_figures

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """One training. Peaks are of one process: resident on a CPU, allocated on a GPU."""

    stage: str
    variants: tuple[str, ...]
    method: str
    device: str
    predicted_gib: float
    measured_gib: float
    layers: Mapping[str, Any]
    """Seconds of a step with eager and with compiled layers, and the choice; empty where they were
    not measured."""

    @property
    def ratio(self) -> float:
        """Predicted to measured."""
        return self.predicted_gib / self.measured_gib


def memory(artifacts: Artifacts) -> list[TrainingMemory]:
    """Every training whose memory was both predicted and measured."""
    rows = []
    for group in groups_with(artifacts, MACHINE_FIGURES):
        figures = machine_figures(group.artifact)
        predicted, measured = (
            figures.get(name, 0) / _GIB for name in ("predicted_memory_bytes", "peak_memory_bytes")
        )
        layers = figures.get("layers", {})
        if predicted and measured:
            method = group.artifact.manifest.config.get("method", {}).get("type", "full")
            rows.append(
                TrainingMemory(
                    stage=group.stage,
                    variants=group.variants,
                    method=method,
                    device=str(figures.get("device", "")),
                    predicted_gib=predicted,
                    measured_gib=measured,
                    layers=layers if layers.get("compiled_seconds_per_step") else {},
                )
            )
    return rows
