"""A limit for each page of a PDF: pdfium reads a page in one call, which nothing interrupts.

A form that draws itself twice keeps it busy until memory is gone. So the page is read in a process
that can end, in a thread, while another thread looks at what the page has taken.
"""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jangin.core.executor import Last
from jangin.core.reasons import Reason

PAGE_SECONDS = 60.0
"""CPU time of one page. Measured on policies of 129 and 190 pages: 0.09 at most."""
PAGE_BYTES = 2 << 30
"""Memory that one page may add to the process."""
LOOK_SECONDS = 0.25
"""Between two looks at what a page has taken."""


@dataclass(frozen=True, slots=True)
class SlowPage:
    """In place of a result: the page that took more than its limit."""

    number: int
    """From 1; 0 if the file could not even be opened within the limit."""


@dataclass(frozen=True, slots=True)
class _Begun:
    number: int
    seconds: float
    memory: int


_begun: list[_Begun] = []
"""The page that pdfium works on, in the thread that has opened the file."""


@contextmanager
def on_page(number: int) -> Iterator[None]:
    """A block in which pdfium works on page `number`, or opens the file (0)."""
    _begun.append(_Begun(number, time.process_time(), _resident()))
    try:
        yield
    finally:
        _begun.pop()


def limited(seconds: float, work: Callable[..., Any], *given: Any) -> Any:
    """What `work` returns or raises; a `Last` with `SlowPage` once a page takes too much.

    It is for a process that does nothing else and ends after a `Last`, with the thread that still
    reads the page. `seconds`: CPU time of a page.
    """
    done: Future[Any] = Future()
    threading.Thread(target=_settle, args=(done, partial(work, *given)), daemon=True).start()
    while not wait([done], LOOK_SECONDS).done:
        page = next(iter(_begun), None)
        if page is not None and (
            time.process_time() - page.seconds > seconds or _resident() - page.memory > PAGE_BYTES
        ):
            return Last(SlowPage(page.number))
    return done.result()


def too_much(key: str, *, seconds: float = PAGE_SECONDS, **values: Any) -> Reason:
    """The reason with this key for what took longer or more memory than a page may."""
    return Reason(key, seconds=seconds, size=PAGE_BYTES >> 30, **values)


def _settle(done: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  it is raised by the caller
        done.set_exception(error)


def _resident() -> int:
    """Bytes of memory that this process uses; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()
