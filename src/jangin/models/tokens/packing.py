"""Sequence packing and batch order; the order depends on seed, epoch and step alone.

Shapes: R rows of a set, B rows of a batch (1 when packed), T tokens of a batch row, N trained
tokens of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.core.errors import TrainingError
from jangin.core.records import PreferencePair
from jangin.models.tokens.chat_template import RenderedRows, render_rows
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
    columns_C: torch.Tensor | None
    """Columns of a padded batch in which a row predicts a trained token, ascending; else None."""
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
        columns_C=None,
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
        columns_C=_tensor(np.flatnonzero(trained_BT.any(0)), device),
        tokens=int(mask_BT.sum()),
    )


def _tensor(array: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return on_device(torch.from_numpy(np.ascontiguousarray(array)), device)


# Packing of preference pairs: token ids, and batches that compute a shared prompt once.
#
# A packed pair is one segment with a branch: [prompt, chosen] and, seeing the prompt too,
# [rejected]. A common start of the two answers belongs to the stem as well. This is exact:
# positions continue from the stem, and the first token of the branch is predicted at the last
# token of the stem.
#
# Shapes: R pairs of a set, P pairs of a batch, N predicted tokens of a batch.


@dataclass(frozen=True, slots=True)
class PairRows:
    """Token ids of many pairs."""

    both: RenderedRows
    """Row r is the r-th prompt with its chosen answer, row R + r with its rejected one."""
    stems: npt.NDArray[np.int64]
    """(R,) int64: tokens at the start of each pair that both answers share."""
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.names)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens that a forward pass computes for each packed pair."""
        chosen, rejected = self.both.lengths.reshape(2, -1)
        return chosen + rejected - 2 - self.stems

    @property
    def padded_lengths(self) -> npt.NDArray[np.int64]:
        """The same for each pair as two rows."""
        chosen, rejected = self.both.lengths.reshape(2, -1)
        return 2 * np.maximum(chosen, rejected) - 2


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs ready for a forward pass."""

    rows: tuple[int, ...]
    """Indices of the P pairs in the set, in order."""
    batch: Batch
    owners_N: torch.Tensor
    """int64: the answer of each predicted token: 0 to P - 1 chosen, P to 2P - 1 rejected."""
    chosen_tokens: int
    """Predicted tokens of the chosen answers; counted on the CPU, so no GPU is waited for."""

    @property
    def tokens(self) -> int:
        """Tokens computed, padding not counted."""
        return self.batch.tokens


def render_pairs(tokenizer: Any, pairs: Sequence[PreferencePair]) -> PairRows:
    """Tokenize pairs; answers and their stop tokens are what is predicted.

    Raises:
        TrainingError: as `render_rows`, and if one answer is a prefix of the other.

    """
    names = [f"row {row} ({pair.id})" for row, pair in enumerate(pairs, 1)]
    both = render_rows(
        tokenizer,
        [(*pair.prompt, pair.chosen) for pair in pairs]
        + [(*pair.prompt, pair.rejected) for pair in pairs],
        [f"{name}, chosen" for name in names] + [f"{name}, rejected" for name in names],
    )
    return _with_stems(both, tuple(names))


def _with_stems(both: RenderedRows, names: tuple[str, ...]) -> PairRows:
    stems = np.zeros(len(names), np.int64)
    for index, name in enumerate(names):
        chosen, rejected = both.row(index)[0], both.row(len(names) + index)[0]
        shorter = min(len(chosen), len(rejected))
        apart = np.flatnonzero(chosen[:shorter] != rejected[:shorter])
        if not len(apart):
            raise TrainingError(
                f"{name}: one answer is the beginning of the other, token by token, so there is "
                "nothing to prefer. Remove the pair."
            )
        stems[index] = apart[0]
    return PairRows(both, stems, names)


def drop_long(data: PairRows, limit: int) -> tuple[PairRows, npt.NDArray[np.int64]]:
    """(pairs without rows of more than `limit` tokens, int64 indices of the dropped pairs)."""
    over = (data.both.lengths.reshape(2, -1) > limit).any(0)
    kept = np.flatnonzero(~over)
    rows = [data.both.row(int(row)) for row in (*kept, *(kept + len(data)))]
    lengths = [len(ids) for ids, _ in rows]
    both = RenderedRows(
        np.concatenate([ids for ids, _ in rows]) if rows else np.zeros(0, np.int64),
        np.concatenate([mask for _, mask in rows]) if rows else np.zeros(0, np.bool_),
        np.cumsum([0, *lengths], dtype=np.int64),
        tuple(data.both.names[row] for row in (*kept, *(kept + len(data)))),
        data.both.stop_ids,
    )
    names = tuple(data.names[row] for row in kept)
    return PairRows(both, data.stems[kept], names), np.flatnonzero(over)


def packed_pairs(data: PairRows, rows: Sequence[int], device: torch.device) -> PairBatch:
    """All pairs in one batch row: every chosen row, then the rest of every rejected row."""
    trunks = [data.both.row(row) for row in rows]
    others = [data.both.row(row + len(data)) for row in rows]
    stems = [int(data.stems[row]) for row in rows]
    lengths = [len(ids) - 1 for ids, _ in trunks]
    rests = [len(ids) - 1 - stem for (ids, _), stem in zip(others, stems, strict=True)]
    starts = np.cumsum([0, *lengths, *rests])
    indices, targets, owners = [], [], []
    for index, (ids, trained) in enumerate(trunks):
        predicted = np.flatnonzero(trained[1:])
        indices.append(starts[index] + predicted)
        targets.append(ids[predicted + 1])
        owners.append(np.full(len(predicted), index))
    for index, ((ids, trained), stem) in enumerate(zip(others, stems, strict=True)):
        predicted = np.flatnonzero(trained[1:])
        rest = starts[len(rows) + index] - stem
        indices.append(np.where(predicted < stem, starts[index], rest) + predicted)
        targets.append(ids[predicted + 1])
        owners.append(np.full(len(predicted), len(rows) + index))
    inputs = [ids[:-1] for ids, _ in trunks]
    inputs += [ids[stem:-1] for (ids, _), stem in zip(others, stems, strict=True)]
    positions = [np.arange(length) for length in lengths]
    positions += [np.arange(stem, stem + n) for stem, n in zip(stems, rests, strict=True)]
    batch = Batch(
        rows=tuple(int(row) for row in rows),
        input_ids_BT=_joined_tensor([np.concatenate(inputs)[None]], device),
        position_ids_BT=_joined_tensor([np.concatenate(positions)[None]], device),
        indices_N=_joined_tensor(indices, device),
        targets_N=_joined_tensor(targets, device),
        segments=Segments.forked(tuple(lengths), tuple(stems), tuple(rests), device),
        attention_mask_BT=None,
        columns_C=None,
        tokens=int(starts[-1]),
    )
    return PairBatch(
        batch.rows, batch, _joined_tensor(owners, device), sum(map(len, owners[: len(rows)]))
    )


def padded_pairs(data: PairRows, rows: Sequence[int], device: torch.device) -> PairBatch:
    """Two padded batch rows per pair: for families that cannot be packed exactly."""
    both = [*rows, *(row + len(data) for row in rows)]
    counts = [int(data.both.row(row)[1][1:].sum()) for row in both]
    owners = np.repeat(np.arange(len(both)), counts)
    batch = padded_batch(data.both, both, device)
    chosen = sum(counts[: len(rows)])
    return PairBatch(
        tuple(int(row) for row in rows), batch, _joined_tensor([owners], device), chosen
    )


def _joined_tensor(parts: Sequence[npt.NDArray[np.int64]], device: torch.device) -> torch.Tensor:
    return on_device(torch.from_numpy(np.concatenate(parts)), device)
