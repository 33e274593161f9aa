"""A process that has imported what jobs need, and forks one process for each job.

A fork starts in milliseconds and shares the memory of what is imported; a job in a fresh
interpreter spends seconds of CPU time on imports. Forks are safe, as this process uses no library:
its only threads are those of memory allocators, which are prepared for forks.
"""

import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

from jangin.core.execution.worker import replace_thread_pool
from jangin.training.preflight.libraries import load_libraries

READY = "ready"
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


def serve(control: Connection, run: Callable[[bytes, int], int]) -> int:
    """Fork until the other side closes; returns the status with which this process ends.

    `run` does a job, given the id of this process, and returns the status. Sends `READY` at once.
    Then receives (job, environment), followed by the descriptor of its log, and answers with a
    process id; or the id of a process that has ended, and answers with its status as of
    `os.waitstatus_to_exitcode`.
    In a fork, `serve` returns when its job has ended. Jobs whose parent ends, as this process does
    when the server closes or dies, save a checkpoint and end.
    """
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)  # by allocators
    gc.freeze()  # else the first collection of each fork copies the memory of all imports
    parent = os.getpid()
    try:
        control.send(READY)
        given, environment, log = _next_job(control)
    except (EOFError, ConnectionError):
        return 0
    control.close()
    _enter(environment, log)
    return run(given, parent)


def _next_job(control: Connection) -> tuple[bytes, dict[str, str], int]:
    """Answer requests; returns the job, environment and log of a fork, only in that fork.

    Raises `EOFError` or `ConnectionError` when the other side has closed or died.
    """
    while True:
        request = control.recv()
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)
            control.send(os.waitstatus_to_exitcode(status))
            continue
        given, environment = request
        log = recv_handle(control)
        process = os.fork()
        if not process:
            return given, environment, log
        os.close(log)
        control.send(process)


def _enter(environment: dict[str, str], log: int) -> None:
    """Make a fork the process of a job."""
    os.setsid()
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    replace_thread_pool()


def fork_when_asked(descriptor: int, run: Callable[[bytes, int], int]) -> int:
    """Import what every training needs, then `serve`."""
    logging.disable()  # libraries complain about packages that no job may need
    with suppress(ImportError):  # a job that needs it says in its own log what is missing
        load_libraries()
        for name in MODULES:
            importlib.import_module(name)
    logging.disable(logging.NOTSET)
    return serve(Connection(descriptor), run)
