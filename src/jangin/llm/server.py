"""A vLLM server in a process group of its own: started on a free port, watched, stopped."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Added, Advanced, Config, Runtime
from jangin.core.errors import ChatError, MachineError
from jangin.core.store import disk_errors

if TYPE_CHECKING:
    import aiohttp


GRACE_SECONDS = 10.0
"""How long a server may take to end before it is killed."""
POLL_SECONDS = 0.25
LAST_LINES = 12
"""Lines of the log that an error shows."""
LOOPBACK = "127.0.0.1"
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
KEY_VARIABLE = "VLLM_API_KEY"
"""Variable from which vLLM takes the key that requests need."""
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables of our own environment that would mislead the interpreter of another one."""


@dataclass(frozen=True, slots=True)
class ModelToServe:
    """What a server is started on."""

    weights: str
    """Model folder, or id on the hub."""
    tokenizer: str
    """Folder with tokenizer and chat template."""
    revision: str | None = None
    """Commit of a hub model."""
    runs_code: bool = False
    """Whether the model brings Python code of its own, which may run."""

    def command(
        self,
        python: Path,
        name: str,
        port: int,
        arguments: Sequence[str],
        host: str = LOOPBACK,
    ) -> list[str]:
        """Command line of vLLM's OpenAI-compatible server.

        `--generation-config vllm` takes the stop tokens of the model and leaves its sampling
        defaults, such as a repetition penalty, which our own decoding does not apply either.
        """
        options = {
            "--model": self.weights,
            "--tokenizer": self.tokenizer,
            "--served-model-name": name,
            "--host": host,
            "--port": str(port),
            "--generation-config": "vllm",
        }
        if self.revision is not None:
            options["--revision"] = self.revision
        flat = [part for pair in options.items() for part in pair]
        flat += ["--trust-remote-code"] if self.runs_code else []
        return [str(python), "-m", "vllm.entrypoints.openai.api_server", *flat, *arguments]


@dataclass(slots=True)
class ModelServer:
    """One server process. `stop` is safe to call at any time, more than once."""

    command: Sequence[str]
    port: int
    log: Path
    """Gets everything that the server prints."""
    host: str = LOOPBACK
    """Address on which it listens."""
    key: str = field(default="", repr=False)
    """What it asks each request for; empty: nothing."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        """URL for requests."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def is_running(self) -> bool:
        """False before `start`, and after the server ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self, name: str, seconds: float) -> Sequence[str]:
        """Start the server and wait until it is healthy and serves `name`; its URL.

        Raises: ChatError: it ended, or is not healthy after `seconds`; with the last lines of its
        log. StoreError: the log cannot be written. On every error the server is stopped.
        """
        with disk_errors(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            stream = self.log.open("wb")
        with stream:
            # Popen does not block, and asyncio would lose the process with its loop.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  the user's own interpreter
                [sys.executable, "-I", str(_SUPERVISOR), str(GRACE_SECONDS), *self.command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                # Ctrl-C reaches this process only, which then stops the server.
                start_new_session=True,
            )
        try:
            await self._wait_until_healthy(name, time.monotonic() + seconds, seconds)
        except BaseException:
            self.stop()
            raise
        return [self.base_url]

    def _environment(self) -> dict[str, str]:
        theirs = {key: value for key, value in os.environ.items() if key not in _OURS}
        # Not as an argument, which every user of the machine could read.
        return theirs | ({KEY_VARIABLE: self.key} if self.key else {})

    async def _wait_until_healthy(self, name: str, deadline: float, seconds: float) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                if not self.is_running:
                    raise ChatError(
                        f"the vLLM server ended before it was ready. {self.last_lines()}"
                    )
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    if await self._is_healthy(session, name):
                        return
                if time.monotonic() > deadline:
                    raise ChatError(
                        f"the vLLM server was not ready after {seconds:g} s. Raise "
                        f"`engine: start_seconds`, or see its log. {self.last_lines()}"
                    )
                await asyncio.sleep(POLL_SECONDS)

    async def _is_healthy(self, session: "aiohttp.ClientSession", name: str) -> bool:
        """Whether this port answers, and with our model: another process may have taken it."""
        async with session.get(f"http://{self.host}:{self.port}/health") as response:
            if response.status != 200:
                return False
        guard = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        async with session.get(f"{self.base_url}/models", headers=guard) as response:
            served = await response.json(content_type=None)
        return any(row.get("id") == name for row in served.get("data", ()))

    def stop(self) -> None:
        """End the server and everything that it started."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()  # the supervisor ends the group
        try:
            process.wait(GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def last_lines(self) -> str:
        """The end of the log, and where it is."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        shown = [f"    {line[:300]}" for line in lines if line.strip()][-LAST_LINES:]
        return "\n".join([f"The last lines of {self.log}:", *(shown or ["    (it is empty)"])])


def free_port(host: str = LOOPBACK) -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


# Settings of an inference engine, which `evaluate`, `preferences` and teachers share.


CHECK_SECONDS = 60.0
"""How long an interpreter may take to look for vLLM."""


class LocalEngine(Config):
    """The engine of this process."""

    type: Literal["local"] = "local"


class VllmEngine(Config):
    """A vLLM server, started on the model's weights, asked and stopped.

    vLLM is installed in a virtual environment of its own.
    """

    type: Literal["vllm"]
    python: Runtime[Path]
    """Interpreter of the virtual environment with vLLM, such as `/opt/vllm/bin/python`; relative
    to the project file."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`, such as `[--max-model-len, "4096"]`. They are part of what
    identifies an answer."""
    start_seconds: Runtime[float] = Field(default=900.0, gt=0)
    """How long the server may take to load the model."""
    concurrency: Runtime[int] = Field(default=64, ge=1, le=512)
    """Number of requests in flight at once."""
    timeout_seconds: Runtime[Advanced[float]] = Field(default=600.0, gt=0)
    """How long one request may take."""

    def interpreter(self, project_folder: Path) -> Path:
        """Path of the interpreter.

        Raises: MachineError: there is none, or vLLM is not installed there.
        """
        path = project_folder / self.python.expanduser()
        if not path.is_file():
            raise MachineError(
                f"there is no interpreter at {path}, where `engine: python` looks for vLLM. "
                "Install vLLM in a virtual environment of its own and set the path of its python."
            )
        look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        try:
            result = subprocess.run(  # noqa: S603  the user's own interpreter
                [str(path), "-c", look], check=False, capture_output=True, timeout=CHECK_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(
                f"{path} does not run: {error}. Set `engine: python` to the interpreter of the "
                "virtual environment with vLLM."
            ) from error
        if result.returncode:
            raise MachineError(
                f"vLLM is not installed for {path}. Install it there, with: {path} -m pip install "
                "vllm, or set `engine: {type: local}`."
            )
        return path


class EndpointEngine(Config):
    """A server that runs already and serves the project's models."""

    type: Literal["endpoint"]
    base_url: Runtime[str]
    """URL up to and including `/v1`."""
    models: dict[str, str]
    """{`base`, `sft` or `tuned`: name of that model at the endpoint}. jangin cannot see which
    weights are served, so serve new ones after each training."""
    parameters: Added[dict[str, Any]] = Field(default={})
    """Further fields of each request, such as `{chat_template_kwargs: {enable_thinking: false}}`
    for a server with another chat template than that of the model's artifact, in which `thinking`
    of the base is set already."""
    key_variable: Runtime[str] = ""
    """Name of the environment variable with the API key; empty if none is needed."""
    concurrency: Runtime[int] = Field(default=64, ge=1, le=512)
    """Number of requests in flight at once."""
    timeout_seconds: Runtime[Advanced[float]] = Field(default=600.0, gt=0)
    """How long one request may take."""


LOCAL = LocalEngine()
Engine = Annotated[LocalEngine | VllmEngine | EndpointEngine, Field(discriminator="type")]
