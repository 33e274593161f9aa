"""Two reviewers never get the same row, in one process or in several."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

from jangin.examples.reviews.index import ReviewLeases

ROWS = [(f"row{n}", 1) for n in range(40)]


def test_everybody_gets_another_row_at_the_same_time(tmp_path):
    log = tmp_path / "reviews.jsonl"
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: ReviewLeases(log).take(ROWS, f"by{n}"), range(24)))
    assert len(set(rows)) == 24


def test_a_reviewer_keeps_the_row_after_a_restart_and_loses_it_in_time(tmp_path):
    log = tmp_path / "reviews.jsonl"
    assert ReviewLeases(log).take(ROWS, "kim") == "row0"
    assert ReviewLeases(log).take(ROWS, "kim") == "row0"
    assert ReviewLeases(log).take(ROWS, "lee") == "row1"
    assert ReviewLeases(log).holders("row0") == ["kim"]
    ReviewLeases(log).release("row0", "kim")
    assert ReviewLeases(log).take(ROWS, "lee") == "row0"
    assert ReviewLeases(log).holders("row1") == []
    with sqlite3.connect(ReviewLeases(log).path) as database:
        database.execute("UPDATE leases SET until = 0")
    assert ReviewLeases(log).holders("row0") == []
    assert ReviewLeases(log).take(ROWS, "kim") == "row0"


def test_a_row_for_two_has_room_for_two(tmp_path):
    leases = ReviewLeases(tmp_path / "reviews.jsonl")
    assert [leases.take([("a", 2)], by) for by in ("kim", "lee", "park")] == ["a", "a", None]


def test_without_room_on_the_disk_people_can_read(tmp_path):
    leases = ReviewLeases(tmp_path / "nowhere" / "reviews.jsonl")
    assert leases.take(ROWS, "kim") == "row0"
    assert leases.holders("row0") == []
    leases.release("row0", "kim")
