"""Two things at once, in order and with bounded memory, by threads.

For work that frees the interpreter: files, polars, numpy and digests do so, plain Python does not.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = 2


def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS
) -> Iterator[Result]:
    """`map` in threads: results in order, one more item in flight than there are workers.

    The items are drawn in the caller's thread, where an error of the function is raised too.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items in order, the next one made in a thread while the caller has the one before."""
    source = iter(items)

    def following() -> list[Item]:
        return list(islice(source, 1))

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(following)
        while found := waiting.result():
            waiting = pool.submit(following)
            yield found[0]
