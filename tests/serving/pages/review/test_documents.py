"""Decisions between two documents."""

import json

import pytest

from jangin.cli.main import app
from jangin.core.parquet import write_table
from jangin.core.store import Store
from jangin.examples.curation.contradictions import Conflict, ConflictSide
from jangin.examples.reviews.log import (
    NamedDocument,
    Wording,
    decide_documents,
    decide_on,
    document_decisions,
    read_log,
    withdraw_documents,
)
from jangin.project.contradictions import undecided
from tests.serving.pages.review.test_routes import kim, rows

__all__ = ("kim", "rows")
OLD, NEW, THIRD = (NamedDocument(id=f"d{n}", source=f"{n}.md") for n in ("old", "new", "third"))


def side(document, answer, example):
    return ConflictSide(
        document=document.id, source=document.source, page=3, section="",
        question="연체료는 얼마인가요?", answer=answer, evidence="", example=example,
        family=example,
    )  # fmt: skip


def conflict(name, *documents):
    sides = tuple(side(each, f"{each.id} 100원", f"{name}-{each.id}") for each in documents)
    return Conflict(id=name, difference="amount", sides=sides)


def test_a_conflict_is_open_until_nothing_in_it_is_left_to_decide():
    two, three = conflict("c2", OLD, NEW), conflict("c3", OLD, NEW, THIRD)

    def open_after(*decisions):
        return [each.id for each in undecided([two, three], decisions)]

    wording = Wording(question="연체료는 얼마인가요?", answer="dold 100원")
    both = decide_documents("both_hold", NEW, OLD, "kim")
    assert open_after() == ["c2", "c3"]
    assert open_after(decide_documents("replaces", NEW, OLD, "kim")) == ["c3"]
    assert open_after(both) == ["c3"]
    assert open_after(both, withdraw_documents("undo", NEW, OLD, "kim")) == ["c2", "c3"]
    assert open_after(decide_on("c2-dold", wording, "reject", "kim", reason="wrong")) == ["c3"]
    thirds = [decide_documents("replaces", NEW, each, "kim") for each in (OLD, THIRD)]
    assert open_after(*thirds) == []


@pytest.fixture
def contradicting(project, rows):
    """Two documents of the project that its curation says contradict each other."""
    first, second = sorted({(row.source, row.document_id) for row in rows.values()})[:2]
    documents = [NamedDocument(id=name, source=source) for source, name in (first, second)]
    folder = Store(project / "store").latest("curate").path
    manifest = folder / "manifest.json"
    before = manifest.read_text("utf-8")
    state = json.loads(before)
    state["summary"]["contradictions"] = 1
    write_table(folder / "conflicts.parquet", Conflict, [conflict("c1", *documents)])
    manifest.write_text(json.dumps(state), "utf-8")
    yield documents
    manifest.write_text(before, "utf-8")
    (folder / "conflicts.parquet").unlink()


@pytest.mark.parametrize("language", ["ko", "en"])
def test_undecided_conflicts_stand_first_in_the_queue_side_by_side(kim, contradicting, language):
    kim.submit("/preferences", name="kim", language=language, theme="auto")
    table = kim.get("/review").text.partition("<tbody>")[2]
    first = table.partition("</tr>")[0]
    for document in contradicting:
        assert f"{document.id} 100원" in first
        assert document.source in first
    assert ("3쪽" if language == "ko" else "page 3") in first
    assert 'href="/review/documents#c1"' in first
    assert 'id="c1"' in kim.get("/review/documents").text
    assert "#c1" not in kim.get("/review?after=0").text, "only on the first page"
    assert "#c1" not in kim.get("/review?words=없는말").text
    assert "#c1" in kim.get("/review?signal=conflict").text
    one, two = (each.source for each in contradicting)
    kim.submit("/review/documents", decision="replaces", first=one, second=two)
    assert "#c1" not in kim.get("/review").text
    kim.submit("/review/documents", decision="undo", first=one, second=two)
    kim.submit("/preferences", name="kim", language="ko", theme="auto")


def test_the_terminal_names_undecided_conflicts_before_the_examples(
    project, contradicting, log, capsys
):
    command = ["review", "--status", "-p", str(project / "project.yaml")]
    app(command, standalone_mode=False)
    shown = capsys.readouterr().out
    assert shown.index("documents disagree: 1 question") < shown.index("not decided;")
    assert f"{contradicting[0].source}, page 3: {contradicting[0].id} 100원" in shown
    one, two = (each.source for each in contradicting)
    app([*command, "--replaces", one, two], standalone_mode=False)
    capsys.readouterr()
    app(command, standalone_mode=False)
    assert "documents disagree" not in capsys.readouterr().out


def test_a_decision_between_documents_is_saved_shown_and_withdrawn(kim, rows, log):
    assert "서로 어긋나는 문서가 없습니다" in kim.get("/review/documents").text
    first, second = sorted({row.source for row in rows.values()})[:2]
    page = kim.submit("/review/documents", decision="replaces", first=first, second=second)
    assert f"유효한 문서: {first}. {second}" in page.text
    (decision,) = document_decisions(read_log(log))
    assert [each.source for each in decision.documents] == [first, second]
    assert decision.by
    undone = kim.submit("/review/documents", decision="undo", first=first, second=second)
    assert "유효한 문서" not in undone.text
    assert document_decisions(read_log(log)) == []


def test_a_document_that_is_not_there_is_refused_and_nothing_is_saved(kim, rows, log):
    name = next(iter(rows.values())).source
    refused = kim.submit("/review/documents", decision="both_hold", first=name, second=f"x{name}")
    assert refused.status_code >= 400
    assert f"x{name}" in refused.text
    assert not log.exists()


def test_a_conflict_that_is_gone_is_refused(kim, log):
    assert kim.submit("/review/documents/wrong", conflict="0", source="a.md").status_code == 404
    assert not log.exists()
