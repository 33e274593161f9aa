"""Run a server until Ctrl-C or SIGTERM."""

import socket
from collections.abc import Callable

import uvicorn

from jangin.core.errors import MachineError
from jangin.serving.app import create_app
from jangin.serving.security.keys import refuse_without_keys
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings

BACKLOG = 2_048
"""Connections that may wait to be accepted."""
GRACE_SECONDS = 30
"""How long open requests may take to end after the signal."""


def serve(settings: ServerSettings, say: Callable[[str], None]) -> None:
    """Serve until a signal; `say` gets the address when the server listens.

    Raises:
        MachineError: another program has the port.
        ConfigError: others can reach the server, and it has no key; or as `Server`.
        StoreError: as `Server`.

    """
    server = Server(settings)
    try:
        with server.database.read() as session:
            refuse_without_keys(session, settings)
        with listen(settings) as listening:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            say(f"http://{shown}:{port}/v1")
            uvicorn.Server(uvicorn_config(server)).run(sockets=[listening])
    finally:
        server.close()


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


def uvicorn_config(server: Server) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        create_app(server),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
