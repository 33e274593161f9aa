"""What becomes of every row: a split, or a reason; decided over all rows with a byte for each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from jangin.prepare.engine.spill import MOST_NAMED, PLACE, PORTION, Spool
from jangin.prepare.engine.stratified_split import (
    MOST_STRATA,
    SPLITS,
    draw,
    refuse_empty,
    strata_mode,
)
from jangin.prepare.tables.prefetch import mapped
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, Deduplicate
from jangin.prepare.transforms.steps import WholeStep, decide, needed

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

GONE = len(SPLITS)
"""Set aside by a step by row, with the reason that the row has."""
_MOST_CODES = 255


@dataclass(slots=True)
class Fates:
    """A code for each row: its place in `SPLITS`, `GONE`, or one above that for each reason."""

    codes: "np.ndarray"
    reasons: list[str] = field(default_factory=list)
    """Those of the steps over all rows."""
    answers: list[int] = field(default_factory=list)
    """Hashes of the different answers that are left, up to one more than there may be strata."""

    @property
    def kept(self) -> "np.ndarray":
        """Which rows go into a split."""
        return self.codes < GONE

    def code_of(self, reason: str) -> int:
        """The code of a reason, which is a new one at first sight."""
        if reason not in self.reasons:
            self.reasons.append(reason)
            if GONE + len(self.reasons) > _MOST_CODES and self.codes.itemsize == 1:
                self.codes = self.codes.astype("uint32")
        return GONE + 1 + self.reasons.index(reason)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows were set aside."""

    reason: str
    rows: int
    lines: tuple[int, ...]
    """The first few, as the file counts."""


def settle(spool: Spool, whole: Sequence[WholeStep]) -> Fates:
    """Take the steps over all rows; every row that is kept is in the first split so far.

    Copies of a text are looked at bucket by bucket; other steps hold what they need of all rows.
    """
    import numpy as np
    import polars as pl

    fates = Fates(np.frombuffer(spool.gone, np.uint8) * np.uint8(GONE))
    alone = any(not isinstance(step, Deduplicate) for step in whole)
    names = dict.fromkeys([ANSWER, *(name for step in whole for name in needed(step))])
    if whole:
        buckets = spool.buckets(KEY, list(names), fates.kept, whole=alone)
        for gone in mapped(partial(_gone, whole), buckets):
            for reason, places in gone:
                code = fates.code_of(reason)
                fates.codes[places] = code
    kept = fates.kept
    seen: set[int] = set()
    for start, rows in spool.read(ANSWER):
        left = rows.filter(pl.Series(kept[start : start + len(rows)]))
        seen.update(left[ANSWER].unique().head(MOST_STRATA + 1).to_list())
        if len(seen) > MOST_STRATA:
            break
    fates.answers = sorted(seen)
    return fates


def _gone(whole: Sequence[WholeStep], rows: "pl.DataFrame") -> "list[tuple[str, np.ndarray]]":
    """(reason, places of the rows that go for it) of one bucket."""
    import polars as pl

    rows = rows.with_columns(pl.lit(None, pl.Categorical).alias(REASON))
    for step in whole:
        rows = rows.with_columns(decide(step, rows))
    gone = rows.select(PLACE, REASON).filter(pl.col(REASON).is_not_null())
    groups = gone.group_by(REASON, maintain_order=True)
    return [(str(reason), group[PLACE].to_numpy()) for (reason,), group in groups]


def share(
    spool: Spool, fates: Fates, unit: str, whole: Sequence[WholeStep],
    validation: float, test: float, seed: int,
) -> None:  # fmt: skip
    """Share the rows that are kept out to the splits, as `share_out` does, bucket by bucket.

    Raises `SettingsError` where a split that was asked for gets no row.
    """
    import numpy as np
    import polars as pl

    kept = fates.kept
    single = unit == KEY and any(
        isinstance(s, Deduplicate) and s.conflicts != "keep" for s in whole
    )
    if single:
        strata = np.concatenate([_strata(rows, fates) for rows in _each(spool, kept)])
        found = draw(strata, None, validation, test, seed)
        refuse_empty(found, validation, test, np.broadcast_to(np.uint8(1), len(found)))
        fates.codes[kept] = found
        return
    heads = np.zeros(spool.rows, bool)
    strata, sizes = np.zeros(spool.rows, np.uint8), np.zeros(spool.rows, np.uint32)
    for rows in spool.buckets(unit, [ANSWER], kept):
        units = _units(rows, unit, fates)
        places = units[PLACE].to_numpy()
        heads[places] = True
        strata[places], sizes[places] = units["stratum"].to_numpy(), units["n"].to_numpy()
    sizes = sizes[heads]
    found = draw(strata[heads], sizes, validation, test, seed)
    fates.codes[heads] = found
    for rows in spool.buckets(unit, [], kept):
        first = rows.select(pl.col(PLACE).min().over(unit)).to_series()
        fates.codes[rows[PLACE].to_numpy()] = fates.codes[first.to_numpy()]
    refuse_empty(fates.codes[kept], validation, test, sizes)


def _each(spool: Spool, kept: "np.ndarray") -> "Iterator[pl.DataFrame]":
    """The answers of rows that are kept, portion by portion."""
    import polars as pl

    for start, rows in spool.read(ANSWER):
        yield rows.filter(pl.Series(kept[start : start + len(rows)]))


def _units(rows: "pl.DataFrame", unit: str, fates: Fates) -> "pl.DataFrame":
    """Of each unit the place of its first row, its most frequent stratum and its rows."""
    import polars as pl

    coded = rows.with_columns(stratum=pl.Series(_strata(rows, fates), dtype=pl.UInt8))
    return coded.group_by(unit, maintain_order=True).agg(
        pl.col(PLACE).first(), strata_mode(), n=pl.len()
    )


def _strata(rows: "pl.DataFrame", fates: Fates) -> "np.ndarray":
    """The stratum of each row: its answer, where there are few."""
    import numpy as np
    import polars as pl

    if len(fates.answers) > MOST_STRATA:
        return np.zeros(len(rows), np.uint8)
    old = pl.Series(fates.answers, dtype=pl.UInt64)
    codes = rows[ANSWER].replace_strict(old, range(len(old)), return_dtype=pl.UInt8)
    return codes.to_numpy()


def reasons_of(spool: Spool, fates: Fates) -> tuple[Reason, ...]:
    """Why rows were set aside, the most frequent reason first."""
    import numpy as np

    counts = Counter(spool.reasons)
    lines = dict(spool.lines)
    for code, reason in enumerate(fates.reasons, start=GONE + 1):
        marked = fates.codes == code
        counts[reason] += int(np.count_nonzero(marked))
        first = [spool.line(place) for place in islice(_places(marked), MOST_NAMED)]
        lines[reason] = sorted([*lines.get(reason, []), *first])[:MOST_NAMED]
    ordered = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return tuple(Reason(reason, counts[reason], tuple(sorted(lines[reason]))) for reason in ordered)


def _places(marked: "np.ndarray") -> Iterator[int]:
    """Where something is marked, looked up as far as it is asked for."""
    for start in range(0, len(marked), PORTION):
        yield from (marked[start : start + PORTION].nonzero()[0] + start).tolist()
