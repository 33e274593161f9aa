"""The curves of a training while it lasts and afterwards, from its own files.

A file of 100,000 lines is read once; a page gets as many points as it can show.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.report.charts import svg
from jangin.report.i18n.translate import Words
from jangin.training.loop.config import TrainingKeys
from jangin.views.artifacts import FEW_ROWS

METRICS, PACE = "metrics.jsonl", "runtime/pace.jsonl"
FIELDS = ("train_loss", "valid_loss", "learning_rate", "tokens_per_second")
"""Figures of a point, besides its step."""
MOST_POINTS = 1_000
MOST_FILES = 16
MOST_TAIL_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Curves:
    """Points of one training, one column per figure; None where a figure was not measured."""

    steps: tuple[int, ...]
    columns: dict[str, tuple[float | None, ...]]
    end: int
    """Bytes of metrics.jsonl that were read."""

    @property
    def data(self) -> dict[str, Any]:
        """As JSON for the page."""
        return {"steps": self.steps, **self.columns, "end": self.end}

    def last(self, field: str) -> float | None:
        """The newest value of a figure; None where there is none."""
        values = self.columns.get(field, ())
        return next((value for value in reversed(values) if value is not None), None)


EMPTY = Curves((), dict.fromkeys(FIELDS, ()), 0)


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
    rows = list(_rows(data))
    if not rows:
        return Curves((), dict(EMPTY.columns), begin + len(data))
    speeds = _speeds(folder, whole=not start)
    columns = {
        name: tuple(_figure(row.get(name)) for row in rows)
        for name in FIELDS
        if name != "tokens_per_second"
    }
    # With `validation: batches` the loss of all rows is measured at the end of an epoch only.
    few = not is_validated(folder)
    columns["valid_loss"] = tuple(
        None if few else _figure(row.get("full_valid_loss", row.get("valid_loss"))) for row in rows
    )
    columns["tokens_per_second"] = tuple(speeds.get(row["step"]) for row in rows)
    return Curves(tuple(row["step"] for row in rows), columns, begin + len(data))


def is_validated(folder: Path) -> bool:
    """True if so many rows are validated that their loss says something."""
    return _validation_rows(folder) >= FEW_ROWS


def _validation_rows(folder: Path) -> int:
    """Rows that the loss is measured on, of a finished training, else of the last split."""
    splits = (folder.parent.parent / "split").glob("*/manifest.json")
    newest = sorted(splits, key=lambda path: path.stat().st_mtime)[-1:]
    for path, name in (
        (folder / "manifest.json", "validation_rows"),
        *((p, "validation") for p in newest),
    ):
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


def _rows(data: bytes) -> Sequence[dict[str, Any]]:
    rows = []
    for line in data.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _speeds(folder: Path, *, whole: bool) -> dict[int, float]:
    """{step: tokens per second}; of a resumed training the newest."""
    path = folder / PACE
    try:
        start = 0 if whole else max(0, path.stat().st_size - MOST_TAIL_BYTES)
    except OSError:
        return {}
    rows = _rows(_tail(path, start)[0])
    return {row["step"]: float(row.get("tokens_per_second", 0)) for row in rows}


def _figure(value: object) -> float | None:
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


def loss_chart(name: str, curves: Curves, words: Words) -> str:
    """Loss of training and validation as SVG; empty where there is no point."""
    lines = []
    for colour, field in enumerate(("train_loss", "valid_loss")):
        values = zip(curves.steps, curves.columns[field], strict=True)
        points = tuple((float(step), value) for step, value in values if value is not None)
        if points:
            label = words("runs_train_loss" if field == "train_loss" else "runs_valid_loss")
            lines.append(svg.Curve(label, points, colour, dashed=field == "valid_loss"))
    if not lines:
        return ""
    return svg.curves(name, words("loss"), words("loss_description"), lines, words("steps"))


def is_training(config: object) -> bool:
    """True for the settings of a stage that writes curves."""
    return isinstance(config, TrainingKeys)
