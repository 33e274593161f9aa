"""What objectives measure on held-out rows while training: which rows, and their sums."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from jangin.training.loop.config import TrainingKeys
from jangin.training.loop.objective import Done
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import LossModel

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
