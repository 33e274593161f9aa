"""Turn Ctrl-C into a clean stop, for asyncio and for the training loop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` that also works inside a running event loop, such as that of a notebook.

    The outer loop is blocked meanwhile. The work stays in the calling thread, where it can use
    the ledger and where Ctrl-C arrives.
    """
    try:
        outer = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    task = asyncio.current_task(outer)
    if task is not None:
        asyncio.tasks._leave_task(outer, task)
    asyncio._set_running_loop(None)
    try:
        return asyncio.run(work)
    finally:
        asyncio.set_event_loop(outer)
        asyncio._set_running_loop(outer)
        if task is not None:
            asyncio.tasks._enter_task(outer, task)


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM at the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {which: signal.getsignal(which) for which in STOPPING}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Make SIGINT and SIGTERM call `act`; has no effect outside the main thread.

    It only removes its own handlers: when a `KeyboardInterrupt` ends the loop, a coroutine may
    finish as late as garbage collection, when the handlers it saw before are out of date.
    `restored_handlers`, around the loop, restores those.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for which in STOPPING:
        loop.add_signal_handler(which, act)
    try:
        yield
    finally:
        for which in STOPPING:
            loop.remove_signal_handler(which)


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """Event set by the first Ctrl-C, so that the current step finishes.

    Raises:
        KeyboardInterrupt: On the second Ctrl-C.

    """
    stop_requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def on_signal(_number: int, _frame: object) -> None:
        if stop_requested.is_set():
            raise KeyboardInterrupt
        stop_requested.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop_requested
    finally:
        signal.signal(signal.SIGINT, before)


class _TerminatedError(BaseException):
    """SIGTERM arrived; like `KeyboardInterrupt`, no `except Exception` stops it."""


@contextmanager
def closed_before_sigterm() -> Iterator[None]:
    """Let SIGTERM leave the block as Ctrl-C does, and only then end the process.

    Without this the process ends at once, and nothing in the block is closed. It has no effect
    outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: object) -> None:
        raise _TerminatedError

    before, arrived = signal.signal(signal.SIGTERM, leave), False
    try:
        yield
    except _TerminatedError:
        arrived = True
    finally:
        signal.signal(signal.SIGTERM, before)
    if arrived:
        signal.raise_signal(signal.SIGTERM)
