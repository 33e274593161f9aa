"""Tables as people see them: any that exists, filtered, without ids, and in a spreadsheet."""

import csv

import pytest

from jangin.core.errors import DataError
from jangin.core.parquet import write_table
from jangin.core.records import (
    Choice,
    Dropped,
    DroppedPair,
    Example,
    Message,
    PreferencePair,
    SplitExample,
)
from jangin.core.store import Artifact
from jangin.llm.replies import Failed
from jangin.prepare.tables.sheets import write_csv
from jangin.project.stages import STAGES
from jangin.project.tables import MAKERS, rows
from tests.conftest import make_manifest

PROMPT = (Message(role="user", content="휴가는 며칠인가요?"),)


@pytest.fixture
def artifact(tmp_path, make_example):
    """One stage that wrote a table of every nested record."""
    kept, lost = make_example(), make_example("연차휴가가 며칠이지요?")
    pair = PreferencePair.make(
        PROMPT,
        Message(role="assistant", content="15일"),
        Message(role="assistant", content="3일"),
        origin="distractor",
        family="f",
        example_id="e",
        page=3,
    )
    tables = {
        "examples": (Example, [kept]),
        "choices": (Choice, [Choice.make(PROMPT, "15일", ("3일", "5일"), family="f", page=2)]),
        "pairs": (PreferencePair, [pair]),
        "dropped_pairs": (DroppedPair, [DroppedPair(pair=pair, rule="same", reason="equal")]),
        "splits": (SplitExample, [SplitExample(example=kept, split="train")]),
        "dropped": (
            Dropped,
            [Dropped(example=lost, rule="family", reason=f"a wording of {kept.id}", twin=kept.id)],
        ),
        "failed": (
            Failed,
            [Failed(subject=kept.id, request="0" * 64, reason="no", reply="", kind="refused")],
        ),
    }
    for name, (record, records) in tables.items():
        write_table(tmp_path / f"{name}.parquet", record, records)
    return {"curate": Artifact(tmp_path, make_manifest())}


def test_what_was_said_before_a_question_is_a_column_where_a_row_has_it(artifact, tmp_path):
    assert "earlier_turns" not in rows(artifact, "splits", None, ids=True)[0][0]
    texts = {"system": "Be brief.", "user": "Is there leave?", "assistant": "Yes."}
    turns = tuple(Message(role=role, content=text) for role, text in texts.items())
    chat = Example.make(
        (*turns, Message(role="user", content="How long?")),
        Message(role="assistant", content="15 days."), kind="original",
    )  # fmt: skip
    single = Example.make(chat.prompt[:1] + PROMPT, chat.completion, kind="original")
    write_table(tmp_path / "examples.parquet", Example, [chat, single])
    both, _, _ = rows(artifact, "examples", None)
    assert [row["earlier_turns"] for row in both] == [
        "user: Is there leave?\nassistant: Yes.", "",
    ]  # fmt: skip
    assert [*both[0]][1:4] == ["earlier_turns", "question", "answer"]
    (found,), _, _ = rows(artifact, "examples", None, ["earlier_turns contains leave"])
    assert found["question"] == "How long?"


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("kind", ["choices", "pairs", "dropped_pairs", "splits", "failed"])
def test_every_table_shows_plain_values(artifact, kind, ids):
    (row,), count, _ = rows(artifact, kind, 20, ids=ids)
    assert count == 1
    assert not [name for name, value in row.items() if isinstance(value, dict | list)]


def test_failed_rows_of_all_stages_are_shown_with_their_stage(artifact):
    later = {**artifact, "paraphrase": artifact["curate"]}
    shown, count, stages = rows(later, "failed", 1)
    assert (count, len(shown), stages) == (2, 1, "paraphrase, curate")
    (row,), count, _ = rows(later, "failed", 20, ["stage = curate"])
    assert count == 1
    assert row["reason"] == "no"


def test_pairs_and_choices_show_the_question_and_every_answer(artifact):
    ((pair,), *_) = rows(artifact, "pairs", 20)
    assert (pair["question"], pair["chosen"], pair["rejected"]) == (
        "휴가는 며칠인가요?", "15일", "3일",
    )  # fmt: skip
    ((choice,), *_) = rows(artifact, "choices", 20)
    assert (choice["answer"], choice["distractors"]) == ("15일", "3일; 5일")


def test_texts_stand_in_place_of_ids_unless_ids_are_asked_for(artifact):
    ((failed,), *_) = rows(artifact, "failed", 20)
    assert failed["about"] == "연차휴가는 며칠인가요?"
    assert not {"subject", "request"} & failed.keys()
    ((dropped,), *_) = rows(artifact, "dropped", 20)
    assert dropped["reason"] == "a wording of 연차휴가는 며칠인가요?"
    assert dropped["twin"] == "연차휴가는 며칠인가요?"
    ((raw,), *_) = rows(artifact, "failed", 20, ids=True)
    assert raw["request"] == "0" * 64


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("page = 3", 1), ("page != 3", 0), ("page >= 3.0", 1), ("page < 10", 1),
        ("question contains 휴가", 1), ("question lacks 휴가", 0), ("origin = 'Distractor'", 1),
        ("origin > a", 1), ("example_id == e", 1),
    ],
)  # fmt: skip
def test_conditions_compare_numbers_by_value_and_texts_without_case(artifact, where, count):
    assert rows(artifact, "pairs", 20, [where])[1] == count


def test_all_conditions_must_hold_and_the_limit_applies_after_them(artifact):
    assert rows(artifact, "pairs", 20, ["page = 3", "origin = file"])[1] == 0
    assert rows(artifact, "pairs", 0, ["page = 3"])[:2] == ([], 1)


@pytest.mark.parametrize(("where", "named"), [("pgae = 3", "page"), ("page is 3", "contains")])
def test_what_is_no_condition_is_refused_with_what_to_write(artifact, where, named):
    with pytest.raises(DataError, match=named):
        rows(artifact, "pairs", 20, [where])


def test_a_spreadsheet_gets_hangul_whole_texts_and_no_formulas(tmp_path):
    path = tmp_path / "rows.csv"
    write_csv(path, [{"question": "휴가" * 100, "page": 3}, {"question": "=1+1", "page": None}])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["question", "page"], ["휴가" * 100, "3"], ["'=1+1", ""],
        ]  # fmt: skip


def test_a_table_that_is_not_there_names_the_stage_that_makes_it(artifact):
    for artifacts, kind, said in (
        ({}, "coverage", "it is made by synthesize, which is off in this project, has not run yet"),
        (
            {"synthesize": next(iter(artifact.values()))},
            "coverage",
            "synthesize had nothing to write there",
        ),
        (artifact, "nonsense", "there is no table 'nonsense'. Tables: "),
    ):
        with pytest.raises(DataError, match=said):
            rows(artifacts, kind, None)
    assert {stage for stages in MAKERS.values() for stage in stages} <= {s.name for s in STAGES}
