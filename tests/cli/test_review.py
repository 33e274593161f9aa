"""The review in a terminal."""

from jangin.cli.review import ReviewScreen
from jangin.examples.reviews.index import ReviewLeases
from jangin.examples.reviews.log import read_log
from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import Material
from tests.examples.test_curate import example

QUESTIONS = [
    "도서관 개관 시간은 언제인가요?",
    "주차 요금은 얼마인가요?",
    "분실물 보관 장소는 어디인가요?",
    "강습반 정원은 몇 명인가요?",
    "도서관 개관 시간은 보통 언제인가요?",
]


def test_rows_like_a_rejected_one_come_next_and_undo_finds_its_row(tmp_path, capsys):
    queue = make_queue(Material.of([example(each) for each in QUESTIONS]), {})
    by_question = {item.example.question: item for item in queue}
    items = [by_question[each] for each in QUESTIONS]
    keys = iter("rurq")
    log = tmp_path / "reviews.jsonl"
    screen = ReviewScreen(
        items, log, "kim", lambda: next(keys), lambda _: "1", lambda _: None, ReviewLeases(log)
    )
    screen.show()
    assert [item.example.question for item in screen.items] == [
        *QUESTIONS[:1], QUESTIONS[4], *QUESTIONS[1:4],
    ]  # fmt: skip
    assert [decision.decision for decision in read_log(log)] == ["reject", "undo", "reject"]
    assert {decision.before.question for decision in read_log(log)} == {QUESTIONS[0]}
    assert f"Much like a question that was rejected: {QUESTIONS[0]}" in capsys.readouterr().out
