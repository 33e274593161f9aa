"""The processes of `Local`, as a program: one imports the work, and its forks do it.

A fork starts in milliseconds and shares the memory of what is imported. It is safe, as this process
has no threads and has used no library yet. The caller's process could not be forked: it may have
both. Nor does this program import the caller's `__main__`, as `multiprocessing` does: a script of
a user need not be guarded against running twice.
"""

import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

FORK = "fork"
END = "end"


def main(descriptor: int) -> None:
    """Import the work, then fork workers and report how they ended, until the caller closes.

    The control connection receives (`sys.path`, pickled work) and answers with the error of the
    import or None. After that it receives `FORK`, followed by the socket of the worker, and answers
    with its process id; or the process id of a worker that has ended, and answers with its status
    as of `os.waitstatus_to_exitcode`; or `END`, when the sockets of all workers are closed.
    """
    control = Connection(descriptor)
    sys.path[:], packed = control.recv()
    try:
        work = pickle.loads(packed)  # noqa: S301  from the process that started this one
    except Exception as error:  # noqa: BLE001  a module may raise anything when it is imported
        control.send_bytes(pack_error(error))
        return
    control.send_bytes(pickle.dumps(None))
    gc.freeze()
    try:
        while True:
            request = control.recv()
            if request == END:
                break
            if request == FORK:
                _fork(control, work)
            else:
                _, status = os.waitpid(request, 0)
                control.send(os.waitstatus_to_exitcode(status))
    except (EOFError, OSError):
        # The caller has closed, or was killed: its workers would compute for no one.
        os.killpg(0, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:  # the CPU time of workers counts as that of children of the caller
            os.wait()


def _fork(control: Connection, work: Callable[..., Any]) -> None:
    descriptor = recv_handle(control)
    os.set_inheritable(descriptor, False)  # a program that the work starts must not hold it open
    process = os.fork()
    if process:
        os.close(descriptor)
        control.send(process)
        return
    status = 1
    try:
        control.close()
        replace_thread_pool()
        serve(Connection(descriptor), work)
        status = 0
    finally:
        os._exit(status)


def replace_thread_pool() -> None:
    """Give a fork a thread pool of torch of its own, where torch is imported.

    Torch does so at its first call after a fork; of two threads that make it at once, one can meet
    no pool at all ("pool INTERNAL ASSERT FAILED").
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(torch.get_num_threads())


def serve(connection: Connection, work: Callable[..., Any]) -> None:
    """Open the work, then answer each pickled item with (True, result) or (False, error, text).

    The first answer, without an item, is that the work is open; one with a `Last` is the last.
    """
    from jangin.core.executor import Last, opened

    try:
        call = opened(work)
        connection.send_bytes(pickle.dumps((True, None)))
    except Exception as error:  # noqa: BLE001  it is raised by the caller
        connection.send_bytes(pack_error(error))
        return
    while True:
        try:
            item = connection.recv_bytes()
        except (EOFError, OSError):
            return
        is_last = False
        try:
            result = call(pickle.loads(item))  # noqa: S301  as above
            is_last = isinstance(result, Last)
            answer = pickle.dumps((True, result))
        except Exception as error:  # noqa: BLE001  it is raised by the caller
            answer = pack_error(error)
        connection.send_bytes(answer)
        if is_last:
            return


def called(request: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    """What a function returns for these arguments: the work of a process that is kept."""
    function, given = request
    return function(*given)


def pack_error(error: Exception) -> bytes:
    """(False, the error, its traceback), pickled; in place of one that cannot be, its text."""
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps((False, error, text))
        pickle.loads(packed)  # noqa: S301  some errors fail only here
    except Exception:  # noqa: BLE001  what its class raises for missing arguments
        replacement = RuntimeError(f"{type(error).__name__}: {error}")
        return pickle.dumps((False, replacement, text))
    return packed


if __name__ == "__main__":
    main(int(sys.argv[1]))
