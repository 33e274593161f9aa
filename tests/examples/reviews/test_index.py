"""The queue in memory: filters, pages, decisions of several people and processes."""

import pytest

from jangin.core.errors import DataError
from jangin.core.records import Chunk, Example, Message, PreferencePair, Score
from jangin.examples.reviews.index import (
    ChangedMeanwhileError,
    PackedQueue,
    QueueFilter,
    ReviewIndex,
)
from jangin.examples.reviews.log import (
    ReviewableTexts,
    append_decisions,
    collect_reviews,
    decide,
    read_log,
)
from jangin.examples.reviews.queue import make_queue, unsupported
from jangin.examples.reviews.reasons import Material

PASSAGE = "제3조 직원의 연차휴가는 15일로 한다."


def make_row(number, **fields):
    question = Message(role="user", content=f"{number}번 창고의 규정은 무엇인가요?")
    answer = Message(role="assistant", content=f"{number}시에 닫습니다")
    given = {"kind": "original", "chunk_ids": ("c",), "source": f"{number % 2}.md", **fields}
    return Example.make((question,), answer, **given)


def make_pair(row, rejected="아무 때나"):
    return PreferencePair.make(
        row.prompt,
        row.completion,
        Message(role="assistant", content=rejected),
        origin="sampling",
        family=row.family,
        example_id=row.id,
        chunk_ids=row.chunk_ids,
    )


def make_index(tmp_path, rows, pairs=(), share=0.0):
    chunk = Chunk(
        id="c", document_id="d", source="a.md", text=PASSAGE, start=0, end=len(PASSAGE), page=1,
        section="휴가",
    )  # fmt: skip
    queue = make_queue(Material.of(rows, [chunk]), {}, pairs=pairs)
    packed, texts = PackedQueue.of(queue, share), {"c": PASSAGE}
    index = ReviewIndex(
        tmp_path / "reviews.jsonl", packed.entries, lambda n: packed.item(n, texts), texts
    )
    index.refresh()
    return index


def ids(index, by="kim", **shown):
    return [index.entries[n].id for n in index.matching(QueueFilter(**shown), by)]


def test_pages_follow_each_other_and_every_row_is_on_one(tmp_path):
    index = make_index(tmp_path, [make_row(n) for n in range(7)])
    seen, after = [], -1
    while after is not None:
        page = index.page(QueueFilter(), "kim", after, 3)
        seen += page.positions
        after = page.following
    assert seen == list(range(7))
    assert page.total == 7


def test_rows_like_a_rejected_one_come_next_until_they_are_decided(tmp_path):
    """Live: neither a run nor a start of the server lies between."""
    rows = [make_row(n) for n in range(9)]
    question = "9번 창고의 오늘 규정은 무엇인가요?"
    like = Message(role="user", content=question)
    rows += [rows[0].model_copy(update={"id": "like", "prompt": (like,)}), make_row(9)]
    index = make_index(tmp_path, rows)
    twin, last = index.position("like"), index.position(rows[-1].id)
    order = [n for n in range(11) if n not in (twin, last)]

    def save(position, decision):
        index.save([decide(index.load(position).example, decision, "kim")])

    def offered(after):
        return [index.position(row) for row, _ in index.candidates(QueueFilter(), "kim", after)]

    save(last, "accept")
    save(last, "undo")
    assert index.near_rejected("kim") == []
    before = offered(order[2])
    save(order[2], "accept")
    assert offered(order[2]) == before[:-1], "no rejection, no change"
    save(twin, "reject")
    assert offered(twin)[0] == last
    assert index.page(QueueFilter(), "kim", -1, 4).positions[0] == last
    assert last not in index.page(QueueFilter(), "kim", order[4], 20).positions
    shown = index.item(rows[-1].id, "lee")
    assert shown.signals[0].signal == "near_rejected"
    assert question in shown.signals[0].text
    assert index.entry(last).signals[0] == "near_rejected"
    assert offered(last)[0] != last, "a row that was skipped is not offered at once"
    save(twin, "undo")
    assert index.near_rejected("kim") == []
    assert "near_rejected" not in index.entry(last).signals


def test_filters_by_kind_source_signal_and_words(tmp_path):
    low = Score(scorer="judge", kind="model", value=0.2, reason="too short")
    rows = [make_row(0, scores=(low,)), make_row(1), make_row(2, kind="evolved"),
            make_row(3, kind="paraphrase", chunk_ids=())]  # fmt: skip
    pair = make_pair(rows[1])
    index = make_index(tmp_path, rows, [pair])
    assert len(ids(index)) == 4  # without the paraphrase
    assert ids(index, kind="paraphrase") == [rows[3].id]
    assert ids(index, kind="pair") == [pair.id]
    assert ids(index, signal="score") == [rows[0].id]
    assert set(ids(index, source="0.md")) == {rows[0].id, rows[2].id}
    assert ids(index, words="2번  창고") == [rows[2].id]
    assert len(ids(index, words="연차휴가는")) == 4  # in the passage
    assert ids(index, words="없는말") == []
    item = index.item(pair.id, "kim")
    assert (item.pair, item.passage, item.wording.rejected) == (pair, PASSAGE, "아무 때나")


def test_decisions_of_another_process_are_taken_in_as_they_come(tmp_path):
    rows = [make_row(n) for n in range(3)]
    index = make_index(tmp_path, rows)
    append_decisions(index.log, [decide(rows[0], "accept", "lee")])
    index.refresh()
    assert set(ids(index)) == {rows[1].id, rows[2].id}
    assert index.counts["accept"] == 1
    append_decisions(index.log, [decide(rows[0], "undo", "lee")])
    line = index.log.read_bytes()
    index.log.write_bytes(line + b'{"id": "half')  # what a killed process leaves
    index.refresh()
    assert len(ids(index)) == 3
    append_decisions(index.log, [decide(rows[1], "reject", "lee", reason="wrong")])
    index.refresh()
    assert ids(index, state="rejected") == [rows[1].id]
    index.log.unlink()
    index.refresh()
    assert len(ids(index)) == 3


def test_a_log_that_was_replaced_is_read_from_its_start(tmp_path):
    rows = [make_row(n) for n in range(2)]
    index = make_index(tmp_path, rows)
    append_decisions(index.log, [decide(rows[0], "accept", "lee")])
    index.refresh()
    other = tmp_path / "other.jsonl"
    append_decisions(
        other, [decide(rows[1], "reject", "lee"), decide(rows[1], "flag", "lee", reason="x")]
    )
    index.log.write_bytes(other.read_bytes())  # the same file with other lines, and longer
    index.refresh()
    assert ids(index, state="accepted") == []
    assert ids(index, state="flagged") == [rows[1].id]
    index.log.write_text(index.log.read_text() + "{}\n")
    with pytest.raises(DataError, match=r"reviews\.jsonl:3"):
        index.refresh()


def test_the_index_agrees_with_the_log_read_at_once(tmp_path):
    rows = [make_row(n) for n in range(6)]
    index = make_index(tmp_path, rows)
    cut_again = make_row(5, chunk_ids=("other",))
    after = ReviewableTexts(question="왜?", answer="네")
    for decision in (
        decide(rows[0], "accept", "kim"),
        decide(rows[0], "reject", "lee"),
        decide(rows[0], "undo", "kim"),
        decide(rows[1], "edit", "kim", after),
        decide(cut_again, "reject", "kim"),
        decide(make_row(77), "accept", "kim"),
        decide(rows[2], "accept", "kim"),
        decide(rows[2], "undo", "kim"),
    ):
        index.save([decision])
    reviews = collect_reviews(read_log(index.log))
    assert reviews[rows[0].id].verdict.decision == "reject"
    for row, name in ((rows[0], rows[0].id), (rows[1], rows[1].id), (rows[5], cut_again.id)):
        assert index.item(row.id, "kim").review == reviews[name]
    assert index.item(rows[2].id, "kim").review is None
    assert index.unmatched == {make_row(77).id}
    assert index.item(rows[1].id, "kim").wording == after


def test_a_row_that_somebody_decided_on_meanwhile_is_not_overwritten(tmp_path):
    row = make_row(0)
    index, other = make_index(tmp_path, [row]), make_index(tmp_path, [row])
    token = index.token(0, "kim")
    other.save([decide(row, "reject", "lee", reason="wrong")], {row.id: token})
    with pytest.raises(ChangedMeanwhileError) as caught:
        index.save([decide(row, "accept", "kim")], {row.id: token})
    assert caught.value.review.verdict.by == "lee"
    assert len(read_log(index.log)) == 1
    index.save([decide(row, "accept", "kim")], {row.id: index.token(0, "kim")})
    assert len(read_log(index.log)) == 2


def test_a_second_reviewer_does_not_see_the_first_decision(tmp_path):
    rows = [make_row(n) for n in range(3)]
    index = make_index(tmp_path, rows, share=1.0)
    position = index.position(rows[0].id)
    index.save([decide(rows[0], "accept", "kim")])
    assert rows[0].id not in ids(index, "kim")
    assert rows[0].id in ids(index, "lee")
    assert index.item(rows[0].id, "lee").review is None
    assert index.token(position, "lee") == ""
    assert ids(index, "lee", state="accepted") == []
    index.save([decide(rows[0], "reject", "lee")], {rows[0].id: ""})
    assert rows[0].id not in {*ids(index, "lee"), *ids(index, "park")}
    assert ids(index, "kim", state="contested") == [rows[0].id]
    assert index.contested() == [position]
    index.save([decide(rows[0], "accept", "park")])
    assert ids(index, "kim", state="contested") == []
    assert index.contested() == [position]


def test_undo_knows_the_last_decision_of_each_reviewer_but_bulk_actions(tmp_path):
    rows = [make_row(n) for n in range(4)]
    index = make_index(tmp_path, rows)
    index.save([decide(rows[0], "accept", "kim")])
    index.save([decide(rows[1], "accept", "lee")])
    many = [index.item(row.id, "kim").decide("reject", "kim", batch="b1") for row in rows[2:]]
    index.save(many)
    assert index.last_of("kim").id == rows[0].id
    index.save([index.item(rows[2].id, "kim").decide("accept", "kim")])
    index.save([item.decide("undo", "kim", batch="b1")
                for item in (index.item(row.id, "kim") for row in rows[2:])])  # fmt: skip
    assert ids(index, state="rejected") == []
    assert len(ids(index, state="accepted")) == 3
    for expected in (rows[2], rows[0]):
        assert index.last_of("kim").id == expected.id
        index.save([decide(expected, "undo", "kim")])
    assert index.last_of("kim") is None


def test_a_decision_from_before_an_id_changed_counts_again_once_the_own_one_is_undone(tmp_path):
    row, other = make_row(1), make_row(2)
    earlier = row.model_copy(update={"id": "f" * 16})
    index = make_index(tmp_path, [row, other])
    index.save([decide(earlier, "reject", "kim"), decide(other, "accept", "lee")])
    assert index.counts["reject"] == 1
    index.save([decide(row, "accept", "kim")])
    assert (index.counts["reject"], index.counts["accept"]) == (0, 2)
    assert (index.decided_by("kim"), index.decided_by("lee"), index.decided_by("x")) == (1, 1, 0)
    index.save([decide(row, "undo", "kim")])
    assert (index.counts["reject"], index.counts["accept"]) == (1, 1)


def test_what_an_answer_says_beyond_its_evidence_is_named():
    def beyond(answer, evidence="연차휴가는 15일로 한다."):
        return unsupported(
            ReviewableTexts(question="며칠?", answer=answer, evidence=evidence), PASSAGE
        )

    assert beyond("15일") == beyond("15일 (확인)") == beyond("연차휴가") == ()
    assert beyond("15일, 그 뒤 20일") == ("20일",)
    assert beyond("부장에게 물어봅니다") == ("부장에게 물어봅니다",)
    assert beyond("제3조", evidence="") == (), "without evidence the passage counts"
    assert unsupported(ReviewableTexts(question="며칠?", answer="20일"), "") == (), (
        "nothing to compare with"
    )
