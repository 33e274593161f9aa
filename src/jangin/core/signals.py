"""Ctrl-C while requests are under way."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Leave SIGINT and SIGTERM as they were, however the loop inside ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call `act`; nothing changes outside the main thread.

    It only takes its own handlers away: where a `KeyboardInterrupt` breaks off the loop, a
    coroutine may end as late as the garbage collector likes, when what it found is out of date.
    Giving back what was there before is for `restored_handlers`, around the loop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is never torn; the second one raises."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(_number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
