"""Run a server until Ctrl-C or SIGTERM."""

import socket
import sys
from collections.abc import Callable
from contextlib import closing
from types import FrameType

import uvicorn

from jangin.core.errors import MachineError
from jangin.core.execution.signals import closed_before_sigterm
from jangin.serving.app import create_app
from jangin.serving.jobs.scheduler import STOP_SECONDS, Scheduler
from jangin.serving.models.registry import advice_without_models, project_models, short_name
from jangin.serving.operations.logs import configure
from jangin.serving.security.keys import all_keys, refuse_without_keys
from jangin.serving.security.limits import limited
from jangin.serving.state.leases import sole_server
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings

BACKLOG = 2_048
"""Connections that may wait to be accepted."""
SWITCH_SECONDS = 0.0005
"""How long a thread that computes keeps Python's interpreter while a reply waits for it."""
GRACE_SECONDS = 30
"""How long open requests may take to end after the signal."""


class Process(uvicorn.Server):
    """uvicorn, which tells the server at once that it is about to stop.

    Requests in progress are answered first; streams without an end look at `Server.stopping`.
    """

    def __init__(
        self,
        server: Server,
        when_ready: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Prepare to serve.

        `run` calls `when_ready` as soon as requests are answered, and `say` with a line for whoever
        stops the server.
        """
        super().__init__(
            uvicorn.Config(
                create_app(server),
                log_config=None,
                access_log=False,
                http=limited(server.settings.limits),
                proxy_headers=bool(server.settings.proxies),
                forwarded_allow_ips=list(server.settings.proxies),
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._server = server
        self._when_ready = when_ready
        self._say = say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the background services and accept connections."""
        await super().startup(sockets)
        if self.started:
            self._when_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, after a signal."""
        jobs = self._server.get(Scheduler).training if self.started else 0
        if jobs and not self._server.stopping.is_set():
            self._say(
                f"Stopping: running jobs ({jobs}) save a checkpoint, which may take "
                f"{STOP_SECONDS} seconds. The next start of this server resumes them."
            )
        self._server.stopping.set()
        super().handle_exit(sig, frame)


def serve(
    settings: ServerSettings,
    say: Callable[[str], None],
    when_ready: Callable[[str], None] = lambda _address: None,
    *,
    adopt: bool = False,
) -> None:
    """Serve until a signal; `say` gets lines, the address first, once requests are answered.

    Then `when_ready` gets the address of the pages. `adopt`: as in `identify`.

    Raises:
        MachineError: another program has the port.
        ConfigError: the project file is wrong; the server needs a key and has none; as `Server`.
        LockedStoreError: another process serves this folder.
        StoreError: as `Server`.

    """
    lines = _about_project(settings)
    sys.setswitchinterval(SWITCH_SECONDS)
    with (
        closed_before_sigterm(),
        sole_server(settings) as note_address,
        closing(Server(settings, adopt=adopt)) as server,
    ):
        with server.database.read() as session:
            refuse_without_keys(all_keys(session), settings)
        with listen(settings) as listening:
            configure(settings.log_format)
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{port}/v1"
            note_address(url)

            def ready() -> None:
                for line in (f"OPENAI_BASE_URL={url}", *lines):
                    say(line)
                when_ready(url.removesuffix("v1"))

            Process(server, ready, say).run(sockets=[listening])


def _about_project(settings: ServerSettings) -> list[str]:
    """Lines on what can be called of the project; raises `ConfigError` if its file is wrong."""
    path = settings.project
    if path is None or settings.new_project:
        return []
    names = [f"{model.name} ({short_name(model)})" for model in project_models(path)]
    return [f"model {name}" for name in names] or [f"note: {advice_without_models(path)}"]


def listen(settings: ServerSettings) -> socket.socket:
    """A socket on the host and port of the settings; raises `MachineError` if there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)  # who connects before uvicorn is ready waits
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise MachineError(
            f"the server cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Choose another --port."
        ) from error
    return listening


def try_port(settings: ServerSettings) -> None:
    """Raises `MachineError` where the server could not listen."""
    listen(settings).close()
