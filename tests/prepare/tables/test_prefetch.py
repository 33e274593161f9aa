"""Prefetching threads: order, limits and errors are the same as without threads."""

import threading
from collections.abc import Iterator

from jangin.prepare.tables.csv import prefetch, thread_map


def test_results_come_in_order_however_long_each_takes():
    second = threading.Event()

    def slow_first(item: int) -> int:
        if item == 0:
            assert second.wait(100)
        second.set()
        return item * item

    assert list(thread_map(slow_first, range(50))) == [item * item for item in range(50)]


def test_only_a_few_items_are_in_flight():
    read = []

    def numbers():
        for item in range(100):
            read.append(item)
            yield item

    for item in thread_map(lambda n: n, numbers(), workers=2):
        assert len(read) <= item + 3


def taken_until(error: type[Exception], values: Iterator[int]) -> list[int]:
    taken = []
    while True:
        try:
            taken.append(next(values))
        except error:
            return taken


def test_an_error_of_a_worker_is_raised_where_its_result_would_have_been():
    values = thread_map(lambda item: 6 // (3 - item), range(10))
    assert taken_until(ZeroDivisionError, values) == [2, 3, 6]


def test_an_iterator_read_ahead_gives_every_item_and_its_error_at_its_place():
    def numbers():
        yield from range(5)
        raise ValueError("torn")

    assert taken_until(ValueError, prefetch(numbers())) == [0, 1, 2, 3, 4]
    assert list(prefetch(range(7))) == list(range(7))


def test_an_iterator_that_is_left_early_leaves_no_thread():
    before = set(threading.enumerate())
    source = prefetch(iter(range(1000)))
    assert next(source) == 0
    source.close()
    assert set(threading.enumerate()) <= before
