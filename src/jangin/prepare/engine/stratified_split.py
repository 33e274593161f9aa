"""Stratified split: training, validation and test rows by answer, with groups kept together."""

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from jangin.core.errors import SettingsError, counted

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation", "test")
MAX_STRATA = 50
"""Number of different answers up to which each is a stratum of its own."""
BINS = 1 << 12
"""Bins of [0, 1) per stratum; a power of two, so that the bin of a draw is exact."""
DRAW_BATCH = 1 << 18
"""Number of units that are drawn in one call."""


def draw_splits(
    strata: "np.ndarray", sizes: "np.ndarray | None", validation: float, test: float, seed: int
) -> "np.ndarray":
    """The split of each unit: (units,) uint8, an index into `SPLITS`, in the order of `strata`.

    `strata` (units,) uint8 is the stratum of each unit, `sizes` (units,) its number of rows (None:
    1 each). The result is the same as if the units of each stratum were sorted by a uniform draw
    and the first ones became the test set, the next ones the validation set. Strata with too few
    rows for that are merged into one. A unit's draw depends only on its position and the seed, so
    units that are appended change earlier ones only at the edges of a split.

    The draws are generated again when needed instead of stored, and only those in the bins around
    the two edges are sorted, so memory is about two bytes per unit.
    """
    import numpy as np

    kinds = int(strata.max(initial=0)) + 1
    summed, largest = np.zeros(kinds * BINS), np.ones(kinds)
    for part, draws in _draws(len(strata), seed):
        size = None if sizes is None else sizes[part]
        summed += np.bincount(_bins(strata[part], draws), size, minlength=kinds * BINS)
        if size is not None:
            np.maximum.at(largest, strata[part], size)
    weights = summed.reshape(kinds, BINS)
    small = weights.sum(axis=1) * _smallest_share(validation, test) < largest
    if small.any():
        merged = np.where(small, small.argmax(), np.arange(kinds)).astype(strata.dtype)
        strata, unmerged = merged[strata], weights
        weights = np.zeros_like(unmerged)
        np.add.at(weights, merged, unmerged)
    before = np.cumsum(weights, axis=1) - weights
    totals = weights.sum(axis=1)
    targets = np.stack([test * totals, (test + validation) * totals])
    edge = np.stack([(before < row[:, None]).sum(axis=1) - 1 for row in targets])
    near = np.zeros(kinds * BINS, bool)
    for bins in edge:
        near[(np.arange(kinds) * BINS + bins)[bins >= 0]] = True
    around = []
    for part, draws in _draws(len(strata), seed):
        bins = _bins(strata[part], draws)
        units = np.flatnonzero(near[bins])
        size = np.ones(len(units)) if sizes is None else sizes[part][units]
        around.append(np.stack([bins[units], draws[units], size]))
    bins, draws, size = np.concatenate(around, axis=1) if around else np.zeros((3, 0))
    last = np.full((2, kinds), -1.0)
    for row, kind in zip(*np.nonzero(edge >= 0), strict=True):
        mine = np.flatnonzero(bins == kind * BINS + edge[row, kind])
        mine = mine[np.argsort(draws[mine])]
        middle = before[kind, edge[row, kind]] + np.cumsum(size[mine]) - size[mine] / 2
        inside = mine[middle < targets[row, kind]]
        below = np.nextafter(edge[row, kind] / BINS, -1)
        last[row, kind] = draws[inside[-1]] if len(inside) else below
    splits = np.zeros(len(strata), np.uint8)
    for part, draws in _draws(len(strata), seed):
        last_test, last_held_out = last[:, strata[part]]
        splits[part] = np.where(draws <= last_test, 2, draws <= last_held_out)
    return splits


def _draws(units: int, seed: int) -> "Iterator[tuple[slice, np.ndarray]]":
    """(slice of the units, their draws in [0, 1) float64); the same for each call with a seed."""
    import numpy as np

    random = np.random.default_rng(seed)
    for start in range(0, units, DRAW_BATCH):
        part = slice(start, min(units, start + DRAW_BATCH))
        yield part, random.random(part.stop - part.start)


def _bins(strata: "np.ndarray", draws: "np.ndarray") -> "np.ndarray":
    """(units,) int64: index of the bin of each draw, over all strata."""
    import numpy as np

    return strata.astype(np.int64) * BINS + (draws * BINS).astype(np.int64)


def _smallest_share(validation: float, test: float) -> float:
    """The smaller share above 0 of the two; 1 if both are 0."""
    return min((share for share in (validation, test) if share), default=1.0)


def refuse_empty_splits(
    splits: "np.ndarray", validation: float, test: float, sizes: "np.ndarray"
) -> None:
    """Check that every split with a share has a row.

    `splits` (rows,) are indices into `SPLITS`, `sizes` (units,) the number of rows of each unit.

    Raises `SettingsError` if a requested split is empty; the message says how many rows are enough.
    """
    import numpy as np

    counts = np.bincount(splits, minlength=len(SPLITS))
    rest = 1 - validation - test
    for split, share in (("test", test), ("validation", validation), ("train", rest)):
        if share and not counts[SPLITS.index(split)]:
            grouped = len(sizes) < len(splits)
            raise SettingsError(
                f"{split} would be empty: {counted(len(splits), 'row')}"
                f"{f' in {len(sizes)} groups' if grouped else ''} are too few for a share of "
                f"{share:.3g}. {_sufficient(validation, test, sizes)}. A share of 0 turns a split "
                "off."
            )


def _sufficient(validation: float, test: float, sizes: "np.ndarray") -> str:
    """What would leave no split empty: a number of units, and larger shares if they are possible.

    A share as large as the largest unit always holds the middle of one unit. The rest, for
    training, needs only half of that, because it ends with the last row.
    """
    rows, largest = int(sizes.sum()), int(sizes.max())
    units = ceil(max(1 / _smallest_share(validation, test), 0.51 / (1 - validation - test)))
    word = "groups of similar size" if len(sizes) < rows else "rows"
    larger = ceil(1000 * largest / rows) / 1000
    low = {n: s for n, s in (("validation", validation), ("test", test)) if 0 < s < larger}
    train = 1 - validation - test - sum(larger - share for share in low.values())
    if not low or train * rows < largest / 2:
        return f"{units:,} {word} are enough"
    return f"{units:,} {word} are enough, or a share of {larger:g} for {' and '.join(low)}"
