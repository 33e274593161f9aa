"""Rows spilled to disk between the row steps and the output files, and read back in order.

Decisions over all rows use hashes only. These are read in buckets: rows with the same hash fall
into the same bucket, so only a few buckets of hashes are in memory at a time, for any number of
rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.prepare.tables.csv import thread_map
from jangin.prepare.tables.schema import RAW, REASON, ROW

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

INDEX = "__index"
"""Column with the index of a row, from 0, counted over all rows of the table."""
PORTION = 50_000
"""Minimum number of rows of a portion, except the last one."""
BUCKET = 1 << 18
"""Maximum number of rows of a bucket, on average."""
MAX_NAMED = 5
"""Lines that are listed for each drop reason."""


@dataclass(slots=True)
class SpillFile:
    """Rows in portions, one Arrow file each, with the counts taken while they were written."""

    folder: Path
    bucket: int = BUCKET
    rows: int = 0
    paths: list[Path] = field(default_factory=list)
    """File of each portion."""
    starts: list[int] = field(default_factory=list)
    """Index of the first row of each portion."""
    dropped: bytearray = field(default_factory=bytearray)
    """1 for each row that a row step dropped, else 0; one byte per row."""
    changed: Counter[str] = field(default_factory=Counter)
    """{column of changes: number of rows}."""
    reasons: Counter[str] = field(default_factory=Counter)
    """{drop reason: number of rows}, row steps only."""
    lines: dict[str, list[int]] = field(default_factory=dict)
    """{drop reason: first lines of the file that were dropped for it}."""
    largest_bucket: int = 0
    """Number of rows of the largest bucket that was read."""

    def write(self, frame: "pl.LazyFrame", changes: Sequence[str]) -> None:
        """Run a query and store its rows; the boolean columns in `changes` are summed, not stored.

        `frame` has the columns `ROW`, `REASON` and `RAW`.
        """
        for path in thread_map(_store, self._portions(frame, changes), workers=1):
            self.paths.append(path)

    def _portions(
        self, frame: "pl.LazyFrame", changes: Sequence[str]
    ) -> "Iterator[tuple[pl.DataFrame, Path]]":
        """Partitions of a query's result with known row counts, each with the path of its file."""
        import polars as pl

        pending: list[pl.DataFrame] = []
        for batch in frame.collect_batches(engine="streaming"):
            pending.append(batch)
            if sum(map(len, pending)) >= PORTION:
                yield self._counted(pl.concat(pending), changes)
                pending = []
        if pending:
            yield self._counted(pl.concat(pending), changes)

    def _counted(self, rows: "pl.DataFrame", changes: Sequence[str]) -> "tuple[pl.DataFrame, Path]":
        import polars as pl

        for name in changes:
            self.changed[name] += int(rows[name].sum())
        dropped = rows[REASON].is_not_null()
        self.dropped += dropped.cast(pl.UInt8).to_numpy().tobytes()
        if dropped.any():
            self._count_reasons(rows.filter(dropped))
        path = self.folder / f"{len(self.starts):06}.arrow"
        unused = [name for name in (REASON, RAW) if rows[name].null_count() == len(rows)]
        self.starts.append(self.rows)
        self.rows += len(rows)
        return rows.drop(*changes, *unused), path

    def _count_reasons(self, dropped: "pl.DataFrame") -> None:
        import polars as pl

        counts = dropped.group_by(REASON).agg(pl.len(), first=pl.col(ROW).head(MAX_NAMED))
        for reason, count, lines in counts.iter_rows():
            self.reasons[reason] += count
            self.lines[reason] = [*self.lines.get(reason, []), *lines][:MAX_NAMED]

    def read(self, *names: str) -> "Iterator[tuple[int, pl.DataFrame]]":
        """(index of the first row, rows) of each portion; all columns if none is named."""
        for portion, start in enumerate(self.starts):
            yield start, self.read_portion(portion, *names)

    def read_portion(self, portion: int, *names: str) -> "pl.DataFrame":
        """The rows of one portion; all columns if none is named."""
        import polars as pl

        frame = pl.scan_ipc(self.paths[portion])
        stored = frame.collect_schema().names()
        unused = [pl.lit(None, pl.String).alias(n) for n in (REASON, RAW) if n not in stored]
        frame = frame.with_columns(unused)
        return (frame.select(names) if names else frame).collect()

    def line_of(self, index: int) -> int:
        """The line in the source file of the row with this index."""
        return next(
            int(rows[ROW][index - start])
            for start, rows in self.read(ROW)
            if start <= index < start + len(rows)
        )

    def buckets(
        self, key: str, names: Sequence[str], kept: "np.ndarray", *, single: bool = False
    ) -> "Iterator[pl.DataFrame]":
        """The rows of the mask `kept` (rows,) bool, in buckets.

        Each bucket has the columns `INDEX` (uint32, ascending), `key` and `names`. All rows with
        the same key are in the same bucket. With `single` there is one bucket of all rows, and
        `names` may have any type; otherwise `key` and `names` must be uint64, as hashes are.
        """
        import polars as pl

        count = 1 if single else -(-int(kept.sum()) // self.bucket)
        if count == 1:
            parts = []
            for start, rows in self.read(key, *names):
                indexed = rows.with_columns(_indices(start, start + len(rows)))
                parts.append(indexed.filter(pl.Series(kept[start : start + len(rows)])))
            self.largest_bucket = max(self.largest_bucket, sum(map(len, parts)))
            yield pl.concat(parts)
            return
        for bucket in self._partition(count, key, names, kept):
            self.largest_bucket = max(self.largest_bucket, len(bucket))
            yield pl.DataFrame({name: bucket[name] for name in (INDEX, key, *names)})

    def _partition(
        self, count: int, key: str, names: Sequence[str], kept: "np.ndarray"
    ) -> "Iterator[np.ndarray]":
        """`count` structured arrays of rows, by key modulo `count`, written to files in between."""
        import numpy as np

        kind = np.dtype([(INDEX, np.uint32), (key, np.uint64), *((n, np.uint64) for n in names)])

        def by_bucket(portion: int) -> "tuple[np.ndarray, np.ndarray]":
            """(rows sorted by bucket, end of each bucket but the last)."""
            start, rows = self.starts[portion], self.read_portion(portion, key, *names)
            chosen = np.flatnonzero(kept[start : start + len(rows)])
            keys = rows[key].to_numpy()[chosen]
            bucket = (keys % np.uint64(count)).astype(np.uint16)
            order = np.argsort(bucket, kind="stable")
            records = np.empty(len(chosen), kind)
            records[INDEX] = chosen[order] + start
            records[key] = keys[order]
            for name in names:
                records[name] = rows[name].to_numpy()[chosen[order]]
            return records, np.cumsum(np.bincount(bucket, minlength=count))[:-1]

        paths = [self.folder / f"bucket-{bucket}" for bucket in range(count)]
        streams = [path.open("wb") for path in paths]
        try:
            for records, ends in thread_map(by_bucket, range(len(self.starts))):
                for stream, part in zip(streams, np.split(records, ends), strict=True):
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
    # Strings with offsets (the oldest layout) are read back three times as fast as string views.
    rows.write_ipc(path, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return path


def _indices(start: int, end: int) -> "pl.Expr":
    import polars as pl

    return pl.int_range(start, end, dtype=pl.UInt32).alias(INDEX)
