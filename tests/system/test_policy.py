"""Recipe `policy`, whole and offline: a printed and a scanned policy become split examples."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from jangin.core.jsonl import read_jsonl
from jangin.core.parquet import read_table
from jangin.core.records import Choice, Chunk, Document, Dropped, Example, SplitExample
from jangin.examples.evolve import Eliminated
from jangin.llm.recorded import Recording
from jangin.project.runner import run
from jangin.project.session import open_session
from jangin.text.grounding import support

PROJECT = Path(__file__).parents[2] / "projects" / "policy"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tables of every stage, by (stage, kind)."""
    store = tmp_path_factory.mktemp("policy") / "store"
    with open_session(PROJECT, store, workers=1) as session:
        run(session.project, session.store, session.services, ["main"])
        artifacts = session.artifacts("main")

    def table(stage, kind, record_type):
        return read_table(artifacts[stage].path / f"{kind}.parquet", record_type)

    return table


@pytest.mark.slow
@pytest.mark.long
def test_the_scan_is_read_by_ocr_and_the_print_is_not(made):
    documents = {d.source: d for d in made("load", "documents", Document)}
    methods = {name: {page.method for page in d.pages} for name, d in documents.items()}
    assert methods == {"겨울운동_특별약관.pdf": {"ocr"}, "해외여행보험.pdf": {"text"}}
    assert documents["겨울운동_특별약관.pdf"].text.startswith("겨울운동 특별약관\n")


@pytest.mark.slow
@pytest.mark.long
def test_every_article_is_a_chunk_of_its_own(made):
    sections = [c.section.split(" > ")[-1] for c in made("chunk", "chunks", Chunk)]
    terms = [section for section in sections if section.startswith("제")]
    assert len(terms) == 31
    assert len(set(sections)) == len(sections) - 1  # both title pages have none


@pytest.mark.slow
@pytest.mark.long
def test_every_answer_rests_on_its_article(made):
    chunks = {c.id: c for c in made("chunk", "chunks", Chunk)}
    rows = made("evolve", "examples", Example)
    assert len(rows) > 30
    for row in rows:
        assert support(row.evidence, chunks[row.chunk_ids[0]].text) >= 0.9
        assert (row.page, row.section) == (
            chunks[row.chunk_ids[0]].page,
            chunks[row.chunk_ids[0]].section,
        )
    choices = made("synthesize", "choices", Choice)
    assert len(choices) == 6
    assert all(len(choice.distractors) == 3 for choice in choices)


@pytest.mark.slow
@pytest.mark.long
def test_what_did_not_evolve_well_is_eliminated_for_six_different_reasons(made):
    gone = Counter(row.rule for row in made("evolve", "eliminated", Eliminated))
    assert gone == dict.fromkeys(
        ("same_text", "refusal", "not_self_contained", "ungrounded", "leaked_prompt", "no_gain"), 1
    )
    evolved = [row for row in made("evolve", "examples", Example) if row.kind == "evolved"]
    assert len(evolved) == 11
    assert len({row.operation for row in evolved}) == 4


@pytest.mark.slow
@pytest.mark.long
def test_what_is_bad_or_there_twice_is_dropped(made):
    dropped = made("curate", "dropped", Dropped)
    assert sorted(row.rule for row in dropped) == ["near_duplicate", "score"]
    bad = next(row for row in dropped if row.rule == "score")
    assert bad.example.question == "그때는 어떻게 되나요?"
    assert "무엇을 묻는지 알 수 없다" in bad.reason


@pytest.mark.slow
@pytest.mark.long
def test_no_article_and_no_family_is_on_two_sides(made):
    sides: dict[str, set[str]] = {}
    for row in made("split", "splits", SplitExample):
        for name in (row.example.family, *row.example.chunk_ids):
            sides.setdefault(name, set()).add(row.split)
    assert sides
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.slow
def test_the_recorded_replies_are_what_the_teacher_of_the_project_says():
    spec = importlib.util.spec_from_file_location("policy_teach", PROJECT / "teach.py")
    teach = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(teach)
    entries = teach.load_entries(PROJECT / "teacher")
    recordings = list(read_jsonl(PROJECT / "replies.jsonl", Recording))
    assert recordings
    for recording in recordings:
        messages = recording.request.messages
        said = teach.answer(entries, messages[0].content, messages[-1].content)
        assert json.loads(recording.reply.content) == said
