"""Which rows are for training, validation and test: drawn by answer, never tearing a group."""

from collections.abc import Iterator
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

    Of every answer the same share is held out, where there are few different ones. The draws go
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
    refuse_empty(joined["split"].to_numpy(), validation, test, len(units))
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
    the draws are made again where they are needed instead of kept, and only those around the two
    edges are sorted, so that memory is two bytes for each unit.
    """
    import numpy as np

    kinds = int(strata.max(initial=0)) + 1
    summed = np.zeros(kinds * BINS)
    for part, drawn in _drawn(len(strata), seed):
        size = None if sizes is None else sizes[part]
        summed += np.bincount(_cells(strata[part], drawn), size, minlength=kinds * BINS)
    weights = summed.reshape(kinds, BINS)
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


def refuse_empty(found: "np.ndarray", validation: float, test: float, units: int) -> None:
    """Raise `SettingsError` where a split that was asked for got no row."""
    import numpy as np

    counts = np.bincount(found, minlength=len(SPLITS))
    for split, share in (("test", test), ("validation", validation), ("train", 1.0)):
        if share and not counts[SPLITS.index(split)]:
            raise SettingsError(
                f"{split} would be empty: {len(found)} rows in {units} groups are too few for "
                f"a share of {share:g}. Add rows, or set another share (0 for none)."
            )
