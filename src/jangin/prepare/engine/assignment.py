"""The assignment of every row: its split or the reason it was dropped, one byte per row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from jangin.prepare.engine.spill import INDEX, MAX_NAMED, PORTION, SpillFile
from jangin.prepare.engine.stratified_split import (
    MAX_STRATA,
    SPLITS,
    draw_splits,
    refuse_empty_splits,
)
from jangin.prepare.tables.csv import thread_map
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT, Deduplicate
from jangin.prepare.transforms.steps import TableStep, required_columns, update_reasons

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


# Join units of the split whose prompts are near-duplicates, so that none is in two splits.


def joined_units(spill: SpillFile, unit: str, kept: "np.ndarray", least: float) -> "pl.DataFrame":
    """The kept rows as one bucket of `spill.buckets(unit, [ANSWER], kept)`, with larger units.

    Units that hold prompts of at least this normalised Levenshtein similarity become one, named by
    its first row. All prompts are held in memory.
    """
    import numpy as np
    import polars as pl

    from jangin.text.dedup.components import first_connected
    from jangin.text.dedup.near_duplicates import DuplicateRules, find_matches

    (rows,) = spill.buckets(unit, [ANSWER, PROMPT], kept, single=True)
    own = np.arange(len(rows))
    numbered = rows.select(unit, pl.Series("own", own))
    first = numbered.select(pl.col("own").min().over(unit)).to_series().to_numpy()
    matches = find_matches(rows[PROMPT].to_list(), DuplicateRules(threshold=least))
    pairs = [np.stack([own, first], 1), np.stack([own, matches.firsts], 1), matches.pairs]
    joined = first_connected(np.concatenate(pairs), len(rows))
    return rows.drop(PROMPT).with_columns(pl.Series(unit, joined, dtype=pl.UInt64))


DROPPED = len(SPLITS)
"""Code of a row that a row step dropped; its reason is in the column `REASON`."""
_MAX_BYTE = 255


@dataclass(slots=True)
class RowAssignment:
    """A code for each row: an index into `SPLITS`, `DROPPED`, or a reason of a table step."""

    codes: "np.ndarray"
    """(rows,) uint8, or uint32 with more than 251 reasons; code `DROPPED + 1 + i` is
    `reasons[i]`."""
    reasons: list[str] = field(default_factory=list)
    """Drop reasons of the table steps."""
    answers: list[int] = field(default_factory=list)
    """Sorted hashes of the different answers of the kept rows; incomplete above `MAX_STRATA`."""

    @property
    def kept(self) -> "np.ndarray":
        """(rows,) bool: the rows that have a split."""
        return self.codes < DROPPED

    def code_of(self, reason: str) -> int:
        """The code of a drop reason, which is added if it is new."""
        if reason not in self.reasons:
            self.reasons.append(reason)
            if DROPPED + len(self.reasons) > _MAX_BYTE and self.codes.itemsize == 1:
                self.codes = self.codes.astype("uint32")
        return DROPPED + 1 + self.reasons.index(reason)


@dataclass(frozen=True, slots=True)
class DropReason:
    """A reason with the rows that were dropped for it."""

    reason: str
    rows: int
    lines: tuple[int, ...]
    """The first few lines of the source file, from 1."""


def apply_table_steps(spill: SpillFile, steps: Sequence[TableStep]) -> RowAssignment:
    """Apply the table steps; every kept row is assigned to the first split for now.

    `deduplicate` works bucket by bucket; the other steps hold the columns they need of all rows.
    """
    import numpy as np
    import polars as pl

    assignment = RowAssignment(np.frombuffer(spill.dropped, np.uint8) * np.uint8(DROPPED))
    single = any(not isinstance(step, Deduplicate) for step in steps)
    names = dict.fromkeys([ANSWER, *(name for step in steps for name in required_columns(step))])
    if steps:
        buckets = spill.buckets(KEY, list(names), assignment.kept, single=single)
        for dropped in thread_map(partial(_dropped, steps), buckets):
            for reason, indices in dropped:
                code = assignment.code_of(reason)
                assignment.codes[indices] = code
    kept = assignment.kept
    seen: set[int] = set()
    for start, rows in spill.read(ANSWER):
        left = rows.filter(pl.Series(kept[start : start + len(rows)]))
        seen.update(left[ANSWER].unique().head(MAX_STRATA + 1).to_list())
        if len(seen) > MAX_STRATA:
            break
    assignment.answers = sorted(seen)
    return assignment


def _dropped(steps: Sequence[TableStep], rows: "pl.DataFrame") -> "list[tuple[str, np.ndarray]]":
    """(drop reason, indices of its rows) of one bucket."""
    import polars as pl

    rows = rows.with_columns(pl.lit(None, pl.Categorical).alias(REASON))
    for step in steps:
        rows = rows.with_columns(update_reasons(step, rows))
    dropped = rows.select(INDEX, REASON).filter(pl.col(REASON).is_not_null())
    groups = dropped.group_by(REASON, maintain_order=True)
    return [(str(reason), group[INDEX].to_numpy()) for (reason,), group in groups]


def assign_splits(
    spill: SpillFile, assignment: RowAssignment, unit: str, steps: Sequence[TableStep],
    validation: float, test: float, seed: int, near_copies: float | None = None,
) -> None:  # fmt: skip
    """Assign the kept rows to splits, stratified by answer; writes into `assignment.codes`.

    Rows with the same value in the column `unit` get the same split, and, with `near_copies`, rows
    whose prompts are at least that similar. The stratum of a unit is its most frequent answer, the
    first one of ties.

    Raises `SettingsError` if a requested split is empty.
    """
    import numpy as np
    import polars as pl

    kept = assignment.kept
    joined = None if near_copies is None else joined_units(spill, unit, kept, near_copies)
    distinct = unit == KEY and any(
        isinstance(s, Deduplicate) and s.conflicts != "keep" for s in steps
    )
    if distinct and joined is None:
        strata = np.concatenate([_strata(rows, assignment) for rows in _answers(spill, kept)])
        splits = draw_splits(strata, None, validation, test, seed)
        refuse_empty_splits(splits, validation, test, np.broadcast_to(np.uint8(1), len(splits)))
        assignment.codes[kept] = splits
        return
    heads = np.zeros(spill.rows, bool)
    strata, sizes = np.zeros(spill.rows, np.uint8), np.zeros(spill.rows, np.uint32)
    for rows in spill.buckets(unit, [ANSWER], kept) if joined is None else [joined]:
        units = _units(rows, unit, assignment)
        indices = units[INDEX].to_numpy()
        heads[indices] = True
        strata[indices], sizes[indices] = units["stratum"].to_numpy(), units["n"].to_numpy()
    sizes = sizes[heads]
    assignment.codes[heads] = draw_splits(strata[heads], sizes, validation, test, seed)
    for rows in spill.buckets(unit, [], kept) if joined is None else [joined]:
        first = rows.select(pl.col(INDEX).min().over(unit)).to_series()
        assignment.codes[rows[INDEX].to_numpy()] = assignment.codes[first.to_numpy()]
    refuse_empty_splits(assignment.codes[kept], validation, test, sizes)


def _answers(spill: SpillFile, kept: "np.ndarray") -> "Iterator[pl.DataFrame]":
    """The answer hashes of the kept rows, portion by portion."""
    import polars as pl

    for start, rows in spill.read(ANSWER):
        yield rows.filter(pl.Series(kept[start : start + len(rows)]))


def _units(rows: "pl.DataFrame", unit: str, assignment: RowAssignment) -> "pl.DataFrame":
    """For each unit the index of its first row, its stratum and its number of rows."""
    import polars as pl

    coded = rows.with_columns(stratum=pl.Series(_strata(rows, assignment), dtype=pl.UInt8))
    return coded.group_by(unit, maintain_order=True).agg(
        pl.col(INDEX).first(), pl.col("stratum").mode(maintain_order=True).first(), n=pl.len()
    )


def _strata(rows: "pl.DataFrame", assignment: RowAssignment) -> "np.ndarray":
    """(rows,) uint8: the stratum of each row; all 0 if there are too many different answers."""
    import numpy as np
    import polars as pl

    if len(assignment.answers) > MAX_STRATA:
        return np.zeros(len(rows), np.uint8)
    hashes = pl.Series(assignment.answers, dtype=pl.UInt64)
    codes = rows[ANSWER].replace_strict(hashes, range(len(hashes)), return_dtype=pl.UInt8)
    return codes.to_numpy()


def drop_reasons(spill: SpillFile, assignment: RowAssignment) -> tuple[DropReason, ...]:
    """All drop reasons with their rows, the most frequent first."""
    import numpy as np

    counts = Counter(spill.reasons)
    lines = dict(spill.lines)
    for code, reason in enumerate(assignment.reasons, start=DROPPED + 1):
        mask = assignment.codes == code
        counts[reason] += int(np.count_nonzero(mask))
        first = [spill.line_of(index) for index in islice(_indices(mask), MAX_NAMED)]
        lines[reason] = sorted([*lines.get(reason, []), *first])[:MAX_NAMED]
    ordered = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return tuple(
        DropReason(reason, counts[reason], tuple(sorted(lines[reason]))) for reason in ordered
    )


def _indices(mask: "np.ndarray") -> Iterator[int]:
    """Indices where a mask is set, computed lazily in portions."""
    for start in range(0, len(mask), PORTION):
        yield from (mask[start : start + PORTION].nonzero()[0] + start).tolist()
