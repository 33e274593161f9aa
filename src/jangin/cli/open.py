"""`jangin open`: the pages of a project in a browser."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.options import HERE, ProjectOption
from jangin.cli.terminal import console, errors
from jangin.report.terminal.console import said

if TYPE_CHECKING:
    from jangin.serving.state.settings import ServerSettings

SERVER_FOLDER = "server"
"""Beside the project file."""
PORT = 8080
START_SECONDS = 30.0
"""Seconds that another process may take to publish its address."""
POLL_SECONDS = 0.2
"""Seconds between two looks for it."""


def open_pages(
    project: ProjectOption = HERE,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port; default: 8080, or any free one where that is taken."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser.")
    ] = True,
) -> None:
    """Open the pages of a project in a browser: start, follow, review, compare, talk.

    A folder without a project file shows the page that makes one. The pages are served on this
    machine only, from `server/` beside the project file, until Ctrl-C; runs that were started from
    them continue.
    """
    from jangin.core.errors import LockedStoreError
    from jangin.documents.readers.folder import PROJECT_FILE

    path = project / PROJECT_FILE if project.is_dir() else project
    _check(path)
    settings = _settings(path, PORT if port is None else port)
    address = _running(settings)
    if not address:
        text = f"Starting the pages of {path} ..."
        errors.print(escape(said(text)), highlight=False, soft_wrap=True)
        from jangin.serving.run import serve

        _keep_from_documents(path, settings.folder)
        chosen = settings if port is not None else _with_free_port(settings)
        try:
            serve(chosen, lambda _line: None, lambda url: _show(url, browser=browser))
        except LockedStoreError:
            address = _running(settings)
            if not address:
                raise
    if address:
        _refuse_other(settings, address)
        console.print(said("It is served already."), highlight=False)
        _show(address, browser=browser)


def _check(path: Path) -> None:
    from jangin.core.errors import ConfigError

    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"{path} is neither a folder nor a project file. Name one with --project."
        )
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} does not exist. Create it first.")


def _settings(path: Path, port: int) -> "ServerSettings":
    from jangin.serving.state.settings import read_settings

    folder = path.parent / SERVER_FOLDER
    options = {"folder": folder, "port": port, "project": path}
    return read_settings(None, **options, new_project=True, workbench=True)


def _with_free_port(settings: "ServerSettings") -> "ServerSettings":
    """The settings with any free port where another program has the usual one."""
    from jangin.core.errors import MachineError
    from jangin.serving.run import try_port

    try:
        try_port(settings)
    except MachineError:
        return settings.model_copy(update={"port": 0})
    return settings


def _running(settings: "ServerSettings") -> str:
    """The address of the pages that a process serves from this folder; empty if there is none."""
    from jangin.serving.state.leases import address_of

    patience = time.monotonic() + START_SECONDS
    while (address := address_of(settings)) == "starting" and time.monotonic() < patience:
        time.sleep(POLL_SECONDS)
    return "" if address == "starting" else address


def _refuse_other(settings: "ServerSettings", address: str) -> None:
    """Raise `ConfigError` where the folder serves another project than the one that was named."""
    from jangin.core.errors import ConfigError
    from jangin.serving.state.leases import other_project

    other = other_project(settings)
    if other is not None:
        raise ConfigError(
            f"{settings.folder} serves the project {other} already, at {address}. Stop that "
            f"server with Ctrl-C to open {settings.project}, or move one of the two project files "
            "into a folder of its own."
        )


def _keep_from_documents(path: Path, folder: Path) -> None:
    """Where the documents of the project are beside its file, the server's folder is none."""
    from contextlib import suppress

    from jangin.core.errors import JanginError
    from jangin.project.file import open_project
    from jangin.project.unread_files import note_output

    with suppress(JanginError):  # a page shows what is wrong with the file
        note_output(open_project(path), folder)


def _show(address: str, *, browser: bool) -> None:
    """Print the address of the pages, and open it where there is a browser."""
    console.print(escape(said(f"The pages are at {address}")), highlight=False, soft_wrap=True)
    if browser and _has_browser():
        import webbrowser

        webbrowser.open(address)


def _has_browser() -> bool:
    """False where only a browser of the terminal could open, which would take it over."""
    if os.environ.get("BROWSER") or sys.platform == "darwin":
        return True
    return bool({"DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} & {*os.environ})
