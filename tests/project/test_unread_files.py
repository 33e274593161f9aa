"""A project in the folder of its documents: what it uses and writes there is told from them."""

import json
import re

import pytest
from typer.testing import CliRunner

import jangin
from jangin.cli.main import app
from jangin.core.errors import DataError
from jangin.core.reasons import Reason
from jangin.core.store import OUTPUTS, output_names
from jangin.project.session import open_session
from jangin.report.i18n.translate import Words
from tests.tiny_project import KEYS, write_project

PROJECT = """\
name: rules
documents: {load: {folder: .}, chunk: }
teachers: {helper: {type: recorded, model: m, replies: recorded/helper.jsonl}}
examples:
  read: {path: faq.csv, format: {type: table, prompt: "{question}", completion: "{answer}"}}
  split: {unseen_sections: 0, validation: 0, held_out_paraphrases: 0}
variants:
  first:
  second: {examples: {read: {path: more.csv}}}
"""
ROWS = "question,answer\nIs it open?,Yes.\nUntil when?,Until six.\n"


@pytest.fixture
def folder(tmp_path):
    files = {
        "project.yaml": PROJECT, "rules.md": "# Rules\n\nThe office is open until six.\n",
        "faq.csv": ROWS, "more.csv": ROWS, "forgotten.csv": ROWS, "recorded/helper.jsonl": "",
        "recorded/stray.jsonl": "", "reviews.jsonl": "", "additions.jsonl": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "test_questions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return tmp_path


def call(*words):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_only_files_that_no_setting_of_any_variant_names_are_not_read(folder):
    with open_session(folder, creates_store=False) as session:
        unread = session.unread_files("first")
        (load,) = [step for step in session.plan("first") if step.stage.name == "load"]
    assert [row.source for row in unread] == ["forgotten.csv", "recorded/stray.jsonl"]
    assert all(row.is_missed for row in unread)
    assert all(len(row.remedy) < 80 for row in unread)
    assert "(2 more are left out)" in load.cost.text


def test_copies_and_lock_files_are_named_before_and_after_a_run_and_in_korean(folder):
    (folder / "~$x.docx").touch()
    for name in ("a copy.md", "again.MD"):
        (folder / name).write_bytes((folder / "rules.md").read_bytes())
    (folder / "damaged.md").write_bytes(b"\xff\xfe\x00")
    (folder / "~damaged.md").write_bytes(b"\xff\xfe\x00")
    project = jangin.open(folder)
    with open_session(folder, creates_store=False) as session:
        before = {row.source: row for row in session.unread_files("first")}
    assert before["again.MD"].reason == Reason("same_bytes", name="a copy.md")
    assert not before["rules.md"].is_missed
    assert before["~$x.docx"].reason == Reason("lock")
    run = project.run(until="load", variant="first", progress=None)
    after = {row["source"]: row["reason"] for row in project.table("unreadable", variant="first")}
    assert set(after) == {*before, "damaged.md"}
    assert all(after[name] == row.reason for name, row in before.items() if "damaged" not in name)
    assert any("again.MD" in line and "a copy.md" in line for line in run.warnings)
    assert any("~$x.docx" in line for line in run.warnings)
    said = Words("ko")
    for line in (line for line in run.warnings if line.startswith("left out: ")):
        assert len(re.findall(r"[가-힣]\.", said.reason(line))) == 2, line
    (line,) = (line for line in run.warnings if line.startswith("damaged.md cannot be read"))
    assert len(re.findall(r"[가-힣]\.", said.reason(line))) == 3
    for row in before.values():
        assert all(re.search("[가-힣]", said.reason(text)) for text in (row.reason, row.remedy))


@pytest.mark.slow
def test_sheets_tables_and_pages_that_commands_write_are_read_by_no_later_run(folder):
    (folder / "additions.jsonl").unlink()
    project = jangin.open(folder)
    run = project.run(until="split", variant="first", progress=None)
    assert any("forgotten.csv" in line for line in run.warnings)
    here = ("-p", folder, "-v", "first")
    call("review", *here, "--to", folder / "sheet.xlsx")
    call("export", folder / "rows.txt", *here, "--format", "template")
    call("show", "documents", *here, "--csv", folder / "documents.csv")
    call("show", "data", "-p", folder, folder / "faq.csv", "-o", folder / "data.html")
    call("report", "-p", folder, "-o", folder / "recorded" / "report.html")
    project.export(folder / "training.txt", "template", variant="first")
    project.report()
    written = ["data.html", "documents.csv", "recorded/report.html", "rows.txt", "sheet.xlsx"]
    assert output_names(folder) == [*written, "training.txt"]
    again = project.run(until="split", variant="first", progress=None)
    assert {row["state"] for row in again} == {"up to date"}
    assert "not read: 2 files of the folder" in run.warnings
    assert again.warnings[0] == "not read: 8 files of the folder"
    assert again.warnings[1:-1] == run.warnings[-len(again.warnings[1:-1]) :]
    assert Reason("output") in again.warnings[-1]
    (folder / "sheet.xlsx").rename(folder / "sheet_lee.xlsx")
    call("review", *here, "--from", folder / "sheet_lee.xlsx")
    assert project.plan(until="split", variant="first").up_to_date
    page = CliRunner().invoke(app, ["review", *map(str, here), "--from", str(folder / "rules.md")])
    assert isinstance(page.exception, DataError)
    assert "rules.md" not in output_names(folder)


@pytest.mark.slow
def test_models_and_comparisons_among_the_documents_are_read_by_no_later_run(tmp_path):
    folder = write_project(tmp_path / "own", KEYS | {"documents": {"load": {"folder": "."}}})
    (folder / "rules.md").write_text("# Rules\n\nThe office is open until six.\n")
    (folder / "forgotten.csv").write_text(ROWS)
    here = ("-p", folder)
    call("run", *here)
    call("compare", *here, "-o", folder / "table.html")
    call("compare", *here, "-o", folder / "table.csv")
    call("merge", folder / "model", *here)
    call("finish", folder / "final", *here)
    assert output_names(folder) == ["final", "model", "table.csv", "table.html"]
    assert "| train" in (folder / "final" / "README.md").read_text().lower()
    again = call("run", *here)
    assert again.count("up to date") == len(jangin.open(folder).plan())
    assert "not read: 5 files of the folder" in again
    assert "forgotten.csv" in again
    assert f"final/, model/, table.csv, table.html: {Reason('output')}" in again


@pytest.mark.slow
def test_prepared_files_are_no_documents_and_no_forgotten_rows(folder):
    call("prepare", folder / "forgotten.csv", "-y", "--validation", 0, "--test", 0)
    written = ("aside.jsonl", "manifest.json", "report.json", "train.jsonl")
    assert output_names(folder) == [f"forgotten_prepared_{name}" for name in written]
    with open_session(folder, creates_store=False) as session:
        unread = [row.source for row in session.unread_files("first") if row.is_missed]
    assert unread == ["forgotten.csv", "recorded/stray.jsonl"]
    manifest = folder / "forgotten_prepared_manifest.json"
    (folder / "recorded" / "deep").mkdir()
    out = ("-o", folder / "recorded" / "deep")
    call("prepare", folder / "forgotten.csv", "--apply", manifest, *out)
    deep = "recorded/deep/forgotten_prepared_train.jsonl"
    assert deep in output_names(folder)
    (folder / "project.yaml").write_text("name: [", encoding="utf-8")
    call("prepare", folder / "more.csv", "-y", "--validation", 0, "--test", 0)


def test_a_folder_without_documents_gets_no_note(folder):
    (folder / "project.yaml").write_text(
        PROJECT.replace("{folder: .}", "{folder: recorded}"), encoding="utf-8"
    )
    with open_session(folder, creates_store=False) as session:
        session.wrote(folder / "sheet.xlsx")
        session.wrote(session.store.root / "report.html")
    assert not list(folder.rglob(OUTPUTS))
