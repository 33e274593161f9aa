"""The last trained model answers although its variant is out of date, and says so."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

import jangin
from jangin.cli.main import main
from jangin.core.parquet import read_table
from jangin.core.records import Example, Message
from jangin.core.store import Manifest
from jangin.examples.formats.additions import add_row
from jangin.examples.reviews.log import append_decisions, decide
from jangin.project.release.trained import age_in_words, open_trained
from jangin.project.session import open_session
from tests.tiny_project import KEYS, ROWS

QUESTION = ROWS[0]["prompt"]
NEW = (Message(role="user", content="새 질문?"), Message(role="assistant", content="답"))


@pytest.fixture
def own(tiny, tmp_path):
    """A copy of the tiny project with its store, which a test may change."""
    return Path(shutil.copytree(tiny[0].folder, tmp_path / "own"))


@pytest.fixture
def command(monkeypatch, capsys):
    """(exit code, output, errors) of a command."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0), *capsys.readouterr()

    return call


def write(folder, keys):
    (folder / "project.yaml").write_text(yaml.safe_dump(keys, allow_unicode=True), "utf-8")


def trained(folder, variant="main"):
    with open_session(folder) as session:
        return open_trained(session, variant)


@pytest.mark.slow
def test_a_saved_question_leaves_the_model_askable_and_a_run_brings_it_up_to_date(own, command):
    project = jangin.open(own)
    before = project.model()
    said = project.ask(QUESTION, max_new_tokens=8).text
    assert (before.outdated, "outdated" in repr(before)) == ("", False)
    add_row(own, "question", NEW, "main")
    assert project.model() is before
    assert before.outdated.startswith("This model was trained ")
    assert before.outdated.endswith("a change of read: test_questions.jsonl is new.")
    assert repr(before).endswith("outdated>")
    assert project.ask(QUESTION, max_new_tokens=8).text == said
    code, out, errors = command("ask", QUESTION, "-p", own, "--max-new-tokens", 8)
    assert (code, out.splitlines()[0]) == (0, said.splitlines()[0])
    assert [line.startswith("! This model was") for line in errors.splitlines()] == [True]
    for what in (("compare",), ("show", "predictions"), ("show", "tokens")):
        code, out, errors = command(*what, "-p", own)
        assert code == 0, errors
        assert out
        assert "is the last one, made " in errors
        assert "test_questions.jsonl is new" in errors
    page = project.report(own / "page.html").read_text("utf-8")
    assert "evaluate of main is the last one, made " in page
    assert "test_questions.jsonl is new" in page
    project.run("sft", progress=None)
    assert project.model() is not before
    assert project.model().outdated == ""


def test_a_rejected_row_names_the_review(own):
    project = jangin.open(own)
    model = project.model()
    (read,) = (own / "store" / "read").glob("*/examples.parquet")
    example = read_table(read, Example)[0]
    append_decisions(own / "reviews.jsonl", [decide(example, "reject", "me", reason="wrong")])
    assert project.model() is model
    assert "review has not run since" in model.outdated


@pytest.mark.slow
def test_an_interrupted_change_and_a_new_last_stage_fall_back_to_the_model_that_is_there(own):
    further = {"continue_sft": {"length": {"type": "steps", "steps": 1}}}
    keys = KEYS | {"models": KEYS["models"] | further}
    write(own, keys)
    assert "continue_sft has not run since" in trained(own).outdated
    assert trained(own).maker("model").manifest.stage == "sft"
    jangin.open(own).run("continue_sft", progress=None)
    assert trained(own).outdated == ""
    sft = {**KEYS["models"]["sft"], "learning_rate": 0.001}
    write(own, keys | {"models": keys["models"] | {"sft": sft}})
    jangin.open(own).run("sft", progress=None)
    assert trained(own).maker("model").manifest.stage == "continue_sft"
    assert "a change of continue_sft: model changed" in trained(own).outdated


@pytest.mark.slow
def test_the_template_is_that_of_the_training(own):
    add_row(own, "question", NEW, "main")
    keys = KEYS | {"examples": KEYS["examples"] | {"read": {"path": "rows.jsonl", "format": {
        "type": "table", "prompt": "묻: {prompt}", "completion": "{completion}"}}}}  # fmt: skip
    write(own, keys)
    with open_session(own) as session:
        assert open_trained(session, "main").dialogue().pattern == ""
    jangin.open(own).run("sft", progress=None)
    with open_session(own) as session:
        assert open_trained(session, "main").dialogue().pattern == "묻: {prompt}"


def test_without_any_trained_model_the_error_says_what_to_run(own, command):
    shutil.rmtree(own / "store" / "sft")
    code, _, errors = command("ask", QUESTION, "-p", own)
    assert code == 2
    assert "sft of variant 'main' has not run yet" in errors
    assert "jangin run --project" in errors
    with pytest.raises(jangin.DataError, match="has not run yet"):
        jangin.open(own).ask(QUESTION)


def test_the_age_is_that_of_the_model(own):
    manifest = next((own / "store" / "sft").glob("*/manifest.json"))
    read = Manifest.model_validate_json(manifest.read_bytes())
    old = read.model_copy(update={"created_at": datetime.now(UTC) - timedelta(days=3, hours=1)})
    manifest.write_text(old.model_dump_json())
    add_row(own, "example", NEW, "main")
    assert trained(own).outdated.startswith("This model was trained 3 days ago, ")
    assert [age_in_words(s) for s in (0, 59, 60, 3599, 7200, 86400)] == [
        "just now", "just now", "1 minute ago", "59 minutes ago", "2 hours ago", "1 day ago",
    ]  # fmt: skip


def test_what_the_model_needs_is_kept_by_gc(own, command):
    add_row(own, "example", NEW, "main")
    jangin.open(own).run("split", progress=None)
    model = trained(own)
    (own / "store" / "split" / ("0" * 16)).mkdir()
    code, out, _ = command("gc", "-p", own, "--older-than", 0)
    assert (code, "by the same command with --yes" in out) == (0, True)
    assert (own / "store" / "split" / ("0" * 16)).exists()
    code, out, _ = command("gc", "-p", own, "--yes", "--older-than", 0)
    assert (code, "Deleted 1 folder; " in out) == (0, True)
    assert not (own / "store" / "split" / ("0" * 16)).exists()
    assert all(artifact.path.exists() for artifact in model.artifacts.values())
    assert trained(own).artifacts == model.artifacts
