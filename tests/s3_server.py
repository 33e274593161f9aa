"""Moto's S3 server in a process of its own, behind a relay that breaks it in several ways."""

import os
import re
import select
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.shared import free_port

MOTO = os.environ.get("JANGIN_S3", "")
"""Environment that has moto; empty outside `make test-s3`."""
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Endpoint:
    """Moto behind a relay, which can be cut."""

    def __init__(self, port):
        self.cut_after = None
        """Bytes from clients after which connections are closed; None for never."""
        self.ignores_conditions = False
        """True: the server does not learn of If-Match and If-None-Match."""
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client):
        with suppress(ConnectionError), client, socket.create_connection(self._target) as target:
            while True:
                ready = select.select([client, target], [], [], 0.05)[0]
                if self.cut_after is not None and self.cut_after <= 0:
                    return
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is client and self.ignores_conditions:
                        data = re.sub(rb"(?i)\r\nif-(none-match|match):", rb"\r\nno-\1:", data)
                    (target if source is client else client).sendall(data)
                    if source is client and self.cut_after is not None:
                        self.cut_after -= len(data)

    @contextmanager
    def away(self, after=0):
        """Cut after this number of bytes from clients."""
        self.cut_after = after
        try:
            yield
        finally:
            self.cut_after = None


@contextmanager
def moto_server(log_folder):
    """An `Endpoint`."""
    port = free_port()
    log = (log_folder / "log").open("wb")
    command = [Path(MOTO) / "bin" / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        patience = time.monotonic() + 200
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < patience
                time.sleep(0.1)
        yield Endpoint(port)
        process.terminate()
