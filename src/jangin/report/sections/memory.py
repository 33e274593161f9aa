"""The report's memory of training: what was predicted before the start, and what was measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jangin.core.store import RUNTIME, Artifact
from jangin.report.data.artifacts import Made, groups_of

_TRAINING = ("pretrain", "sft", "continue_sft", "dpo")
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class MemoryOf:
    """One training. Peaks are of one process: resident on a CPU, allocated on a GPU."""

    stage: str
    variants: tuple[str, ...]
    method: str
    device: str
    predicted_gib: float
    measured_gib: float

    @property
    def ratio(self) -> float:
        """Predicted to measured."""
        return self.predicted_gib / self.measured_gib


def memory(made: Made) -> list[MemoryOf]:
    """Every training whose memory was both predicted and measured."""
    found = []
    for stage in _TRAINING:
        for group in groups_of(made, stage):
            figures = _figures(group.artifact)
            predicted, measured = (
                figures.get(name, 0) / _GIB
                for name in ("predicted_memory_bytes", "peak_memory_bytes")
            )
            if predicted and measured:
                method = group.artifact.manifest.config.get("method", {}).get("type", "full")
                device = str(figures.get("device", ""))
                found.append(MemoryOf(stage, group.variants, method, device, predicted, measured))
    return found


def _figures(artifact: Artifact) -> Mapping[str, Any]:
    """What the training wrote of the machine; empty where an artifact came without it."""
    path = artifact.path / RUNTIME / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
