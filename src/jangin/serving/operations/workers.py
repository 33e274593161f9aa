"""Processes of jobs: forks of a process that has imported what they need, or fresh interpreters."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import IO, Protocol

log = logging.getLogger("jangin.serving.jobs")

IDLE_SECONDS = 600
"""The process that forks ends when no job has run for this long: its imports take memory."""
END_SECONDS = 5
LOST = -1
"""Exit status of a process whose own is unknown: the process that forked it ended first."""


class WorkerProcess(Protocol):
    """The part of `subprocess.Popen` that the queue of jobs needs."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """Status of the end, as last seen by `poll` or `wait`."""
        ...

    def poll(self) -> int | None:
        """Status of the end; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int | None:
        """Status of the end, when it has come; raises `subprocess.TimeoutExpired`."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Workers(Protocol):
    """How processes of jobs are started; used by one thread at a time."""

    def is_ready(self) -> bool:
        """Whether `start` would not wait; begins with what it would wait for."""
        ...

    def start(
        self, given: bytes, environment: Mapping[str, str], output: IO[bytes]
    ) -> WorkerProcess:
        """A process that trains the job `given` and writes to `output`; raises `OSError`."""
        ...

    def rest(self) -> None:
        """No job runs or waits now."""
        ...

    def close(self) -> None:
        """No job will run any more; those that run have ended."""
        ...


class FreshWorkers:
    """A new interpreter for each job, for systems where forks are not safe."""

    def is_ready(self) -> bool:
        """Always."""
        return True

    def start(
        self, given: bytes, environment: Mapping[str, str], output: IO[bytes]
    ) -> WorkerProcess:
        """`python -m jangin.serving.jobs.worker`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "jangin.serving.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the server, which stops its workers itself
        )
        assert process.stdin is not None  # noqa: S101  it is a pipe
        try:
            with process.stdin as pipe:
                pipe.write(given)
        except BrokenPipeError:
            log.warning("process %d ended before it read its job", process.pid)
        return process

    def rest(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""


class ForkedWorkers:
    """Forks of one process, which is started for the first job and again after its end."""

    def __init__(self, program: str = "jangin.serving.jobs.worker") -> None:
        """`program`: the module that is started, with the descriptor of its connection."""
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self._ready = False
        self._resting_since: float | None = None

    def is_ready(self) -> bool:
        """Whether everything is imported."""
        self._resting_since = None
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._begin()
        return self._ready or self._becomes_ready(0)

    def start(
        self, given: bytes, environment: Mapping[str, str], output: IO[bytes]
    ) -> WorkerProcess:
        """A fork, as soon as everything is imported."""
        if not self.is_ready() and not self._becomes_ready(None):
            raise OSError("the process that forks jobs ended")
        assert self._control is not None  # noqa: S101  it is ready
        try:
            self._control.send((given, dict(environment)))
            send_handle(self._control, output.fileno(), None)
            return ForkedProcess(self._control.recv(), self._control)
        except EOFError as error:
            self.close()
            raise OSError("the process that forks jobs ended") from error

    def rest(self) -> None:
        """End the process that forks, after a while."""
        now = time.monotonic()
        self._resting_since = since = self._resting_since or now
        if self._process is not None and now - since > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """End the process that forks."""
        process, self._process, self._ready = self._process, None, False
        if self._control is not None:
            self._control.close()
        if process is not None:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:  # it still imports
                process.kill()
                process.wait()

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  this interpreter, our own module
                [sys.executable, "-m", self._program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        self._control = Connection(ours.detach())

    def _becomes_ready(self, seconds: float | None) -> bool:
        assert self._control is not None  # noqa: S101  it was begun
        if wait([self._control], seconds):
            with suppress(EOFError, OSError):  # it ended before it was ready
                self._control.recv()
                self._ready = True
        return self._ready


class ForkedProcess:
    """A fork of another process, which alone learns its status."""

    def __init__(self, pid: int, control: Connection) -> None:
        """Raises `OSError` where the process is gone, and so is its parent."""
        self.pid = pid
        self.returncode: int | None = None
        self._control = control
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Status of the end; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Status of the end, when it has come."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, sig)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and wait([self._descriptor], seconds):
            os.close(self._descriptor)
            try:
                self._control.send(self.pid)
                self.returncode = self._control.recv()
            except (EOFError, OSError):
                self.returncode = LOST
        return self.returncode


def new_workers() -> Workers:
    """What starts the processes of jobs on this system."""
    return ForkedWorkers() if hasattr(os, "pidfd_open") else FreshWorkers()
