"""Run a server in a process group of its own and end the group when standard input closes.

The process that started this one holds the other end of that pipe. However it ends, kill -9
included, the pipe closes, so no server outlives it on a GPU. Ray kills the children of a worker
that ends, but not theirs: so the pipe is watched by a child of this process. Run as a file, not as
a module: it imports nothing of jangin.

    python supervisor.py GRACE_SECONDS COMMAND...
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Start the command; end its group at the end of standard input or of the command."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    # A handler, because SIG_IGN would be inherited by the server.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    watcher = os.fork()
    if watcher:
        os.waitpid(watcher, 0)
        return
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  the user's own
    ended = threading.Event()

    def wait() -> None:
        status = server.wait()
        sys.stdout.write(f"the server ended with status {status}\n")
        sys.stdout.flush()
        ended.set()
        _end_group(server, 1.0)

    threading.Thread(target=wait, daemon=True).start()
    sys.stdin.buffer.read()
    if not ended.is_set():
        _end_group(server, grace)


def _end_group(server: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ask the whole group to end, then kill it, this process included."""
    os.killpg(0, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
