"""The version of the reading of numbers, for stages that compare answers with their sources."""

from collections.abc import Mapping
from pathlib import Path

from jangin.core.config import StageConfig
from jangin.core.parquet import part_paths

_KINDS = ("chunks", "ranked", "documents")
_READ_AGAIN = (
    r"\d\s?[천백십]\s?[\d,]*\s?[십백만억]|[조억]\s?\d[\d,.]*\s?[천백십]|[조억]\s?[천백십]|\d\s?십"
    r"|\d{7}|\d(?:,\d{3}){2}|[$₩]\s?\d[\d,.]*\s?(?i:[kmb])\b"
)
"""Amounts that version 1 read in part, such as `5억 3천만`, or that can be spelled like them."""


def number_facts(_config: StageConfig, folders: Mapping[str, Path]) -> Mapping[str, str]:
    """{"numbers": "2"} where the sources have amounts that version 1 may have read in part.

    Artifacts of other sources stay valid, as their checks are what they were.
    """
    for kind in _KINDS:
        file = folders[kind] / f"{kind}.parquet" if kind in folders else None
        if file is not None and file.exists() and _has_amounts(file):
            return {"numbers": "2"}
    return {}


def _has_amounts(file: Path) -> bool:
    import polars as pl

    rows = pl.scan_parquet(part_paths(file))
    text: pl.Expr = pl.col("text")
    if "snippet" in rows.collect_schema():
        text = pl.col("snippet").struct.field("text")
    matches = rows.select(text.str.contains(_READ_AGAIN).any()).collect()
    return bool(matches.item())
