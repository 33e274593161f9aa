"""Decisions between two documents."""

from jangin.examples.reviews.log import document_decisions, read_log
from tests.serving.pages.review.test_routes import kim, rows

__all__ = ("kim", "rows")


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
