"""The process that sends to one tracker: python -m jangin.project.tracking.worker STORE SETTINGS.

It looks at the store every few seconds until its standard input ends, sends the rest and exits.
Each line that it writes is a message for the user. All that a tracker's client prints goes to
standard error. So a tracker can block, fail or end the process, and training continues.
"""

import contextlib
import os
import select
import sys
from pathlib import Path

from jangin.project.tracking.outbox import Outbox
from jangin.project.tracking.table import read_config

_SECONDS = 2.0
_NICENESS = 10


def main() -> None:
    """Send until standard input ends, then once more; exit code 1 if something is left."""
    store, settings = Path(sys.argv[1]).resolve(), sys.argv[2]
    with contextlib.suppress(OSError):  # some containers do not allow it
        os.nice(_NICENESS)
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def notify(text: str) -> None:
        messages.write(f"{text}\n")
        messages.flush()

    outbox = Outbox(store, read_config(settings), notify)
    while not _input_ended(_SECONDS):
        outbox.sync()
    complete = outbox.sync(last=True)
    # Not by sys.exit: clients wait in exit handlers for a server that may be gone.
    sys.stderr.flush()
    os._exit(0 if complete else 1)


def _input_ended(seconds: float) -> bool:
    """Wait up to this many seconds for the end of standard input."""
    readable, _, _ = select.select([0], [], [], seconds)
    return bool(readable) and not os.read(0, 1024)


if __name__ == "__main__":
    main()
