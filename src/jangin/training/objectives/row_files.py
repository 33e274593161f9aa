"""Rendered rows as .npz files, in which the workers of several devices find them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import PairRows
from jangin.training.loop.config import TrainingKeys
from jangin.training.loop.objective import Done
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import LossModel


def rows_to_arrays(rows: RenderedRows) -> dict[str, Any]:
    """The arrays of `rows` by name: ids, trained, starts, names, stop_ids."""
    return {
        "ids": rows.ids,
        "trained": rows.trained,
        "starts": rows.starts,
        "names": np.array(rows.names),
        "stop_ids": np.array(rows.stop_ids, dtype=np.int64),
    }


def rows_from_arrays(arrays: Mapping[str, Any]) -> RenderedRows:
    """The rows that `rows_to_arrays` took apart."""
    return RenderedRows(
        ids=arrays["ids"],
        trained=arrays["trained"],
        starts=arrays["starts"],
        names=tuple(str(name) for name in arrays["names"]),
        stop_ids=tuple(int(stop) for stop in arrays["stop_ids"]),
    )


def read_rows(path: Path) -> RenderedRows | None:
    """The rows in an .npz file; None if it does not exist."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return rows_from_arrays(arrays)


def write_pair_rows(path: Path, data: PairRows, reference_2R: torch.Tensor) -> None:
    """Write pairs and their log-probabilities, (2, R) float64, under the reference model."""
    np.savez(
        path,
        **rows_to_arrays(data.both),
        stems=data.stems,
        pairs=np.array(data.names),
        reference=reference_2R.numpy(),
    )


def read_pair_rows(path: Path) -> tuple[PairRows, torch.Tensor]:
    """The pairs and the log-probabilities that `write_pair_rows` wrote."""
    with np.load(path) as arrays:
        names = tuple(str(name) for name in arrays["pairs"])
        data = PairRows(rows_from_arrays(arrays), arrays["stems"], names)
        return data, torch.from_numpy(arrays["reference"])


# What objectives measure on held-out rows while training: which rows, and their sums.


BatchOfRows = TypeVar("BatchOfRows")


def measured_rows(
    config: TrainingKeys, done: Done, rows: int, *, validate: bool
) -> tuple[Sequence[int], Sequence[int]]:
    """(rows of `valid_loss`, rows of `full_valid_loss`) at a line of metrics.

    With `validation: full` the first are all rows and the second none; with `batches` the first are
    the next `examples_per_step` in turn, and the second all of them where an epoch ends.
    """
    every, batches = range(rows), config.validation == "batches"
    whole = every if batches and done.epoch_ends else ()
    if not validate or not rows:
        return (), whole
    if not batches:
        return every, whole
    size = min(config.examples_per_step, rows)
    first = (done.step - 1) // config.validate_every_steps * size
    return [(first + number) % rows for number in range(size)], whole


@torch.no_grad()
def add_up(
    loss_model: LossModel,
    group: ProcessGroup,
    batches: Sequence[BatchOfRows],
    measure: Callable[[BatchOfRows], Mapping[str, torch.Tensor | int]],
    sums: dict[str, torch.Tensor],
) -> dict[str, float]:
    """The figures of `measure` over all batches, without dropout, added to `sums`, which are zero.

    Every process must call it, each with the same batches; the result is that of all of them.
    """
    loss_model.model.eval()
    for first in range(0, len(batches), group.size):
        number = first + group.rank
        # FSDP gathers weights in every pass, so all processes run the same number of passes.
        figures = measure(batches[min(number, len(batches) - 1)])
        if number < len(batches):
            for name in sums:
                sums[name] += figures[name]
    loss_model.model.train()
    group.reshard(loss_model)
    with group.reduced(sums):
        return {name: value.item() for name, value in sums.items()}
