import json
import re
from collections import Counter
from io import BytesIO
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from jangin.core.errors import DataError, SettingsError
from jangin.prepare.engine.build import COMPLETION, SPLIT, build_files, dropped_rows, output_line
from jangin.prepare.engine.plan import PreparePlan
from jangin.prepare.engine.stratified_split import DRAW_BATCH, draw_splits, refuse_empty_splits
from jangin.prepare.tables.schema import RAW, REASON, ROW
from jangin.prepare.transforms.deduplicate import (
    ANSWER,
    KEY,
    OTHER_ANSWER,
    PROMPT,
    SAME_TEXT,
    Deduplicate,
)

NAMES = ("train", "validation", "test", "aside")


@pytest.fixture
def work(tmp_path):
    """Build the files of a CSV file: (result, {file: its lines as JSON})."""
    done = []

    def call(text, **plan):
        folder = tmp_path / str(len(done))
        (folder / "work").mkdir(parents=True)
        done.append(folder)
        source = folder / "rows.csv"
        source.write_text(text, encoding="utf-8")
        files = {name: folder / f"{name}.jsonl" for name in NAMES}
        fields = {"prompt": "{q}", "completion": "{a}", **plan}
        parsed = PreparePlan.model_validate_json(json.dumps(fields))
        outcome = build_files(source, parsed, files, folder / "work")
        lines = {
            name: [json.loads(line) for line in path.read_text().splitlines()]
            for name, path in files.items()
            if path.exists()
        }
        return outcome, lines

    return call


def csv(rows):
    return "q,a,g\n" + "".join(f"{q},{a},{g}\n" for q, a, g in rows)


ROWS = [(f"후기 {n}", n % 5 + 1, n // 4) for n in range(200)]


def test_every_row_is_in_one_file_and_each_label_has_its_share(work):
    outcome, lines = work(csv([*ROWS, ("", 1, 1), ("x", "", 1)]))
    assert outcome.splits == {"train": 160, "validation": 20, "test": 20}
    for split, n in (("train", 32), ("validation", 4), ("test", 4)):
        assert outcome.answers[split] == dict.fromkeys("12345", n)
    prompts = [line["messages"][0]["content"] for name in NAMES[:3] for line in lines[name]]
    assert sorted(prompts) == sorted(q for q, _, _ in ROWS)
    assert [(row["line"], row["reason"]) for row in lines["aside"]] == [
        (202, "the prompt is empty"),
        (203, "the answer is empty"),
    ]
    assert [(r.reason, r.rows, r.lines) for r in outcome.reasons] == [
        ("the answer is empty", 1, (203,)),
        ("the prompt is empty", 1, (202,)),
    ]


def test_the_same_plan_gives_the_same_bytes_and_another_seed_others(work):
    first, again, other = (work(csv(ROWS), seed=seed)[0].digests for seed in (1, 1, 2))
    assert first == again
    assert first["test"] != other["test"]


def test_a_group_never_falls_apart(work):
    _, lines = work(csv(ROWS), group="g", completion="{a}|{g}")
    group_of = {q: g for q, _, g in ROWS}
    splits = {
        name: {group_of[line["messages"][0]["content"]] for line in lines[name]}
        for name in NAMES[:3]
    }
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["validation"]


def test_copies_are_never_in_two_splits_even_if_they_are_kept(work):
    rows = [(f"Text {n // 3}{'!' * (n % 3)}", n % 2, 0) for n in range(300)]
    _, lines = work(csv(rows))
    homes = {}
    for name in NAMES[:3]:
        for line in lines[name]:
            homes.setdefault(line["messages"][0]["content"].rstrip("!"), set()).add(name)
    assert len(homes) == 100
    assert all(len(names) == 1 for names in homes.values())


SYLLABLES = np.random.default_rng(3).integers(0xAC00, 0xD7A4, (60, 30))
NEAR = ["".join(map(chr, row)) + end for row in SYLLABLES.tolist() for end in ("가", "나")]
"""60 pairs of near copies."""


def test_near_copies_with_other_answers_are_never_in_two_splits(work):
    def homes(**plan):
        rows = [(text, n % 3, 0) for n, text in enumerate(NEAR)]
        _, lines = work(csv(rows), steps=[{"type": "deduplicate"}], **plan)
        names_of: dict[str, set[str]] = {}
        for name in NAMES[:3]:
            for line in lines[name]:
                names_of.setdefault(line["messages"][0]["content"][:-1], set()).add(name)
        return names_of

    assert any(len(names) > 1 for names in homes().values())
    together = homes(near_copies=0.9)
    assert all(len(names) == 1 for names in together.values())
    assert set.union(*together.values()) == {"train", "validation", "test"}


def test_near_copies_join_the_groups_that_they_are_in(work):
    group_of = {text: n // 4 * 3 + (0, 1, 0, 2)[n % 4] for n, text in enumerate(NEAR)}
    rows = [(text, n % 3, group_of[text]) for n, text in enumerate(NEAR)]
    lines = work(csv(rows), group="g", near_copies=0.9)[1]
    pairs = list(zip(NEAR[::2], NEAR[1::2], strict=True))
    home = {line["messages"][0]["content"]: name for name in NAMES[:3] for line in lines[name]}
    assert any(group_of[one] != group_of[two] for one, two in pairs)
    assert all(home[one] == home[two] for one, two in pairs)
    for one, two in pairwise(NEAR[::2]):
        assert home[one] == home[two] or group_of[one] != group_of[two]


def test_the_form_of_a_line_is_chat_completion_or_preference(work):
    chat = work(csv(ROWS), system="별점을 매겨라")[1]["train"][0]["messages"]
    assert [m["role"] for m in chat] == ["system", "user", "assistant"]
    plain = work(csv(ROWS), format="completion", prompt="{q}\n\n###\n\n", completion=" {a}")
    assert plain[1]["train"][0] == {"prompt": "후기 0\n\n###\n\n", "completion": " 1"}
    pair = work(csv(ROWS), format="preference", rejected="{g}점")[1]["train"][0]
    assert pair["rejected"] == [{"role": "assistant", "content": "0점"}]
    assert pair["prompt"] == [{"role": "user", "content": "후기 0"}]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_text_comes_out_as_json_that_reads_back(text):
    frame = pl.DataFrame({PROMPT: [text], COMPLETION: [text]})
    line = frame.select(output_line(PreparePlan()))[0, 0]
    assert [m["content"] for m in json.loads(line)["messages"]] == [text, text]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1))
@example(["\u2028\u2029\x7f\x85", '"\\\x00\x1f\n\r\t/', "😀\ufeff"])
def test_any_dropped_text_reads_back(texts):
    frame = pl.DataFrame(
        {ROW: range(len(texts)), REASON: None, RAW: texts, PROMPT: texts, COMPLETION: texts},
        schema_overrides={REASON: pl.String, RAW: pl.String},
    ).with_columns(pl.lit(0).alias(SPLIT))
    target = BytesIO()
    dropped_rows(frame, pl.Series(['so "it" is'])).write_ndjson(target)
    rows = [json.loads(line) for line in target.getvalue().decode().split("\n")[:-1]]
    assert [list(row.values()) for row in rows] == [
        [line, 'so "it" is', text, text, text] for line, text in enumerate(texts)
    ]


def test_dropped_rows_are_not_written_if_no_file_is_named_for_them(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "a.csv").write_text(csv([*ROWS, ("", 1, 1)]))
    files = {name: tmp_path / f"{name}.jsonl" for name in NAMES[:3]}
    plan = PreparePlan(prompt="{q}", completion="{a}")
    outcome = build_files(tmp_path / "a.csv", plan, files, tmp_path / "work")
    assert set(outcome.files) == set(NAMES[:3])
    assert outcome.reasons[0].rows == 1


def test_training_rows_can_be_sorted_by_answer_or_shuffled(work):
    rows = [(f"후기 {n}", (n * 7) % 12, 0) for n in range(240)]

    def answers(order):
        lines = work(csv(rows), order={"type": order})[1]["train"]
        return [int(line["messages"][1]["content"]) for line in lines]

    assert answers("sorted") == sorted(answers("as_given"))
    assert answers("shuffled") != answers("as_given")
    assert Counter(answers("shuffled")) == Counter(answers("as_given"))


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("majority", ["a2"]),
        ("clear_majority", ["a2"]),
        ("first", ["a1"]),
        ("last", ["a3"]),
        ("drop", []),
        ("keep", ["a1", "a2", "a3"]),
    ],
)
def test_several_answers_to_one_text_are_resolved_by_rule(rule, kept):
    rows = pl.DataFrame(
        {"a": ["a1", "a2", "a2", "b", "b", "a3"], KEY: [7, 7, 7, 9, 9, 7]},
        schema_overrides={KEY: pl.UInt64},
    ).with_columns(pl.col("a").hash(1).alias(ANSWER))
    reasons = Deduplicate(type="deduplicate", conflicts=rule).drop_reasons(rows)
    left = rows.filter(reasons.is_null())
    assert [a for a in left["a"] if a != "b"] == kept
    assert left["a"].to_list().count("b") == 1
    counts = Counter(reasons.drop_nulls().to_list())
    assert counts[SAME_TEXT] + counts[OTHER_ANSWER] == 6 - len(kept) - 1
    others = {"majority": 2, "clear_majority": 2, "first": 3, "last": 3, "drop": 4, "keep": 0}
    assert counts[OTHER_ANSWER] == others[rule]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from(["majority", "clear_majority", "first", "last"]),
)
def test_one_row_of_every_text_is_left(pairs, rule):
    rows = pl.DataFrame(
        {KEY: [k for k, _ in pairs], ANSWER: [a for _, a in pairs]},
        schema={KEY: pl.UInt64, ANSWER: pl.UInt64},
    )
    left = rows.filter(Deduplicate(type="deduplicate", conflicts=rule).drop_reasons(rows).is_null())
    counts = {k: Counter(a for key, a in pairs if key == k).most_common() for k, _ in pairs}
    tied = {k for k, answers in counts.items() if [n for _, n in answers].count(answers[0][1]) > 1}
    assert {*left[KEY]} == {*counts} - (tied if rule == "clear_majority" else set())
    assert len(left) == left[KEY].n_unique()
    for key, answer in left.rows():
        mine = [a for k, a in pairs if k == key]
        best = max(mine, key=mine.count)
        expected = {"first": mine[0], "last": mine[-1]}
        assert answer == expected.get(rule, best)


@given(st.integers(30, 200), st.integers(1, 4), st.integers(0, 9))
def test_shares_are_those_asked_for_within_a_row_of_each_label(n, labels, seed):
    strata = (np.arange(n) % labels).astype(np.uint8)
    splits = draw_splits(strata, None, 0.2, 0.2, seed)
    refuse_empty_splits(splits, 0.2, 0.2, np.ones(n))
    for label in range(labels):
        mine = splits[strata == label].tolist()
        for split in (1, 2):
            assert abs(mine.count(split) - 0.2 * len(mine)) <= 1


def sorted_draws(strata, sizes, validation, test, seed):
    """Reference for `draw_splits`: all draws are stored and sorted."""
    order = np.argsort(np.random.default_rng(seed).random(len(strata)))
    least = min((share for share in (validation, test) if share), default=1)
    small = [s for s in set(strata) if least * sizes[strata == s].sum() < sizes[strata == s].max()]
    strata = np.where(np.isin(strata, small), 9, strata)
    splits = np.zeros(len(strata), np.uint8)
    for stratum in np.unique(strata):
        mine = order[strata[order] == stratum]
        middle, total = np.cumsum(sizes[mine]) - sizes[mine] / 2, sizes[mine].sum()
        held = np.where(middle < (test + validation) * total, 1, 0)
        splits[mine] = np.where(middle < test * total, 2, held)
    return splits


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=60),
    st.sampled_from([(0.1, 0.1), (0, 0), (0, 0.3), (0.2, 0), (0.45, 0.45)]),
    st.integers(0, 99),
)
def test_generated_draws_give_the_same_splits_as_stored_and_sorted_ones(units, shares, seed):
    strata = np.array([stratum for stratum, _ in units], np.uint8)
    sizes = np.array([size for _, size in units], np.uint32)
    expected = sorted_draws(strata, sizes, *shares, seed)
    assert (draw_splits(strata, sizes, *shares, seed) == expected).all()
    ones = np.ones_like(sizes)
    assert (
        draw_splits(strata, None, *shares, seed) == sorted_draws(strata, ones, *shares, seed)
    ).all()


def test_more_units_than_one_batch_of_draws_get_the_same_splits():
    strata = (np.arange(DRAW_BATCH + 1000) % 3).astype(np.uint8)
    expected = sorted_draws(strata, np.ones(len(strata)), 0.1, 0.2, 7)
    assert (draw_splits(strata, None, 0.1, 0.2, 7) == expected).all()


@pytest.mark.parametrize(
    ("rows", "shares", "words"),
    [
        (3, (0.1, 0.1), "test 3 0.1 10 0.334 validation test"),
        (7, (0.1, 0.1), "validation 7 0.1 10 0.143 validation test"),
        (2, (0.5, 0.2), "test 2 0.2 5"),
        (1, (0.8, 0.1), "test 1 0.1 10"),
        (4, (0.45, 0.45), "train 4 0.1 6"),
    ],
)  # fmt: skip
def test_an_empty_split_is_refused_with_the_rows_and_shares_that_are_enough(
    work, rows, shares, words
):
    def plan(shares):
        return dict(zip(("validation", "test"), shares, strict=True))

    with pytest.raises(SettingsError) as refused:
        work(csv(ROWS[:rows]), **plan(shares))
    message = str(refused.value).removesuffix("A share of 0 turns a split off.")
    facts = re.findall(r"\btrain\b|\bvalidation\b|\btest\b|\d[\d.]*\b", message)
    assert facts == words.split()
    enough = int(re.search(r"(\d+) rows are enough", str(refused.value))[1])
    assert work(csv(ROWS[:enough]), **plan(shares))
    if larger := re.search(r", or a share of (0\.\d+)", str(refused.value)):
        assert work(csv(ROWS[:rows]), **plan([float(larger[1])] * 2))


def test_too_few_groups_are_refused_with_the_number_that_is_enough(work):
    rows = [(f"후기 {n}", n // 40, n // 40) for n in range(160)]
    with pytest.raises(SettingsError, match=r"160 rows in 4 groups .* 0\.1\. 10 groups"):
        work(csv(rows), group="g")
    enough = [(f"후기 {n}", n // 40, n // 40) for n in range(400)]
    splits = work(csv(enough), group="g")[0].splits
    assert splits == {"train": 320, "validation": 40, "test": 40}


@pytest.mark.parametrize("answers", [50, 25, 10])
def test_answers_too_rare_for_a_stratum_are_split_together(work, answers):
    rows = [(f"후기 {n}", n % answers, 0) for n in range(50)]
    assert work(csv(rows))[0].splits == {"train": 40, "validation": 5, "test": 5}
    some = [(f"글 {n}", "common", 0) for n in range(100)]
    outcome, _ = work(csv(rows + some))
    assert outcome.splits == {"train": 120, "validation": 15, "test": 15}


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=60),
    st.sampled_from([(0.1, 0.1), (0.3, 0.05), (0, 0.3), (0.2, 0), (0.45, 0.45), (0.6, 0.3)]),
    st.integers(0, 99),
)
def test_the_suggested_rows_and_shares_are_enough(units, shares, seed):
    sizes = np.array([size for _, size in units])
    strata = np.array([stratum for stratum, _ in units], np.uint8)

    def split(strata, sizes, shares):
        refuse_empty_splits(
            np.repeat(draw_splits(strata, sizes, *shares, seed), sizes), *shares, sizes
        )

    try:
        split(strata, sizes, shares)
    except SettingsError as refused:
        enough = int(re.search(r"(\d+) (rows|groups)[a-z ]* are enough", str(refused))[1])
        split(np.arange(enough, dtype=np.uint8) % 4, np.full(enough, 3), shares)
        if larger := re.search(r", or a share of ([\d.]+) for ([a-z ]+),", str(refused)):
            raised = [
                float(larger[1]) if name in larger[2] else share
                for name, share in zip(("validation", "test"), shares, strict=True)
            ]
            split(strata, sizes, raised)


def test_rows_with_a_single_answer_are_refused(work):
    with pytest.raises(DataError, match=r"rows\.csv: all 3 .* line 2"):
        work("q,a\n가,5\n나,5\n다,5\n")


def test_if_no_row_is_left_the_most_frequent_reason_is_named(work):
    labels = {"type": "labels", "column": "a", "labels": ["1", "2"]}
    with pytest.raises(DataError, match=r"rows\.csv: all 2 rows .*a is 9, which is no label"):
        work("q,a\n가,9\n나,9\n", steps=[labels])


def test_table_steps_must_be_last():
    steps = [{"type": "deduplicate"}, {"type": "clean_text"}]
    from jangin.prepare.transforms.steps import split_steps

    plan = PreparePlan.model_validate_json(json.dumps({"steps": steps}))
    with pytest.raises(SettingsError, match=r"^steps: deduplicate "):
        split_steps(plan.steps)


def test_impossible_shares_and_a_missing_rejected_answer_are_refused():
    with pytest.raises(ValidationError, match="below 1"):
        PreparePlan(validation=0.5, test=0.5)
    with pytest.raises(ValidationError, match="rejected"):
        PreparePlan(format="preference")
