"""`fork_program` for tests: the job is a line of Python, and nothing has to be imported for it."""

import sys
from multiprocessing.connection import Connection

from jangin.serving.operations.fork_program import serve


def run(job, parent):
    exec(job, {"parent": parent})
    return 0


if __name__ == "__main__":
    sys.exit(serve(Connection(int(sys.argv[1])), run))
