"""Artifacts are out of date only where the reading of numbers changed what is compared."""

import polars as pl
import pytest

from jangin.core.config import StageConfig
from jangin.examples.checks.passage import number_facts


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("보증금은 5억 3천만 원이다.", {"numbers": "2"}),
        ("보증금은 530,000,000원이다.", {"numbers": "2"}),
        ("It costs $1.2k a year.", {"numbers": "2"}),
        ("수당은 3만 5천 원, 일비는 22,000원, 제3조 2항.", {}),
    ],
)
def test_only_sources_with_amounts_that_were_read_in_part_are_read_anew(tmp_path, text, facts):
    pl.DataFrame({"text": ["다른 글", text]}).write_parquet(tmp_path / "chunks.parquet")
    pl.DataFrame({"snippet": [{"text": text}]}).write_parquet(tmp_path / "ranked.parquet")
    for kind in ("chunks", "ranked"):
        assert number_facts(StageConfig(), {kind: tmp_path}) == facts
    assert number_facts(StageConfig(), {}) == {}
