"""Real servers for tests, on free loopback ports: in a thread, or `jangin serve` as a process."""

import functools
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import openai

from jangin.serving.run import Process, listen
from jangin.serving.state.server import Server, create_folder
from jangin.serving.state.settings import SQLITE_FILE, read_settings
from tests.serving.forked import Serving

ANY_KEY = "sk-any"


class Running:
    """A server that answers: `url` ends in /v1, `server` is its `Server`."""

    def __init__(self, server, url):
        self.server = server
        self.url = url
        self._clients = []

    @property
    def root(self):
        return self.url.removesuffix("/v1")

    def client(self, key=ANY_KEY, **options):
        """The official SDK, without retries unless asked for."""
        options = {"max_retries": 0, "timeout": 100, **options}
        client = openai.OpenAI(base_url=self.url, api_key=key, **options)
        self._clients.append(client)
        return client

    def close_clients(self):
        for client in self._clients:
            client.close()


@functools.cache
def new_database():
    """The file that the migrations make in a new folder: they take half the time of a start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Server(read_settings(None, folder=folder)).close()
        return (folder / SQLITE_FILE).read_bytes()


@contextmanager
def run_server(folder, settings=None, **options):
    """A running server; `options` are fields of `ServerSettings`, `settings` a server.yaml."""
    options = {"folder": folder, "port": 0, "min_examples": 1, "warm_up": False, **options}
    settings = read_settings(settings, **options)
    if settings.is_new:
        create_folder(settings)
        (settings.folder / SQLITE_FILE).write_bytes(new_database())
    server = Server(settings)
    listening = listen(server.settings)
    running = Running(server, f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    process = Process(server)
    thread = threading.Thread(target=process.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not process.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield running
    finally:
        running.close_clients()
        server.stopping.set()
        process.should_exit = True
        thread.join(timeout=100)
        listening.close()
        server.close()
        assert not thread.is_alive(), "the server did not stop"


run_workbench = functools.partial(run_server, workbench=True)
"""As `run_server`, with the pages."""


@contextmanager
def spawn_server(folder, *words, fresh=False, workbench=False):
    """(process, url) of `jangin serve`, killed at the end unless it has stopped.

    It is a fork of the tests, or the command in a `fresh` interpreter; `workbench`: with the pages.
    """
    words = ["--port", "0", "--folder", folder, *words]
    if workbench:
        settings = Path(folder).with_name("workbench.yaml")
        settings.write_text("workbench: true\n")
        words += ["--models", settings]
    command = [sys.executable, "-m", "jangin.cli.main", "serve", *words]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if fresh else Serving(words)
    ) as process:
        try:
            name, _, url = process.stdout.readline().strip().partition("=")
            assert name == "OPENAI_BASE_URL"
            yield process, url
        finally:
            process.kill()
