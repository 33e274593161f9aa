"""Work for the nodes; at the top of a module, as `Executor.map` wants it."""

import os
import signal
import time
from pathlib import Path

from jangin.core.errors import DataError
from jangin.core.execution.nodes import own_address


def square(number):
    time.sleep(0.004)
    return number * number


class Squares:
    def __init__(self, refused=-1):
        self.refused = refused

    def __call__(self, number):
        return square(number)


def kills_itself(number):
    if number == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


class KillsItself(Squares):
    def __call__(self, number):
        return kills_itself(number)


class UnpicklableError(Exception):
    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


def refuse(number):
    if number == 3:
        raise DataError("row 3 is empty. Fill it.")
    if number == 5:
        raise UnpicklableError("row 5", "odd")
    return number


def write_slowly(job):
    """One file per call, so that a test sees what was done."""
    number, folder = job
    time.sleep(0.03)
    with (Path(folder) / f"{number}-{os.getpid()}").open("x") as stream:
        stream.write(str(number))
    return number


def nothing(item):
    return item


class Nothing:
    def __call__(self, item):
        return item


def copy_backwards(folder, path):
    content = path.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path.name).write_bytes(content[::-1])
    return f"{own_address()} {len(content)}"
