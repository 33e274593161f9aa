import pytest

from jangin.core.records import Chunk
from jangin.examples.synthesis.coverage import cover, figures
from jangin.llm.replies import Failed


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
    shares = figures(rows, chunks, [])
    assert shares["chunks_used"] == 2
    assert shares["chunk_coverage"] == pytest.approx(2 / 3, abs=1e-4)
    assert shares["character_coverage"] == 0.5
    assert shares["coverage"]["a.pdf"] == {
        "chunks": 2, "chunks_used": 2, "characters": 1.0, "facts": 2, "facts_asked": 0,
    }  # fmt: skip
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


def test_a_dense_table_is_covered_by_its_facts_and_not_by_one_question(make_example, make_chunk):
    priced = "| P-100 | 890,000 | 24개월 |"
    table = f"| 모델 | 단가 | 보증 |\n|---|---|---|\n{priced}\n| S-10 | 70,000 | 12개월 |"
    chunk = make_chunk(1, table)
    question = "P-100의 단가는 얼마인가요?"
    row = make_example(question, "890000원", chunk_ids=("c1",), evidence=priced)
    shares = figures(cover([chunk], [row], [], {}), [chunk], [row])
    assert (shares["chunk_coverage"], shares["facts"], shares["fact_coverage"]) == (1.0, 4, 0.25)
