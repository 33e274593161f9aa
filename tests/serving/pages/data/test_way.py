"""The way of an example from its passage to a training row."""

from dataclasses import replace

import pytest

from jangin.core.records import Chunk
from jangin.project import stages
from jangin.project.stages import find_stage
from jangin.serving.pages.data.catalog import lost_rows, newest, tables_of
from jangin.serving.pages.data.way import way_of
from jangin.views.losses import lost_tables
from tests.project.release.test_finish import TRAINING
from tests.serving.pages.data.artifacts import artifact, dropped, example, scored, split

CHUNK = Chunk(
    id="c1", document_id="d1", source="규정.pdf", text="휴가는 사흘이다.", start=0, end=9, page=1,
    section="제1조",
)  # fmt: skip


@pytest.fixture
def rows():
    first = example("휴가는 며칠입니까?", "사흘", chunk_ids=("c1",), document_id="d1")
    other = example("여비는 얼마입니까?", chunk_ids=("gone",))
    wording = example(
        "며칠을 쉽니까?", "사흘", kind="paraphrase", parent=first.id, family=first.id,
        operation="paraphrase", chunk_ids=("c1",),
    )  # fmt: skip
    return first, other, wording


@pytest.fixture
def artifacts(tmp_path, rows):
    first, other, wording = rows
    judged = scored(first, "judge", 0.9)
    return {
        "chunk": artifact(tmp_path, "chunk", chunks=[CHUNK]),
        "synthesize": artifact(tmp_path, "synthesize", examples=[first, other]),
        "judge": artifact(tmp_path, "judge", examples=[judged, other]),
        "paraphrase": artifact(tmp_path, "paraphrase", examples=[judged, wording, other]),
        "curate": artifact(
            tmp_path,
            "curate",
            examples=[judged, wording],
            dropped=[dropped(other, "score", "score 0.2 < 0.5", twin=first.id)],
        ),
        "split": artifact(
            tmp_path, "split", splits=[split(wording, "test"), split(judged, "train")]
        ),
    }


def test_each_stage_that_has_an_example_is_a_step(artifacts, rows):
    way = way_of(artifacts, rows[0].id)
    assert [step.stage for step in way.steps] == [
        "synthesize", "judge", "paraphrase", "curate", "split",
    ]  # fmt: skip
    assert [len(step.scores) for step in way.steps] == [0, 1, 0, 0, 0]
    assert way.steps[-1].split == "train"
    assert (way.training.number, way.training.count, way.training.models) == (1, 1, ())
    assert way.chunk["section"] == "제1조"
    assert way.parent is None
    assert [row["question"] for row in way.relatives] == ["며칠을 쉽니까?"]


def test_every_stage_that_trains_on_a_row_is_named_also_a_new_one(artifacts, rows, monkeypatch):
    training = {"sft", "continue_sft", "dpo"}
    assert training == {name for name in TRAINING if "splits" in find_stage(name).reads}
    orpo = replace(find_stage("dpo"), name="orpo")
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, orpo))
    models = dict.fromkeys((*TRAINING, "orpo", "warm_start", "evaluate"), artifacts["chunk"])
    way = way_of(artifacts | models, rows[0].id)
    assert {*way.training.models} == {*training, "orpo"}


def test_a_dropped_example_says_where_and_why(artifacts, rows):
    way = way_of(artifacts, rows[1].id)
    assert way.dropped.stage == "curate"
    assert (way.dropped.rule, way.dropped.twin) == ("score", rows[0].id)
    assert way.training is None
    assert way.chunk is None


def test_a_wording_leads_to_its_original(artifacts, rows):
    way = way_of(artifacts, rows[2].id)
    assert way.parent["id"] == rows[0].id
    assert way.training is None
    assert way_of(artifacts, "none") is None


def test_tables_are_listed_in_the_order_of_the_stages(artifacts):
    names = [(entry.stage, entry.name, entry.rows) for entry in tables_of(artifacts)]
    assert names[0] == ("chunk", "chunks", 1)
    assert names[-1] == ("split", "splits", 2)
    assert newest(artifacts, "examples") is artifacts["curate"]
    assert newest(artifacts, "pairs") is None


def test_lost_rows_are_grouped_by_rule_and_reason_without_its_figures(tmp_path):
    rows = [dropped(example(f"질문 {n}?"), "score", f"score 0.{n} < 0.5") for n in range(4)] + [
        dropped(example("빈 것?"), "empty", "the answer is empty")
    ]
    (only,) = lost_tables({"curate": artifact(tmp_path, "curate", dropped=rows)})
    assert [(r.rule, r.count, r.first) for r in only.reasons] == [
        ("score", 4, (0, 1, 2)), ("empty", 1, (4,)),
    ]  # fmt: skip
    first = only.reasons[0]
    assert (first.reason, first.general) == ("score 0.0 < 0.5", "score … < …")
    assert [row.name for row in lost_rows(only, first)] == ["질문 0?", "질문 1?", "질문 2?"]


def test_an_example_whose_exact_copy_was_dropped_is_not_dropped(tmp_path):
    row = example("휴가는 며칠입니까?")
    copies = [dropped(row, "exact_duplicate", "same prompt and answer", twin=row.id)]
    curated = artifact(tmp_path, "curate", examples=[row], dropped=copies)
    way = way_of({"curate": curated}, row.id)
    assert [step.state for step in way.steps] == ["done"]
