"""Suspected versions in the terminal and in the report."""

import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.ledger import CallCount
from jangin.documents.versions import versions_of
from jangin.project.session import open_session
from jangin.report.page import build_report
from tests.documents.test_versions import RULES, old_rules

PROJECT = "name: rules\ndocuments: {load: {folder: documents}, chunk: }\n"


def write_rules(path, rules, in_force):
    parts = [f"{heading}\n{text}" for heading, text in rules]
    text = "\n\n".join([*parts, f"부칙(시행일)\n이 규약은 {in_force}부터 시행한다."])
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    write_rules(tmp_path / "documents/b.txt", RULES, "2026년 3월 1일")
    write_rules(tmp_path / "documents/c.txt", list(old_rules()), "2022년 4월 1일")
    return tmp_path


def call(*words):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_run_plan_and_report_name_both_files_until_a_person_decides(folder, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    assert "suspected versions" not in call("plan", "-p", folder)
    remedy = 'documents: {load: {replaces: {"b.txt": ["c.txt"]}}}'
    for command in ("run", "plan"):
        output = call(command, "-p", folder)
        assert "suspected versions: b.txt and c.txt" in output
        assert "2대 ↔ 1대" in output
        assert "b.txt seems newer; its text gives 2026-03-01" in output
        assert remedy in output
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert "더 새것으로 보이는 문서는 b.txt" in call("plan", "-p", folder)
    with open_session(folder) as session:
        made = {"main": session.artifacts("main")}
        pages = [build_report(session.project, made, CallCount(0, 0, 0), n) for n in ("en", "ko")]
    for page, title in zip(pages, ("Suspected versions", "옛 판으로 보이는 문서"), strict=True):
        assert title in page
        assert 'href="#contradictions"' in page
        assert "2대 ↔ 1대" in page
        assert "2022-04-01" in page
    decided = PROJECT.replace("documents}", "documents, replaces: {b.txt: [c.txt]}}")
    (folder / "project.yaml").write_text(decided, encoding="utf-8")
    assert "suspected versions" not in call("plan", "-p", folder)
    assert "판으로 보이는" not in call("run", "-p", folder)


def test_what_was_compared_is_kept_with_many_chunks_and_a_damaged_file_is_made_anew(
    folder, monkeypatch
):
    call("run", "-p", folder)
    with open_session(folder / "project.yaml") as session:
        (chunks,) = (own["chunk"] for own in [session.artifacts("main")])
        expected = versions_of(chunks)
        assert not (folder / "store/tables").exists(), "few chunks are worth no file"
        monkeypatch.setattr("jangin.documents.versions.LEAST", 1)
        assert versions_of(chunks) == expected
        (kept,) = (folder / "store/tables").glob("versions.*")
        before = kept.stat().st_mtime_ns
        assert versions_of(chunks) == expected
        assert kept.stat().st_mtime_ns == before
        kept.write_text("[{", encoding="utf-8")
        assert versions_of(chunks) == expected
    assert [pair.sources for pair in expected] == [("b.txt", "c.txt")]
