"""`jangin keys`: the API keys of a server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jangin.cli.options import FolderOption, ModelsOption
from jangin.cli.terminal import console, errors
from jangin.core.errors import ConfigError
from jangin.report.terminal.console import heading, said

if TYPE_CHECKING:
    from jangin.serving.state.settings import ServerSettings

keys = typer.Typer(
    help="API keys of `jangin serve`: create, list and remove them.", no_args_is_help=True
)


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    project: Annotated[
        str, typer.Option("--project", help="Keys of one project share files, jobs and models.")
    ] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: files, jobs, models, inference, batches, pages, metrics, admin "
            "(all). Default: the first six."
        ),
    ] = None,
    folder: FolderOption = None,
    models: ModelsOption = None,
) -> None:
    """Create a key and print it; it is not stored, so it cannot be shown again.

    Creates the folder if there is none yet.
    """
    from jangin.serving.security.keys import DEFAULT_SCOPES, add_key

    settings = _settings(folder, models)
    is_new = settings.is_new
    with _writing(settings) as session:
        scopes = tuple(scope or DEFAULT_SCOPES)
        row, text = add_key(session, name=name, project=project, scopes=scopes, now=_now())
    # On stderr, so that the standard output is the key alone.
    whose = f"a new server in {settings.folder}" if is_new else f"the server of {settings.folder}"
    errors.print(escape(said(f"{row.id} is a key of {whose}")), highlight=False, soft_wrap=True)
    console.print(text, highlight=False, soft_wrap=True)


@keys.command("list")
def list_keys(folder: FolderOption = None, models: ModelsOption = None) -> None:
    """List the keys: whose, for which project, for what, last used when."""
    from jangin.serving.security.keys import all_keys

    names = ("id", "name", "project", "scopes", "created", "last used", "removed")
    table = Table(*map(heading, names), box=None)
    with _writing(_existing(folder, models)) as session:
        for key in all_keys(session):
            times = map(_day, (key.created_at, key.last_used_at, key.revoked_at))
            table.add_row(key.id, key.name, key.project, ", ".join(key.scopes), *times)
    console.print(table)


@keys.command()
def remove(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `jangin keys list` shows it.")],
    folder: FolderOption = None,
    models: ModelsOption = None,
) -> None:
    """Remove a key: a running server refuses it from the next request on."""
    from jangin.serving.security.keys import remove_key

    settings = _existing(folder, models)
    with _writing(settings) as session:
        row = remove_key(session, key_id, _now(), settings.folder)
    console.print(escape(said(f"removed {row.id} ({row.name})")), highlight=False)


@keys.command()
def audit(
    last: Annotated[int, typer.Option(min=1, help="How many lines.")] = 50,
    folder: FolderOption = None,
    models: ModelsOption = None,
) -> None:
    """Show who created, changed and deleted what, newest first."""
    from jangin.serving.security.audit import newest

    table = Table(*map(heading, ("time", "project", "key", "action", "object")), box=None)
    with _writing(_existing(folder, models)) as session:
        for row in newest(session, last):
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.at))
            table.add_row(moment, row.project, row.key_id, row.action, row.object)
    console.print(table)


def _settings(folder: Path | None, models: Path | None) -> "ServerSettings":
    """Settings of the server that the options name."""
    from jangin.serving.state.settings import read_settings

    return read_settings(models, folder=folder)


def _existing(folder: Path | None, models: Path | None) -> "ServerSettings":
    """Settings of a server that has a database; raises `ConfigError` if it has none."""
    settings = _settings(folder, models)
    if settings.is_new:
        raise ConfigError(
            f"{settings.folder} has no database of a server. "
            "Name the server's folder with --folder, or its server.yaml with --models."
        )
    return settings


@contextmanager
def _writing(settings: "ServerSettings") -> Iterator[Any]:
    """A transaction, SQLAlchemy's session, on the database of a server."""
    from jangin.serving.state.server import open_database

    database = open_database(settings)
    try:
        with database.write() as session:
            yield session
    finally:
        database.close()


def _now() -> int:
    return int(time.time())


def _day(moment: int | None) -> str:
    return "" if moment is None else time.strftime("%Y-%m-%d", time.localtime(moment))
