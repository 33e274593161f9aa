"""Which rows are for training, validation and test: drawn by answer, never tearing a group."""

from typing import TYPE_CHECKING

from jangin.core.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "validation", "test")
MOST_STRATA = 50
"""Different answers up to which each is shared out by itself."""


def share_out(
    rows: "pl.DataFrame", unit: str, answer: str, validation: float, test: float, seed: int
) -> "pl.Series":
    """Places in `SPLITS` for rows; those with the same `unit` go together.

    Of every answer the same share is held out, where there are few different ones. The draws go
    by the order of first appearance, so rows added at the end move none of those before them but
    at the edge of a share. Raises `SettingsError` where a split that was asked for gets no row.
    """
    import numpy as np
    import polars as pl

    answers = rows[answer].unique()
    units = rows.select(unit=unit, stratum=answer)
    alone = not units["unit"].is_duplicated().any()
    if not alone:
        units = units.group_by("unit", maintain_order=True).agg(
            pl.col("stratum").mode(maintain_order=True).first(), n=pl.len()
        )
    drawn = np.argsort(np.random.default_rng(seed).random(len(units)))
    few = len(answers) <= MOST_STRATA
    stratum = units["stratum"].to_numpy()[drawn] if few else np.zeros(len(units), np.uint64)
    size = np.ones(len(units)) if alone else units["n"].to_numpy().astype(np.float64)[drawn]
    place = np.zeros(len(units), np.uint8)
    for each in np.unique(stratum):
        mine = np.flatnonzero(stratum == each)
        middle = np.cumsum(size[mine]) - size[mine] / 2
        total = size[mine].sum()
        place[drawn[mine]] = np.where(
            middle < test * total, 2, np.where(middle < (test + validation) * total, 1, 0)
        )
    found = pl.Series(place)
    if not alone:
        decided = units.select("unit").with_columns(split=found)
        joined = rows.select(unit=unit)
        found = joined.join(decided, on="unit", how="left", maintain_order="left")["split"]
    for split, share in (("test", test), ("validation", validation), ("train", 1.0)):
        if share and not (found == SPLITS.index(split)).any():
            raise SettingsError(
                f"{split} would be empty: {len(rows)} rows in {len(units)} groups are too few for "
                f"a share of {share:g}. Add rows, or set another share (0 for none)."
            )
    return found
