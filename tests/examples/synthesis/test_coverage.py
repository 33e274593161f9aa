import pytest

from jangin.core.records import Chunk
from jangin.examples.synthesis.coverage import cover, figures
from jangin.llm.structured import Failed


def chunk(name, start, end, source="a.pdf"):
    return Chunk(
        id=name, document_id=source, source=source, text="가" * (end - start), start=start,
        end=end, page=1, section="",
    )  # fmt: skip


def failed(subject, kind="rejected", rule="grounded", reason="not in the source"):
    return Failed(subject=subject, request="", reason=reason, reply="", kind=kind, rule=rule)


def test_overlapping_chunks_count_their_characters_once(make_example):
    chunks = [chunk("a", 0, 60), chunk("b", 40, 100), chunk("c", 0, 100, "b.pdf")]
    rows = cover(chunks, [make_example(chunk_ids=("a", "b"))], [], {})
    assert [row.rows for row in rows] == [1, 1, 0]
    shares = figures(rows, chunks)
    assert shares["chunks_used"] == 2
    assert shares["chunk_coverage"] == pytest.approx(2 / 3, abs=1e-4)
    assert shares["character_coverage"] == 0.5
    assert shares["coverage"]["a.pdf"] == {"chunks": 2, "chunks_used": 2, "characters": 1.0}
    assert shares["coverage"]["b.pdf"]["characters"] == 0


def test_the_reason_names_what_failed_what_was_rejected_and_what_was_never_asked():
    chunks = [chunk(name, 0, 10, name) for name in "abcde"]
    failures = [
        failed("a", "unanswered", "", "HTTP 500"),
        failed("b"),
        failed("b"),
        failed("b", rule="language"),
        failed("d", "language", "", "the question is not in the language of its source (ko)"),
    ]
    rows = cover(chunks, [], failures, {"c": "shorter than 200 characters (min_characters)"})
    assert [row.reason for row in rows] == [
        "unanswered: HTTP 500",
        "rejected: grounded 2, language 1",
        "shorter than 200 characters (min_characters)",
        "language: the question is not in the language of its source (ko)",
        "the teacher gave no row",
    ]
