"""Start and stop runs: each is a process of its own, which a restart of the server leaves alone."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from jangin.core.errors import StoreError
from jangin.core.store import disk_errors
from jangin.project.tracking.run_record import (
    FOLDER,
    add_line,
    create_record,
    find_run,
    first_state,
    hold,
    live_runs,
    new_token,
    now_line,
    write_first_state,
)
from jangin.serving.pages.runs.worker import Order
from jangin.serving.pages.visit import PageError

LOGS = "runs"
"""Folder of the server with what the processes printed."""
STOP = "stop"
"""File in the record of a run whose stop was requested."""


class Runs:
    """Starts and stops runs of one store, one at a time."""

    def __init__(self, server_folder: Path) -> None:
        """`server_folder`: the logs of the processes are in there."""
        self.logs = server_folder / LOGS
        self._lock = threading.Lock()

    def start(
        self, project: Path, last: str = "", variant: str = "", *, retry_failed: bool = False
    ) -> str:
        """Start a run of a project file, up to stage `last`; returns its token.

        Raises:
            PageError: a run of this store lasts.
            StoreError: the store or the folder of the logs cannot be written.

        """
        order = Order(
            token=new_token(),
            project=project.absolute(),
            last=last,
            variant=variant,
            retry_failed=retry_failed,
        )
        with self._lock:
            if live_runs(order.store):
                raise PageError(400, "runs_one_at_a_time")
            folder = order.store / FOLDER / order.token
            with disk_errors(folder):
                create_record(folder)
                self.logs.mkdir(parents=True, exist_ok=True)
            with hold(folder) as lock:
                process = self._spawn(order, lock.fileno())
                about = {"variants": (variant,) if variant else (), "last": last}
                state = first_state("starting", retry_failed=retry_failed, **about)
                write_first_state(folder, state.model_copy(update={"process": process.pid}))
        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie
        return order.token

    def _spawn(self, order: Order, lock: int) -> "subprocess.Popen[bytes]":
        module = "jangin.serving.pages.runs.worker"
        paths = os.pathsep.join(filter(None, sys.path))
        with self.log_of(order.token).open("ab") as log:
            try:
                return subprocess.Popen(  # noqa: S603  our own module
                    [sys.executable, "-m", module, order.model_dump_json()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=order.project.parent,
                    env=os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                    pass_fds=(lock,),  # the process holds the lock of its record from the start
                    start_new_session=True,
                )
            except OSError as error:
                raise StoreError(f"the run could not be started: {error.strerror}.") from error

    def log_of(self, token: str) -> Path:
        """What the process of a run printed; not there for runs of a terminal."""
        return self.logs / f"{token}.log"


def stop(store: Path, token: str) -> None:
    """Stop a run as Ctrl-C does: a training saves a checkpoint at its next step.

    A second call stops it at once. Raises `PageError` where it does not run.
    """
    run = find_run(store, token)
    if run is None or not run.alive:
        raise PageError(400, "runs_not_running")
    try:
        os.kill(run.state.process, signal.SIGINT)
    except (ProcessLookupError, PermissionError) as error:
        raise PageError(400, "runs_cannot_stop", process=str(run.state.process)) from error
    (run.folder / STOP).touch()
    add_line(run.folder, now_line("stopping"))


def is_stopping(folder: Path) -> bool:
    """True for a run whose stop was requested from a page."""
    return (folder / STOP).exists()
