"""Which rows are for training, validation and test: drawn by answer, never tearing a group."""

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from jangin.core.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

SPLITS = ("train", "validation", "test")
MOST_STRATA = 50
"""Different answers up to which each is shared out by itself."""
BINS = 1 << 12
AT_ONCE = 1 << 18


def share_out(
    rows: "pl.DataFrame", unit: str, answer: str, validation: float, test: float, seed: int
) -> "pl.Series":
    """Places in `SPLITS` for rows; those with the same `unit` go together.

    Of every answer the same share is held out, where there are few different ones, and rows enough
    of it to give every share one; the rows of rarer answers are shared out together. The draws go
    by the order of first appearance, so rows added at the end move none of those before them but
    at the edge of a share. Raises `SettingsError` where a split that was asked for gets no row.
    """
    import polars as pl

    answers = rows[answer].unique(maintain_order=True)
    code = pl.Series([0] * len(rows), dtype=pl.UInt8)
    if len(answers) <= MOST_STRATA:
        code = rows[answer].replace_strict(answers, range(len(answers)), return_dtype=pl.UInt8)
    units = pl.DataFrame({"unit": rows[unit], "stratum": code})
    units = units.group_by("unit", maintain_order=True).agg(strata_mode(), n=pl.len())
    drawn = draw(units["stratum"].to_numpy(), units["n"].to_numpy(), validation, test, seed)
    decided = units.select("unit").with_columns(split=drawn)
    joined = rows.select(unit=unit).join(decided, on="unit", how="left", maintain_order="left")
    refuse_empty(joined["split"].to_numpy(), validation, test, units["n"].to_numpy())
    return joined["split"]


def strata_mode() -> "pl.Expr":
    """The most frequent stratum of a group, of equals the first."""
    import polars as pl

    return pl.col("stratum").mode(maintain_order=True).first()


def draw(
    strata: "np.ndarray", sizes: "np.ndarray | None", validation: float, test: float, seed: int
) -> "np.ndarray":
    """Places in `SPLITS` for units of some stratum (0 to 255) and size (1 each by default).

    As if the units of a stratum were sorted by a uniform draw and the first went to the test set;
    strata that are too small for that are taken together. The draws are made again where they are
    needed instead of kept, and only those around the two edges are sorted, so that memory is two
    bytes for each unit.
    """
    import numpy as np

    kinds = int(strata.max(initial=0)) + 1
    summed, largest = np.zeros(kinds * BINS), np.ones(kinds)
    for part, drawn in _drawn(len(strata), seed):
        size = None if sizes is None else sizes[part]
        summed += np.bincount(_cells(strata[part], drawn), size, minlength=kinds * BINS)
        if size is not None:
            np.maximum.at(largest, strata[part], size)
    weights = summed.reshape(kinds, BINS)
    small = weights.sum(axis=1) * _least(validation, test) < largest
    if small.any():
        home = np.where(small, small.argmax(), np.arange(kinds)).astype(strata.dtype)
        strata, apart = home[strata], weights
        weights = np.zeros_like(apart)
        np.add.at(weights, home, apart)
    before = np.cumsum(weights, axis=1) - weights
    totals = weights.sum(axis=1)
    wanted = np.stack([test * totals, (test + validation) * totals])
    edge = np.stack([(before < row[:, None]).sum(axis=1) - 1 for row in wanted])
    near = np.zeros(kinds * BINS, bool)
    for bins in edge:
        near[(np.arange(kinds) * BINS + bins)[bins >= 0]] = True
    around = []
    for part, drawn in _drawn(len(strata), seed):
        cells = _cells(strata[part], drawn)
        places = np.flatnonzero(near[cells])
        size = np.ones(len(places)) if sizes is None else sizes[part][places]
        around.append(np.stack([cells[places], drawn[places], size]))
    cells, drawn, size = np.concatenate(around, axis=1) if around else np.zeros((3, 0))
    last = np.full((2, kinds), -1.0)
    for row, kind in zip(*np.nonzero(edge >= 0), strict=True):
        mine = np.flatnonzero(cells == kind * BINS + edge[row, kind])
        mine = mine[np.argsort(drawn[mine])]
        middle = before[kind, edge[row, kind]] + np.cumsum(size[mine]) - size[mine] / 2
        inside = mine[middle < wanted[row, kind]]
        below = np.nextafter(edge[row, kind] / BINS, -1)
        last[row, kind] = drawn[inside[-1]] if len(inside) else below
    found = np.zeros(len(strata), np.uint8)
    for part, drawn in _drawn(len(strata), seed):
        test_until, held_until = last[:, strata[part]]
        found[part] = np.where(drawn <= test_until, 2, drawn <= held_until)
    return found


def _drawn(units: int, seed: int) -> "Iterator[tuple[slice, np.ndarray]]":
    """Uniform draws, the same ones each time, some at once."""
    import numpy as np

    random = np.random.default_rng(seed)
    for start in range(0, units, AT_ONCE):
        part = slice(start, min(units, start + AT_ONCE))
        yield part, random.random(part.stop - part.start)


def _cells(strata: "np.ndarray", drawn: "np.ndarray") -> "np.ndarray":
    """Number of the bin that each draw falls into; exact, as there are 2 ** 12."""
    import numpy as np

    return strata.astype(np.int64) * BINS + (drawn * BINS).astype(np.int64)


def _least(validation: float, test: float) -> float:
    """The smaller share of those that are held out; 1 where none is."""
    return min((share for share in (validation, test) if share), default=1.0)


def refuse_empty(found: "np.ndarray", validation: float, test: float, sizes: "np.ndarray") -> None:
    """Raise `SettingsError` where a split that was asked for got no row; `sizes` of the units."""
    import numpy as np

    counts = np.bincount(found, minlength=len(SPLITS))
    rest = 1 - validation - test
    for split, share in (("test", test), ("validation", validation), ("train", rest)):
        if share and not counts[SPLITS.index(split)]:
            grouped = len(sizes) < len(found)
            raise SettingsError(
                f"{split} would be empty: {len(found)} rows"
                f"{f' in {len(sizes)} groups' if grouped else ''} are too few for a share of "
                f"{share:.3g}. {_enough(validation, test, sizes)}, and a share of 0 is none."
            )


def _enough(validation: float, test: float, sizes: "np.ndarray") -> str:
    """What would leave no split empty: so many units, and larger shares where they have room.

    A share as large as the largest unit holds the middle of one wherever it begins; what is left
    for training needs half of that, as it ends where the rows do.
    """
    rows, largest = int(sizes.sum()), int(sizes.max())
    units = ceil(max(1 / _least(validation, test), 0.51 / (1 - validation - test)))
    word = "groups of like size" if len(sizes) < rows else "rows"
    larger = ceil(1000 * largest / rows) / 1000
    low = {n: s for n, s in (("validation", validation), ("test", test)) if 0 < s < larger}
    train = 1 - validation - test - sum(larger - share for share in low.values())
    if not low or train * rows < largest / 2:
        return f"{units:,} {word} are enough"
    return f"{units:,} {word} are enough, or a share of {larger:g} for {' and '.join(low)}"
