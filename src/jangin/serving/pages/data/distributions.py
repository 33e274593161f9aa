"""Distributions of a variant's examples, as `jangin show data` has them, for any number of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jangin.core.store import Artifact
from jangin.project.stages import STAGES
from jangin.report.data_page import DataView, describe_texts
from jangin.serving.pages.data.catalog import newest
from jangin.serving.pages.data.table_file import TableFile, open_table
from jangin.serving.pages.preparing import preparing

MOST_DESCRIBED = 50_000
"""Rows that are described; of more, this many at equal steps."""


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a variant's examples."""

    data: DataView
    rows: int
    """Number of all rows."""

    @property
    def is_sample(self) -> bool:
        """True if not all rows were looked at."""
        return self.data.description.rows < self.rows


def described(variant: str, artifacts: Mapping[str, Artifact]) -> Described | None:
    """The newest examples of a variant, or its splits where it has any; None without any row."""
    for name in ("splits", "examples"):
        artifact = newest(artifacts, name)
        if artifact is not None:
            bases = [s.name for s in STAGES if "base" in s.makes and s.name in artifacts]
            base = artifacts[bases[-1]].path if bases else None
            file = open_table(artifact, name)
            with preparing("pages_preparing_distributions"):
                return _described(variant, file, base) if file.count else None
    return None


@lru_cache(maxsize=8)
def _described(variant: str, file: TableFile, base: Path | None) -> Described:
    """Kept by the open table, which is that of one artifact's content."""
    step = -(-file.count // MOST_DESCRIBED)
    texts = file.columns["question"].alias("question"), file.columns["answer"].alias("answer")
    frame = file.frame.lazy().gather_every(step).select(*texts).collect()
    splits: dict[str, int] = {}
    if "split" in file.columns:
        column = file.frame.lazy().select(file.columns["split"]).collect().to_series()
        counts = dict(column.value_counts().rows())
        first = ("train", "validation")
        splits = {n: counts[n] for n in sorted(counts, key=lambda n: (n not in first, n))}
    questions = frame["question"].fill_null("").to_list()
    view = describe_texts(variant, questions, frame["answer"].fill_null("").to_list(), splits, base)
    return Described(view, file.count)
