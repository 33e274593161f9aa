"""Rows on disk between the steps by row and the files: read again portion by portion, in order.

What all rows are decided by, hashes, is read by buckets: rows with one hash fall into one bucket,
so that only a few buckets' hashes are in memory at a time, however many rows there are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.prepare.tables.prefetch import mapped
from jangin.prepare.tables.schema import RAW, REASON, ROW

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

PLACE = "__place"
PORTION = 50_000
"""Rows of a portion, at least."""
BUCKET = 1 << 18
"""Rows of a bucket, on average at most."""
MOST_NAMED = 5


@dataclass(slots=True)
class Spool:
    """Rows in portions, with what was counted as they came in."""

    folder: Path
    bucket: int = BUCKET
    rows: int = 0
    portions: list[Path] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Place of each portion's first row."""
    gone: bytearray = field(default_factory=bytearray)
    """1 for each row that a step by row set aside."""
    changed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    """{reason: the first few lines that were set aside for it}."""
    largest: int = 0
    """Most rows of a bucket."""

    def fill(self, frame: "pl.LazyFrame", changes: Sequence[str]) -> None:
        """Run a query and keep its rows; columns of `changes` are only summed."""
        for path in mapped(_store, self._incoming(frame, changes), workers=1):
            self.portions.append(path)

    def _incoming(
        self, frame: "pl.LazyFrame", changes: Sequence[str]
    ) -> "Iterator[tuple[pl.DataFrame, Path]]":
        """Portions of a query's rows, counted, and where they go."""
        import polars as pl

        waiting: list[pl.DataFrame] = []
        for batch in frame.collect_batches(engine="streaming"):
            waiting.append(batch)
            if sum(map(len, waiting)) >= PORTION:
                yield self._counted(pl.concat(waiting), changes)
                waiting = []
        if waiting:
            yield self._counted(pl.concat(waiting), changes)

    def _counted(self, rows: "pl.DataFrame", changes: Sequence[str]) -> "tuple[pl.DataFrame, Path]":
        import polars as pl

        for name in changes:
            self.changed[name] += int(rows[name].sum())
        marked = rows[REASON].is_not_null()
        self.gone += marked.cast(pl.UInt8).to_numpy().tobytes()
        if marked.any():
            self._count(rows.filter(marked))
        path = self.folder / f"{len(self.starts):06}.arrow"
        unused = [name for name in (REASON, RAW) if rows[name].null_count() == len(rows)]
        self.starts.append(self.rows)
        self.rows += len(rows)
        return rows.drop(*changes, *unused), path

    def _count(self, gone: "pl.DataFrame") -> None:
        import polars as pl

        found = gone.group_by(REASON).agg(pl.len(), first=pl.col(ROW).head(MOST_NAMED))
        for reason, count, lines in found.iter_rows():
            self.reasons[reason] += count
            self.lines[reason] = [*self.lines.get(reason, []), *lines][:MOST_NAMED]

    def read(self, *names: str) -> "Iterator[tuple[int, pl.DataFrame]]":
        """(place of the first row, portion); all columns where none is named."""
        for number, start in enumerate(self.starts):
            yield start, self.portion(number, *names)

    def portion(self, number: int, *names: str) -> "pl.DataFrame":
        """The rows of one portion; all columns where none is named."""
        import polars as pl

        frame = pl.scan_ipc(self.portions[number])
        there = frame.collect_schema().names()
        unused = [pl.lit(None, pl.String).alias(n) for n in (REASON, RAW) if n not in there]
        frame = frame.with_columns(unused)
        return (frame.select(names) if names else frame).collect()

    def line(self, place: int) -> int:
        """The line in the file of one row."""
        return next(
            int(rows[ROW][place - start])
            for start, rows in self.read(ROW)
            if start <= place < start + len(rows)
        )

    def buckets(
        self, key: str, names: Sequence[str], kept: "np.ndarray", *, whole: bool = False
    ) -> "Iterator[pl.DataFrame]":
        """Rows that are `kept`, in order, with `PLACE`, `key` and other columns of hashes.

        Rows with one key come in one bucket; all rows in one where `whole`, then with any columns.
        """
        import polars as pl

        count = 1 if whole else -(-int(kept.sum()) // self.bucket)
        if count == 1:
            parts = []
            for start, rows in self.read(key, *names):
                numbered = rows.with_columns(_places(start, start + len(rows)))
                parts.append(numbered.filter(pl.Series(kept[start : start + len(rows)])))
            self.largest = max(self.largest, sum(map(len, parts)))
            yield pl.concat(parts)
            return
        for table in self._scatter(count, key, names, kept):
            self.largest = max(self.largest, len(table))
            yield pl.DataFrame({name: table[name] for name in (PLACE, key, *names)})

    def _scatter(
        self, count: int, key: str, names: Sequence[str], kept: "np.ndarray"
    ) -> "Iterator[np.ndarray]":
        """Rows by the remainder of their key, through files."""
        import numpy as np

        kind = np.dtype([(PLACE, np.uint32), (key, np.uint64), *((n, np.uint64) for n in names)])

        def by_bucket(number: int) -> "tuple[np.ndarray, np.ndarray]":
            start, rows = self.starts[number], self.portion(number, key, *names)
            chosen = np.flatnonzero(kept[start : start + len(rows)])
            keys = rows[key].to_numpy()[chosen]
            home = (keys % np.uint64(count)).astype(np.uint16)
            order = np.argsort(home, kind="stable")
            taken = np.empty(len(chosen), kind)
            taken[PLACE] = chosen[order] + start
            taken[key] = keys[order]
            for name in names:
                taken[name] = rows[name].to_numpy()[chosen[order]]
            return taken, np.cumsum(np.bincount(home, minlength=count))[:-1]

        paths = [self.folder / f"bucket-{number}" for number in range(count)]
        streams = [path.open("wb") for path in paths]
        try:
            for sorted_rows, ends in mapped(by_bucket, range(len(self.starts))):
                for stream, part in zip(streams, np.split(sorted_rows, ends), strict=True):
                    part.tofile(stream)
        finally:
            for stream in streams:
                stream.close()
        for path in paths:
            yield np.fromfile(path, kind)
            path.unlink()


def _store(portion: "tuple[pl.DataFrame, Path]") -> Path:
    import polars as pl

    rows, path = portion
    # Texts as one run of bytes are read back three times as fast as string views.
    rows.write_ipc(path, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return path


def _places(start: int, end: int) -> "pl.Expr":
    import polars as pl

    return pl.int_range(start, end, dtype=pl.UInt32).alias(PLACE)
