"""Sequence packing and batch order; the order depends on seed, epoch and step alone.

Shapes: R rows of a set, B rows of a batch (1 when packed), T tokens of a batch row, N trained
tokens of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.options import Order
from jangin.models.tokens.segments import Segments, on_device

Batcher = Callable[[RenderedRows, Sequence[int], torch.device], "Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows ready for a forward pass. The last token of a row is only ever a target."""

    rows: tuple[int, ...]
    """Indices of the rows in the set, in the order of the batch."""
    input_ids_BT: torch.Tensor
    position_ids_BT: torch.Tensor
    indices_N: torch.Tensor
    """Where trained tokens are predicted, as indices into the flattened (B * T) batch."""
    targets_N: torch.Tensor
    segments: Segments | None
    """None for a padded batch."""
    attention_mask_BT: torch.Tensor | None
    """None for a packed batch."""
    tokens: int
    """Real tokens, padding not counted."""


@lru_cache(maxsize=2)
def shuffled(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Permutation (R,) int64 of an epoch; depends on the three arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def rows_of_step(
    rows: int, per_step: int, step: int, seed: int, order: Order = "shuffled"
) -> npt.NDArray[np.int64]:
    """Row indices of optimizer step `step`, from 0; the last step of an epoch may have fewer."""
    epoch, index = divmod(step, steps_per_epoch(rows, per_step))
    if order == "as_given":
        return np.arange(index * per_step, min((index + 1) * per_step, rows))
    return shuffled(rows, seed, epoch)[index * per_step : (index + 1) * per_step]


def steps_per_epoch(rows: int, per_step: int) -> int:
    """Optimizer steps that see every row once."""
    return -(-rows // per_step)


def split_by_budget(
    lengths: npt.NDArray[np.int64], rows: Sequence[int], budget: int
) -> list[list[int]]:
    """Rows grouped by first-fit decreasing into batches of at most `budget` tokens.

    `lengths`: (R,) tokens of every row of the set. A row longer than the budget gets a batch of its
    own. Each batch is sorted by length, longest first.
    """
    batches: list[list[int]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda r: (-int(lengths[r]), r)):
        length = int(lengths[row])
        index = next((i for i, left in enumerate(room) if left >= length), None)
        if index is None:
            batches.append([row])
            room.append(budget - length)
        else:
            batches[index].append(row)
            room[index] -= length
    return batches


def packed_batch(data: RenderedRows, rows: Sequence[int], device: torch.device) -> Batch:
    """All rows concatenated in one batch row (B = 1); positions restart, nothing is padded."""
    parts = [data.row(row) for row in rows]
    lengths = tuple(len(ids) - 1 for ids, _ in parts)
    trained = np.concatenate([mask[1:] for _, mask in parts])
    return Batch(
        rows=tuple(int(row) for row in rows),
        input_ids_BT=_tensor(np.concatenate([ids[:-1] for ids, _ in parts])[None], device),
        position_ids_BT=_tensor(np.concatenate([np.arange(n) for n in lengths])[None], device),
        indices_N=_tensor(np.flatnonzero(trained), device),
        targets_N=_tensor(np.concatenate([ids[1:] for ids, _ in parts])[trained], device),
        segments=Segments.of(lengths, device),
        attention_mask_BT=None,
        tokens=sum(lengths),
    )


def padded_batch(data: RenderedRows, rows: Sequence[int], device: torch.device) -> Batch:
    """One batch row per row, padded on the right: for families that cannot be packed exactly."""
    parts = [data.row(row) for row in rows]
    longest = max(len(ids) for ids, _ in parts) - 1
    ids_BT = np.zeros((len(parts), longest), np.int64)
    mask_BT = np.zeros((len(parts), longest), np.int64)
    targets_BT = np.zeros((len(parts), longest), np.int64)
    trained_BT = np.zeros((len(parts), longest), np.bool_)
    for index, (ids, trained) in enumerate(parts):
        length = len(ids) - 1
        ids_BT[index, :length] = ids[:-1]
        mask_BT[index, :length] = 1
        targets_BT[index, :length] = ids[1:]
        trained_BT[index, :length] = trained[1:]
    flat = trained_BT.ravel()
    return Batch(
        rows=tuple(int(row) for row in rows),
        input_ids_BT=_tensor(ids_BT, device),
        position_ids_BT=_tensor(np.tile(np.arange(longest), (len(parts), 1)), device),
        indices_N=_tensor(np.flatnonzero(flat), device),
        targets_N=_tensor(targets_BT.ravel()[flat], device),
        segments=None,
        attention_mask_BT=_tensor(mask_BT, device),
        tokens=int(mask_BT.sum()),
    )


def _tensor(array: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return on_device(torch.from_numpy(np.ascontiguousarray(array)), device)
