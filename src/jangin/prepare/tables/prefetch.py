"""Compute the next item in a thread while the caller works on the current one.

Useful for work that releases the interpreter lock, as files, polars, numpy and hashing do; plain
Python code gains nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = 2


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS
) -> Iterator[Result]:
    """`map` in threads: results in order, at most `workers + 1` of them pending.

    The items are read in the caller's thread, and errors of `function` are raised there, too.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """The items in order; a thread reads the next one while the caller has the current one."""
    source = iter(items)

    def next_item() -> list[Item]:
        """One item, or an empty list at the end."""
        return list(islice(source, 1))

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next_item)
        while batch := pending.result():
            pending = pool.submit(next_item)
            yield batch[0]
