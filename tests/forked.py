"""Processes forked from what the tests import, before any test has run.

A fresh interpreter needs four seconds of CPU time to import torch and transformers. The fork server
is a fork of the test process made when the tests are collected: it has the imports and no threads,
so its own forks start at once and may use every library. They do not share what a test has set.
"""

import gc
import importlib
import json
import logging
import os
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest


class Server:
    """The test process's end of its fork server."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside xdist's thread
            self.pid = os.fork()
        if not self.pid:
            try:
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._socket, self._lines = ours, ours.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for the answer."""
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(self._lines.readline())

    def close(self) -> None:
        """End the server."""
        self._lines.close()
        self._socket.close()
        os.waitpid(self.pid, 0)


def _serve(connection: socket.socket) -> None:
    # Neither pytest's files nor xdist's pipes: who waits for their end would wait for this process.
    os.dup2(connection.fileno(), 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  open for good
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    stream = socket.socket(fileno=3)
    for line in stream.makefile("r", encoding="utf-8"):
        request = json.loads(line)
        if "poll" in request:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            for name in request.pop("preload"):
                _function(name)()
            answer = os.fork()
            if not answer:
                stream.close()
                os._exit(_run(**request))
        stream.sendall(json.dumps(answer).encode() + b"\n")


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _run(
    function: str, arguments: list[Any], folder: str, environment: dict[str, str], files: list[str]
) -> int:
    gc.freeze()  # or each collection would copy the pages of the server's objects
    os.setsid()  # the first terminal that it opens becomes its own
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    logging.getLogger().handlers.clear()  # those of pytest
    try:
        status = _function(function)(*arguments)
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # noqa: BLE001  as the interpreter would print it
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status or 0)


class Process:
    """A fork of the server: the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        server: Server,
        function: str,
        arguments: Iterable[Any] = (),
        *,
        output: Path | str,
        errors: Path | str = "",
        stdin: Path | str = os.devnull,
        preload: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._server, self._output, self.returncode = server, output, None
        Path(output).touch()  # it can be read before the fork has begun
        self.pid = server.ask(
            function=function,
            arguments=[str(each) if isinstance(each, Path) else each for each in arguments],
            folder=str(Path.cwd()),
            environment={**os.environ, **(environment or {})},
            files=[str(stdin), str(output), str(errors or output)],
            preload=list(preload),
        )

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ask(poll=self.pid)
        return self.returncode

    def has_ended(self, seconds: float) -> bool:
        """Wait for its end so long at most."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def wait(self, seconds: float = 100) -> int | None:
        """Its exit status at the end."""
        if not self.has_ended(seconds):
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"it runs longer than {seconds} s: {self.printed()}")
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9."""
        self.send_signal(signal.SIGKILL)

    def printed(self) -> str:
        """What it wrote so far."""
        return Path(self._output).read_text(encoding="utf-8", errors="replace")


def is_alive(process: int | str) -> bool:
    """True if a process runs; one that has ended may wait for its parent, as init here is slow."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_ended(processes: Iterable[int | str], seconds: float = 100) -> None:
    """Wait for processes that were killed: a kill returns before they have ended."""
    deadline = time.monotonic() + seconds
    for process in processes:
        while is_alive(process):
            assert time.monotonic() < deadline, f"process {process} runs"
            time.sleep(0.01)


def run_command(*arguments: str) -> None:
    """The `jangin` command."""
    from jangin.cli.main import main

    sys.argv = ["jangin", *arguments]
    main()


def run_script(*words: str) -> None:
    """A Python file with arguments, as `python FILE` runs it."""
    sys.argv = list(words)
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")


_servers: list[Server] = []


def start_server() -> None:
    """Fork the server of this test process; once, before any test."""
    if hasattr(os, "fork"):
        _servers.append(Server())


def stop_server() -> None:
    """End the server of this test process."""
    while _servers:
        _servers.pop().close()


def running_servers() -> tuple[Server, ...]:
    """The server of this test process, if it has one."""
    return tuple(_servers)


def fork_server() -> Server:
    """The server of this test process; skips the test where there is none."""
    if not _servers:
        pytest.skip("this system cannot fork")
    return _servers[0]


@pytest.fixture
def fork():
    """`fork("module:function", arguments, output=FILE)`: a process with what tests import."""
    server = fork_server()
    processes = []

    def start(*arguments, **named):
        processes.append(Process(server, *arguments, **named))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:  # a test failed before it ended it
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
