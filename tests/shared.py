"""Folders that are made once for all processes of a test session, such as trained models."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` has filled, in this process or in another of the same session.

    It is only read afterwards: other tests look at the same files.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder = session / f"shared-{name}"
    with (session / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = session / f"shared-{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a `make` that failed
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder
