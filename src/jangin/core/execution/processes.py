"""Forks of a process that has imported what they need: its program, and what starts it.

A fork starts in milliseconds and shares the memory of what is imported. It is safe, as that process
has used no library yet: its only threads are those of memory allocators, which are prepared for
forks. The caller's process could not be forked: it may have both. Nor does the program import the
caller's `__main__`, as `multiprocessing` does: a script of a user need not be guarded against
running twice.
"""

import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

Task = Callable[[Any, int], int]
"""What a fork does with what it is given and a descriptor; returns the status of its process."""

END = "end"
END_SECONDS = 5.0
"""What a process that forks gets to end by itself."""


class ForkServer:
    """The process that forks, in a session of its own: Ctrl-C at the terminal is for the caller."""

    def __init__(self, prepare: Callable[[], Task], environment: Mapping[str, str]) -> None:
        """`prepare`: called once in that process before it forks; it is pickled."""
        packed = pickle.dumps(prepare)
        self._control, theirs = connected()
        self._is_ready = False
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603  this interpreter, our own file
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,
            )
        with suppress(OSError):  # it ended at once, as `is_ready` says
            self._control.send((sys.path, packed))

    def is_ready(self, seconds: float | None = None) -> bool:
        """Whether everything is imported after this time.

        Raises `EOFError` or `OSError` if the process has ended, or the error of `prepare`.
        """
        if not self._is_ready and wait([self._control], seconds):
            error = self._control.recv()
            if error is not None:
                raise unpacked_error(error)
            self._is_ready = True
        return self._is_ready

    def fork(self, given: Any, descriptor: int) -> int:
        """The id of a new process; raises `EOFError` or `OSError` if that which forks has ended."""
        self._control.send(given)
        send_handle(self._control, descriptor, None)
        process: int = self._control.recv()
        return process

    def status_of(self, process: int) -> int:
        """Status of a fork that has ended, as of `os.waitstatus_to_exitcode`; raises as `fork`."""
        self._control.send(process)
        status: int = self._control.recv()
        return status

    def finish(self) -> None:
        """Let the process end with its forks, for `END_SECONDS`."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._control.send(END)
            self.process.wait(END_SECONDS)

    def close(self) -> None:
        """End the process at once, and every fork in its process group."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._control.close()


def connected() -> tuple[Connection, Connection]:
    """Both ends of a connection, for processes of one machine."""
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


def main(descriptor: int) -> int:
    """Prepare, then fork and report how forks ended, until the caller closes; the status.

    The control connection receives (`sys.path`, pickled `prepare`) and answers with the packed
    error of `prepare` or None. After that it receives what a fork is given, followed by its
    descriptor, and answers with a process id; or the id of a process that has ended, and answers
    with its status; or `END`.
    """
    control = Connection(descriptor)
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)  # by allocators
    try:
        sys.path[:], packed = control.recv()
        try:
            task = pickle.loads(packed)()  # noqa: S301  from the process that started this one
        except Exception as error:  # noqa: BLE001  a module may raise anything when it is imported
            control.send(pack_error(error))
            return 1
        gc.freeze()  # else the first collection of each fork copies the memory of all imports
        control.send(None)
        started = _next_start(control)
    except (EOFError, OSError):
        # The caller has closed, or was killed: forks of this group would compute for no one.
        os.killpg(0, signal.SIGKILL)
        raise
    if started is not None:
        replace_thread_pool()
        status: int = task(*started)
        return status
    with suppress(ChildProcessError):
        while True:  # the CPU time of forks counts as that of children of the caller
            os.wait()
    return 0


def _next_start(control: Connection) -> tuple[Any, int] | None:
    """Answer requests; in a fork, what it is given and its descriptor, otherwise None at the end.

    Raises `EOFError` or `OSError` when the other side has closed or died.
    """
    while (request := control.recv()) != END:
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)
            control.send(os.waitstatus_to_exitcode(status))
            continue
        descriptor = recv_handle(control)
        os.set_inheritable(descriptor, False)  # a program that a fork starts must not hold it open
        process = os.fork()
        if not process:
            control.close()
            return request, descriptor
        os.close(descriptor)
        control.send(process)
    return None


def replace_thread_pool() -> None:
    """Give a fork a thread pool of torch of its own, where torch is imported.

    Torch does so at its first call after a fork; of two threads that make it at once, one can meet
    no pool at all ("pool INTERNAL ASSERT FAILED").
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(torch.get_num_threads())


def pack_error(error: Exception) -> bytes:
    """The error and its traceback, pickled; in place of one that cannot be, its text."""
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps((error, text))
        pickle.loads(packed)  # noqa: S301  some errors fail only here
    except Exception:  # noqa: BLE001  what its class raises for missing arguments
        return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), text))
    return packed


def unpacked_error(packed: bytes) -> Exception:
    """The error of another process, with the traceback that it had there."""
    error: Exception
    error, text = pickle.loads(packed)  # noqa: S301  from our own process
    error.add_note(f"In a worker process:\n{text}")
    return error


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
