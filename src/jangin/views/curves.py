"""The curves of a training, from its own files while it lasts and afterwards, or from its log.

A file of 100,000 lines is read once; a page gets as many points as it can show.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.project.stages import find_stage
from jangin.views.artifacts import METRICS, Artifacts, groups_with

PACE = "runtime/pace.jsonl"
SPEED = "tokens_per_second"
FIGURES = (
    *("train_loss", "valid_loss", "train_mean_token_accuracy", "valid_mean_token_accuracy"),
    *("learning_rate", SPEED),
)
"""Figures of a point, besides its step."""
FEW_ROWS = 20
"""Validation rows below which their loss says nothing and is not shown."""
MOST_POINTS = 1_000
MOST_FILES = 16
MOST_TAIL_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Curves:
    """Points of one training, one column per figure; None where a figure was not measured."""

    steps: tuple[int, ...]
    columns: dict[str, tuple[float | None, ...]]
    end: int = 0
    """Bytes of metrics.jsonl that were read."""

    @property
    def data(self) -> dict[str, Any]:
        """As JSON for a script."""
        return {"steps": self.steps, **self.columns, "end": self.end}

    def last(self, figure: str) -> float | None:
        """The newest value of a figure; None where there is none."""
        values = self.columns.get(figure, ())
        return next((value for value in reversed(values) if value is not None), None)

    def points(self, figure: str) -> tuple[tuple[float, float], ...]:
        """(step, value) where a figure was measured."""
        values = zip(self.steps, self.columns[figure], strict=True)
        return tuple((float(step), value) for step, value in values if value is not None)

    def __add__(self, later: "Curves") -> "Curves":
        """These points and later ones."""
        columns = {name: (*self.columns[name], *later.columns[name]) for name in self.columns}
        return Curves((*self.steps, *later.steps), columns, later.end)


EMPTY = Curves((), dict.fromkeys(FIGURES, ()))


def curves_of(rows: Iterable[Mapping[str, Any]], *, is_validated: bool = True) -> Curves:
    """The points of lines of metrics; without `is_validated` no figure of validation rows."""
    kept = [row for row in rows if isinstance(row.get("step"), int)]
    columns = {name: tuple(_value(row, name) for row in kept) for name in FIGURES}
    if not is_validated:
        columns |= {name: (None,) * len(kept) for name in FIGURES if name.startswith("valid_")}
    return Curves(tuple(row["step"] for row in kept), columns)


def _value(row: Mapping[str, Any], name: str) -> float | None:
    # With `validation: batches` all validation rows are measured at the end of an epoch only.
    value = row.get(f"full_{name}", row.get(name))
    return float(value) if isinstance(value, int | float) else None


def thinned(curves: Curves, most: int = MOST_POINTS) -> Curves:
    """At most about `most` points: of equal stretches the lowest and the highest training loss.

    Points with a validation loss stay, up to as many again.
    """
    count = len(curves.steps)
    if count <= most:
        return curves
    losses = curves.columns["train_loss"]
    width = -(-2 * count // most)
    kept = {0, count - 1}
    for start in range(0, count, width):
        stretch = range(start, min(start + width, count))
        known = [index for index in stretch if losses[index] is not None]
        if known:
            kept |= {min(known, key=lambda i: losses[i] or 0.0)}
            kept |= {max(known, key=lambda i: losses[i] or 0.0)}
    validated = [i for i, value in enumerate(curves.columns["valid_loss"]) if value is not None]
    kept |= set(validated[:: -(-len(validated) // most) or 1])
    chosen = sorted(kept)
    columns = {
        name: tuple(values[index] for index in chosen) for name, values in curves.columns.items()
    }
    return Curves(tuple(curves.steps[index] for index in chosen), columns, curves.end)


# Trainings that are finished, for a page about all of them.


@dataclass(frozen=True, slots=True)
class TrainingCurves:
    """The curves of one training, and the variants that share it."""

    stage: str
    variants: tuple[str, ...]
    curves: Curves
    """At least one point."""

    @property
    def on_pairs(self) -> bool:
        """True if its loss is per preference pair, not in nats per token."""
        return is_on_pairs(self.stage)


def is_on_pairs(stage: str) -> bool:
    """True for a stage whose loss is per preference pair, not in nats per token."""
    known = find_stage(stage)
    return known is not None and "pairs" in known.reads


def trainings(artifacts: Artifacts) -> list[TrainingCurves]:
    """Every training, stage by stage: every artifact that has lines of metrics."""
    runs = [
        TrainingCurves(group.stage, group.variants, thinned(read_points(group.artifact.path)))
        for group in groups_with(artifacts, METRICS)
    ]
    return [run for run in runs if run.curves.steps]


# Files of trainings, which may still be running.


class CurveFiles:
    """Reads the files of trainings and keeps those that were read last; for several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[tuple[int, ...], Curves]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, folder: Path) -> Curves:
        """All points of the training in `folder`, which may still be running, thinned out."""
        sign = _sign(folder)
        with self._lock:
            known = self._known.get(folder)
            if known is not None and known[0] == sign:
                self._known.move_to_end(folder)
                return known[1]
        curves = thinned(read_points(folder))
        with self._lock:
            self._known[folder] = (sign, curves)
            while len(self._known) > MOST_FILES:
                self._known.popitem(last=False)
        return curves


def _sign(folder: Path) -> tuple[int, ...]:
    try:
        status = (folder / METRICS).stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_points(folder: Path, start: int = 0) -> Curves:
    """Points from a byte of metrics.jsonl on; none where there is no such file."""
    data, begin = _tail(folder / METRICS, start)
    speeds = _speeds(folder, whole=not start) if data else {}
    rows = ({**row, SPEED: speeds.get(row["step"])} for row in _rows(data))
    curves = curves_of(rows, is_validated=is_validated(folder))
    return Curves(curves.steps, curves.columns, begin + len(data))


def is_validated(folder: Path) -> bool:
    """True if so many rows are validated that their loss says something."""
    return _validation_rows(folder) >= FEW_ROWS


def _validation_rows(folder: Path) -> int:
    """Rows that the loss is measured on, of a finished training, else of the last split."""
    own, splits = folder / "manifest.json", (folder.parent.parent / "split").glob("*/manifest.json")
    newest = () if own.exists() else sorted(splits, key=lambda path: path.stat().st_mtime)[-1:]
    for path, name in ((own, "validation_rows"), *((path, "validation") for path in newest)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(path.read_bytes())["summary"][name])
    return FEW_ROWS


def read_end(folder: Path, most: int = 4_096) -> Curves:
    """The newest points only."""
    try:
        size = (folder / METRICS).stat().st_size
    except OSError:
        return EMPTY
    return read_points(folder, max(0, size - most))


def _tail(path: Path, start: int) -> tuple[bytes, int]:
    """Complete lines from a byte on, and that byte; from 0 where the file has become shorter."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            begin = start if start <= size else 0
            stream.seek(begin)
            data = stream.read()
    except OSError:
        return b"", 0
    return data[: data.rfind(b"\n") + 1], begin


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _speeds(folder: Path, *, whole: bool) -> dict[int, float]:
    """{step: tokens per second}; of a resumed training the newest."""
    path = folder / PACE
    try:
        start = 0 if whole else max(0, path.stat().st_size - MOST_TAIL_BYTES)
    except OSError:
        return {}
    return {row["step"]: float(row.get(SPEED, 0)) for row in _rows(_tail(path, start)[0])}
