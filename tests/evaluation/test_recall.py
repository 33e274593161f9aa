from jangin.core.records import Chunk, Example, Message
from jangin.documents.passages import Passages
from jangin.evaluation.recall import measure_recall

TEXTS = ("alpha beta", "alpha gamma", "delta epsilon")


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


def example(question, *chunk_ids):
    answer = Message(role="assistant", content="yes")
    prompt = (Message(role="user", content=question),)
    return Example.make(prompt, answer, chunk_ids, kind="original")


def test_a_question_counts_from_the_rank_of_its_own_passage_on():
    test_sets = {
        "test": [
            example("beta alpha", "c0"),  # first
            example("beta alpha", "c1"),  # second
            example("qqq", "c2"),  # shares no word
            example("beta", "gone"),  # its passage is not in the index
            example("beta"),  # nobody knows its passage
        ],
        "unseen_sections": [example("beta")],
    }
    rows = measure_recall(passages(), test_sets)
    assert [(r.evidence_set, r.ranking, r.depth, r.n) for r in rows] == [
        ("test", "bm25", depth, 3) for depth in (1, 3, 10)
    ]
    assert [round(r.recall, 3) for r in rows] == [0.333, 0.667, 0.667]
    assert rows[0].low < rows[0].recall < rows[0].high
