"""Join units of the split whose prompts are near-duplicates, so that none is in two splits."""

from typing import TYPE_CHECKING

from jangin.prepare.engine.spill import SpillFile
from jangin.prepare.transforms.deduplicate import ANSWER, PROMPT

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def joined_units(spill: SpillFile, unit: str, kept: "np.ndarray", least: float) -> "pl.DataFrame":
    """The kept rows as one bucket of `spill.buckets(unit, [ANSWER], kept)`, with larger units.

    Units that hold prompts of at least this normalised Levenshtein similarity become one, named by
    its first row. All prompts are held in memory.
    """
    import numpy as np
    import polars as pl

    from jangin.text.dedup.components import first_connected
    from jangin.text.dedup.near_duplicates import Rules, find_matches

    (rows,) = spill.buckets(unit, [ANSWER, PROMPT], kept, single=True)
    own = np.arange(len(rows))
    numbered = rows.select(unit, pl.Series("own", own))
    first = numbered.select(pl.col("own").min().over(unit)).to_series().to_numpy()
    matches = find_matches(rows[PROMPT].to_list(), Rules(threshold=least))
    pairs = [np.stack([own, first], 1), np.stack([own, matches.firsts], 1), matches.pairs]
    joined = first_connected(np.concatenate(pairs), len(rows))
    return rows.drop(PROMPT).with_columns(pl.Series(unit, joined, dtype=pl.UInt64))
