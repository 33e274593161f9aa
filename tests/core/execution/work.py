"""Work for executors: what workers import, so it imports little."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jangin.core.executor import Last


def double(number):
    return 2 * number


def process_of(_item):
    return os.getpid()


def scale(factor, number):
    return factor * number


class Counting:
    """Opened once in each worker."""

    def __init__(self, first=0):
        self.calls = first

    def __call__(self, _item):
        self.calls += 1
        return os.getpid(), self.calls


class Unopenable:
    def __init__(self):
        os._exit(7)

    def __call__(self, item):
        return item


class Refusing:
    def __init__(self):
        raise ValueError("no such model")


def ends(item):
    """Ends its process in the way that the item names, where it names one."""
    if item == "exit":
        os._exit(3)
    if item == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "sys.exit":
        sys.exit(0)
    return item


def dies_once(folder):
    """Ends its process the first time it gets this folder."""
    marker = Path(folder) / "tried"
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "done"


class TwoPartsError(Exception):
    """An error that pickles, but cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fails(item):
    if item == "value":
        raise ValueError("not a number")
    if item == "parts":
        raise TwoPartsError("one", "two")
    return item


def unpicklable(_item):
    return lambda: None


def large(count):
    return b"x" * count


def prints(item):
    print("from a worker")  # noqa: T201  what is tested
    return item


def variables(name):
    return os.environ.get(name)


def lingers(folder):
    """A worker with a program of its own, both of which last for minutes."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(200)"])
    path = Path(folder) / f"{os.getpid()}"
    path.with_suffix(".partial").write_text(f"{os.getpid()} {program.pid}")
    path.with_suffix(".partial").rename(path.with_suffix(".pids"))
    time.sleep(200)


def last(item):
    """(the process, the item) as the last result of the process."""
    return Last((os.getpid(), item))
