import json
from typing import get_args

import polars as pl
import pytest

from jangin.prepare.engine.assignment import DROPPED, apply_table_steps, assign_splits
from jangin.prepare.engine.spill import SpillFile
from jangin.prepare.tables.schema import RAW, REASON, ROW
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT, Conflicts, Deduplicate
from jangin.prepare.transforms.steps import key_of


def spooled(folder, rows, bucket):
    """A spill file of (text, answer, group, reason or None)."""
    folder.mkdir()
    frame = pl.LazyFrame(
        rows, schema=dict.fromkeys((PROMPT, "answer", "group", REASON), pl.String), orient="row"
    )
    frame = frame.with_row_index(ROW, 2).with_columns(
        pl.lit(None, pl.String).alias(RAW),
        key_of(PROMPT, "exact"),
        pl.col("answer").hash(13).alias(ANSWER),
        pl.col("group").hash(11).alias("unit"),
        changed=pl.col("answer") == "1",
    )
    spill = SpillFile(folder, bucket=bucket)
    spill.write(frame, ["changed"])
    return spill


def some_rows(n):
    """Texts three times, some with several answers, some dropped before."""
    return [
        (f"글 {k % (n // 3)}", str(k % 4 if k % 7 else 1), f"g{k % 50}", None if k % 11 else "나쁨")
        for k in range(n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("unit", [KEY, "unit"])
@pytest.mark.parametrize("rule", [*get_args(Conflicts), None])
def test_buckets_decide_what_all_rows_at_once_would(tmp_path, rule, unit):
    steps = [Deduplicate(type="deduplicate", conflicts=rule)] if rule else []
    outcomes = []
    for name, bucket in (("whole", 10**6), ("few", 400), ("many", 60)):
        spill = spooled(tmp_path / name, some_rows(3000), bucket)
        assignment = apply_table_steps(spill, steps)
        assign_splits(spill, assignment, unit, steps, 0.2, 0.1, seed=5)
        reasons = [
            assignment.reasons[code - DROPPED - 1] if code > DROPPED else int(code)
            for code in assignment.codes
        ]
        outcomes.append(reasons)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert {0, 1, 2, DROPPED} <= set(outcomes[0])


def test_no_more_hashes_are_in_memory_than_a_bucket_holds_however_many_rows_there_are(tmp_path):
    largest = []
    for times in (1, 4):
        rows = [(f"글 {k}", str(k % 4), "", None) for k in range(times * 5000)]
        spill = spooled(tmp_path / str(times), rows, bucket=1000)
        steps = [Deduplicate(type="deduplicate")]
        assignment = apply_table_steps(spill, steps)
        assign_splits(spill, assignment, KEY, steps, 0.1, 0.1, seed=1)
        largest.append(spill.largest_bucket)
        assert not list((tmp_path / str(times)).glob("bucket-*"))
    assert max(largest) < 1.2 * 1000


@pytest.mark.slow
def test_portions_come_back_in_order_with_what_was_counted(tmp_path):
    spill = spooled(tmp_path / "a", some_rows(120_000), bucket=10**6)
    assert len(spill.paths) > 1
    assert [start for start, _ in spill.read(ROW)] == spill.starts
    lines = [line for _, rows in spill.read(ROW) for line in rows[ROW]]
    assert lines == list(range(2, 120_002))
    assert spill.line_of(119_999) == 120_001
    dropped = [k for k in range(120_000) if k % 11 == 0]
    assert dict(spill.reasons) == {"나쁨": len(dropped)}
    assert spill.lines["나쁨"] == [k + 2 for k in dropped[:5]]
    assert sum(spill.dropped) == len(dropped)
    assert spill.changed["changed"] == sum(row[1] == "1" for row in some_rows(120_000))
    reasons = [reason for _, rows in spill.read(REASON) for reason in rows[REASON]]
    assert reasons == [row[3] for row in some_rows(120_000)]


@pytest.mark.slow
def test_more_reasons_than_a_byte_can_hold_are_all_kept(tmp_path):
    from jangin.prepare.engine.build import build_files
    from jangin.prepare.engine.plan import PreparePlan

    source = tmp_path / "a.csv"
    lines = [f"글 {n},{n % 300}" for n in range(900)]
    source.write_text("q,a\n" + "\n".join(lines) + "\n")
    balance = {"type": "balance", "column": "a", "most": 2}
    plan = {"prompt": "{q}", "completion": "{a}", "steps": [balance]}
    files = {n: tmp_path / f"{n}.jsonl" for n in ("train", "validation", "test", "aside")}
    (tmp_path / "work").mkdir()
    result = build_files(
        source, PreparePlan.model_validate_json(json.dumps(plan)), files, tmp_path / "work"
    )
    assert {reason.reason for reason in result.reasons} == {
        f"slot {n} of a is full" for n in range(300)
    }
    dropped = [json.loads(line) for line in files["aside"].read_text().splitlines()]
    assert all(row["reason"] == f"slot {row['completion']} of a is full" for row in dropped)
    assert sum(result.splits.values()) == 600
