"""A process that forks, for tests: a job is a line of Python, for which nothing is imported."""

import sys
from multiprocessing.connection import Connection

from jangin.serving.operations.forks import serve


def run(job, parent):
    exec(job, {"parent": parent})
    return 0


if __name__ == "__main__":
    sys.exit(serve(Connection(int(sys.argv[1])), run))
