"""Processes of jobs: forks of a process that has imported what they need."""

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import IO

from jangin.core.execution.processes import ForkServer, Task

IDLE_SECONDS = 600
"""The process that forks ends when no job has run for this long: its imports take memory."""
LOST = -1
"""Exit status of a process whose own is unknown: the process that forked it ended first."""
MODULES = (
    "jangin.models.starter",
    "jangin.models.tokens.preview",
    "jangin.text.dedup.components",
    "jangin.training.distributed.fit",
    "jangin.training.dpo",
    "jangin.training.objectives.sft",
    "jangin.training.sft",
)
"""What jobs import where they need it."""


class JobProcesses:
    """Starts forks of one process, which begins with the first job and again after its end.

    Used by one thread at a time. Jobs whose parent ends, as it does when the server closes or dies,
    save a checkpoint and end.
    """

    def __init__(
        self, module: str = "jangin.serving.jobs.worker", imports: tuple[str, ...] = MODULES
    ) -> None:
        """`module`: its `run` does a job, given the id of its parent, and returns the status."""
        self._prepare = partial(_prepared, module, imports)
        self._server: ForkServer | None = None
        self._resting_since: float | None = None

    def is_ready(self) -> bool:
        """Whether `start` would not wait; begins with what it would wait for."""
        return self._is_ready(0)

    def start(
        self, given: bytes, environment: Mapping[str, str], output: IO[bytes]
    ) -> "JobProcess":
        """A process that trains the job `given` and writes to `output`; raises `OSError`."""
        if not self._is_ready(None) or self._server is None:
            raise OSError("the process that forks jobs ended")
        try:
            process = self._server.fork((given, dict(environment)), output.fileno())
        except EOFError as error:
            self.close()
            raise OSError("the process that forks jobs ended") from error
        return JobProcess(process, self._server)

    def rest(self) -> None:
        """No job runs or waits now: the process that forks ends after a while."""
        now = time.monotonic()
        self._resting_since = since = self._resting_since or now
        if self._server is not None and now - since > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """No job will run any more; those that run have ended."""
        server, self._server = self._server, None
        if server is not None:
            server.finish()
            server.close()  # if it still imports

    def _is_ready(self, seconds: float | None) -> bool:
        self._resting_since = None
        if self._server is None or self._server.process.poll() is not None:
            self.close()
            self._server = ForkServer(self._prepare, os.environ)
        with suppress(EOFError, OSError):  # it ended before it was ready
            return self._server.is_ready(seconds)
        return False


class JobProcess:
    """A fork of another process, which alone learns its status."""

    def __init__(self, pid: int, server: ForkServer) -> None:
        """Raises `OSError` where the process is gone, and so is its parent."""
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
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
                self.returncode = self._server.status_of(self.pid)
            except (EOFError, OSError):
                self.returncode = LOST
        return self.returncode


def _prepared(module: str, imports: tuple[str, ...]) -> Task:
    """Import what every training needs; returns what does a job."""
    from jangin.training.preflight.libraries import load_libraries

    logging.disable()  # libraries complain about packages that no job may need
    run = importlib.import_module(module).run
    with suppress(ImportError):  # a job that needs it says in its own log what is missing
        load_libraries()
        for name in imports:
            importlib.import_module(name)
    logging.disable(logging.NOTSET)
    return partial(_do, run, os.getpid())


def _do(
    run: Callable[[bytes, int], int], parent: int, job: tuple[bytes, Mapping[str, str]], log: int
) -> int:
    """Make a fork the process of a job, and do it."""
    given, environment = job
    os.setsid()
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    return run(given, parent)
