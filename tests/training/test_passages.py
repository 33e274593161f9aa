"""Rows with passages: the same search and prompt in training, evaluation and serving."""

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import ConfigError, SettingsError
from jangin.core.parquet import read_table
from jangin.core.prompts import Prompts
from jangin.core.records import Chunk, Example, Message, SplitExample
from jangin.documents.passages import PassagePrompt, Passages
from jangin.evaluation.grounded import Grounding
from jangin.project.file import open_project
from jangin.training.continue_sft import ContinueSftConfig
from jangin.training.passages import PassageRows, PassagesConfig, check_start
from jangin.training.sft import STAGE, SftConfig
from tests.reading_project import PROJECT, write_project, write_settings

TEXTS = ("alpha one is red", "alpha two is blue", "alpha three is green", "delta nine is black")


def passages():
    return Passages.of(
        [
            Chunk(
                id=f"c{row}", document_id="d", source="d.md", text=text, start=0, end=9, page=1,
                section="",
            )
            for row, text in enumerate(TEXTS)
        ]
    )  # fmt: skip


def row(question, chunk_id, split="train", **fields):
    prompt = (Message(role="user", content=question),)
    answer = Message(role="assistant", content="red")
    example = Example.make(prompt, answer, (chunk_id,), kind="original", **fields)
    return SplitExample(example=example, split=split)


def made(rows, seed=0, **settings):
    return PassageRows.of(rows, PassagesConfig(**settings), seed, passages(), Prompts())


def shown(example):
    return [text for text in TEXTS if text in example.prompt[-1].content]


def test_a_row_has_its_own_passage_and_the_nearest_others():
    result = made([row("what is alpha", "c3")], count=3)
    (taught,) = result.rows
    assert len(shown(taught.example)) == 3
    assert TEXTS[3] in shown(taught.example)
    assert taught.example.prompt[-1].content.endswith("Question: what is alpha")
    assert taught.example.completion.content == "red"
    assert result.figures == {"with_own_passage": 1, "unknown_passage": 0}


def test_gold_is_the_share_of_rows_with_their_own_passage():
    rows = [row(f"what is alpha {number}", "c0") for number in range(40)]
    for gold, least, most in ((0.0, 0, 0), (0.5, 10, 30), (1.0, 40, 40)):
        result = made(rows, count=2, gold=gold)
        own = sum(TEXTS[0] in shown(each.example) for each in result.rows)
        assert least <= own <= most
        assert own == result.figures["with_own_passage"]
        assert all(len(shown(each.example)) == 2 for each in result.rows)


def test_the_order_is_drawn_by_the_seed_and_held_out_rows_stay_as_they_are():
    rows = [row(f"what is alpha {number}", "c0") for number in range(12)]
    rows.append(row("what is alpha", "c1", split="test"))
    first, again, other = (made(rows, seed=seed).rows for seed in (0, 0, 1))
    assert first == again != other
    positions = {each.example.prompt[-1].content.index(TEXTS[0]) > 60 for each in first[:-1]}
    assert positions == {True, False}
    assert first[-1] == rows[-1]


def test_a_row_of_an_unknown_passage_gets_what_the_search_finds_and_is_counted():
    result = made([row("which is delta", "gone")], count=1)
    assert shown(result.rows[0].example) == [TEXTS[3]]
    assert result.figures == {"with_own_passage": 0, "unknown_passage": 1}


def test_an_estimate_has_as_many_passages_without_a_search():
    rows = [row("what is alpha", "c3")]
    result = PassageRows.of(rows, PassagesConfig(count=2), 0, passages(), Prompts(), searched=False)
    assert len(shown(result.rows[0].example)) == 2


def test_training_and_asking_use_the_same_words(tmp_path):
    result = made([row("which is delta", "c3")], count=1)
    result.passage_prompt.write(tmp_path)
    recorded = PassagePrompt.read(tmp_path)
    assert recorded == result.passage_prompt
    question = (Message(role="user", content="which is delta"),)
    prompt, hits = recorded.with_passages(passages(), question)
    assert prompt == result.rows[0].example.prompt
    assert [hit.chunk.id for hit in hits] == ["c3"]
    assert PassagePrompt.read(tmp_path / "none") is None


def test_weights_follow_a_template_with_a_system_message():
    own = {"retrieval": {"en": {"system": "Read.", "user": "$passages $question"}}}
    rows = [row("what is alpha", "c0", weights=(0, 1))]
    result = PassageRows.of(rows, PassagesConfig(count=1), 0, passages(), Prompts(_wordings(own)))
    example = result.rows[0].example
    assert [turn.role for turn in example.prompt] == ["system", "user"]
    assert example.weights == (0, 0, 1)


def _wordings(own):
    from jangin.core.prompts import Wording

    return {
        name: {language: Wording(**wording) for language, wording in languages.items()}
        for name, languages in own.items()
    }


def test_only_with_passages_a_stage_reads_the_index_so_that_other_keys_stay(tmp_path):
    closed, reading = SftConfig(), SftConfig(passages={"count": 2})
    assert "index" not in STAGE.inputs(closed)
    assert STAGE.prompts(closed) == STAGE.wants(closed) == ()
    assert "passages" not in closed.identity()
    assert "index" in STAGE.inputs(reading)
    assert STAGE.wants(reading) == ("index",)
    assert reading.identity()["passages"] == {"count": 2, "gold": 1.0}


def test_a_model_that_reads_is_not_trained_on_without_passages(tmp_path):
    made([row("which is delta", "c3")]).passage_prompt.write(tmp_path)
    with pytest.raises(SettingsError, match="passages"):
        check_start(tmp_path, ContinueSftConfig())
    check_start(tmp_path, ContinueSftConfig(passages={}))
    check_start(None, SftConfig())


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """A finished project whose model was trained with passages, and what its run printed."""
    folder = write_project(tmp_path_factory.mktemp("reading"))
    run = CliRunner().invoke(app, ["run", "-p", str(folder)])
    assert run.exit_code == 0, run.output
    return folder, run.output


@pytest.mark.slow
def test_a_model_trained_with_passages_is_asked_with_them_and_shows_them(reading):
    folder, printed = reading
    assert "tuned + retrieval" not in printed
    (model,) = (folder / "store" / "sft").glob("*/passages.json")
    assert PassagePrompt.read(model.parent).count == 1
    manifest = json.loads((model.parent / "manifest.json").read_text("utf-8"))
    assert manifest["summary"]["unknown_passage"] > 0

    asked = CliRunner().invoke(app, ["ask", "How many days is leave?", "-p", str(folder)])
    assert asked.exit_code == 0, asked.output
    assert "read for this answer:" in asked.output
    assert "[1] rules.md, page 1, Rules > Leave" in asked.output
    assert "Leave is fifteen days a year." in asked.output
    (evaluation,) = (folder / "store" / "evaluate").glob("*/grounding.parquet")
    rows = read_table(evaluation, Grounding)
    assert {row.system for row in rows} == {"base + retrieval", "tuned"}
    assert {(row.known, row.own_read) for row in rows} == {(0, 0)}  # of a table
    summary = json.loads(evaluation.with_name("manifest.json").read_text("utf-8"))["summary"]
    assert summary["tuned_with_passages"] is True
    closed = ["ask", "How many days is leave?", "-p", str(folder), "--no-passages"]
    closed = CliRunner().invoke(app, closed)
    assert "rules.md" not in closed.output
    assert "trained to read passages and gets none" in closed.output


@pytest.mark.slow
def test_an_edited_document_is_read_after_the_index_alone_has_run(reading):
    folder, _ = reading
    path = folder / "documents" / "rules.md"
    path.write_text(path.read_text("utf-8").replace("fifteen", "twenty"))
    assert CliRunner().invoke(app, ["run", "index", "-p", str(folder)]).exit_code == 0
    asked = CliRunner().invoke(app, ["ask", "How many days is leave?", "-p", str(folder)])
    assert "Leave is twenty days a year." in asked.output


def test_stages_that_would_unlearn_reading_are_refused_with_their_line(tmp_path):
    write_settings(tmp_path, dpo={}, preferences={}, continue_sft={})
    with pytest.raises(ConfigError) as error:
        open_project(tmp_path / "project.yaml")
    text = str(error.value)
    for name in ("continue_sft", "preferences", "dpo"):
        assert re.search(rf"project\.yaml:\d+: models\.{name}: `sft` trains with passages", text)


def test_passages_need_the_index(tmp_path):
    settings = PROJECT | {"documents": {"load": {"folder": "documents"}, "chunk": None}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    with pytest.raises(ConfigError, match=r":\d+: models\.sft: needs index.*Turn on index"):
        open_project(tmp_path / "project.yaml")
