"""`jangin serve` in a process of its own."""

import os
import signal
import time
from contextlib import contextmanager

import openai

from tests.serving.forked import LIBRARIES, Hold, Serving, workers_of


class ServerProcess:
    """A server in a process of its own, which can be killed and started again."""

    def __init__(self, folder, settings, name="server"):
        self.folder, self.settings = folder, folder / f"{name}.yaml"
        self.settings.write_text(settings)
        self.hold = Hold(folder / "data")
        self.start()

    def start(self):
        words = ["--port", "0", "--folder", self.folder / "data", "--models", self.settings]
        self.process = Serving(words, self.settings.with_suffix(".log"), [LIBRARIES])
        url = next(
            line.partition("=")[2].strip()
            for line in self.process.stdout
            if line.startswith("OPENAI_BASE_URL=")
        )
        self.client = openai.OpenAI(base_url=url, api_key="x", max_retries=8, timeout=60)

    @property
    def worker(self):
        """Process id of the worker; waits for it."""
        patience = time.monotonic() + 100
        while not (children := workers_of(self.process.pid)):
            assert time.monotonic() < patience, "there is no worker"
            time.sleep(0.02)
        return children[0]

    def kill_worker(self):
        """Kill -9 the worker, and wait until the server has noticed."""
        worker, patience = self.worker, time.monotonic() + 100
        os.kill(worker, signal.SIGKILL)
        while worker in workers_of(self.process.pid):
            assert time.monotonic() < patience, "the worker does not end"
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.client.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(100)
        self.process.stdout.close()
        self.client.close()


@contextmanager
def server_process(folder, settings):
    """A server with this server.yaml, stopped at the end."""
    folder.mkdir(exist_ok=True)
    server = ServerProcess(folder, settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
