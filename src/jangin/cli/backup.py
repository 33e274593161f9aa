"""`jangin backup` and `jangin restore`: copies of a server."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.options import ModelsOption
from jangin.cli.terminal import console
from jangin.core.errors import ConfigError, StoreError, counted
from jangin.report.terminal.console import said

if TYPE_CHECKING:
    from jangin.serving.state.settings import ServerSettings

ServerArgument = Annotated[Path, typer.Argument(help="Folder of the server.")]
BackupArgument = Annotated[
    str, typer.Argument(help="The backup: a folder, or a URL such as s3://bucket/backup.")
]


def backup(
    folder: ServerArgument,
    target: BackupArgument,
    models: ModelsOption = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Then delete all snapshots but this many, the newest ones."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Then read the whole snapshot again and compare its digests."),
    ] = False,
) -> None:
    """Write a snapshot of a server: database, files, jobs, models, store. It may run meanwhile.

    Only what no snapshot of the backup has is written.
    """
    from jangin.report.terminal.progress import Bars
    from jangin.report.terminal.tables import size
    from jangin.serving.operations.backup import BACKUP, Target, back_up

    settings = _settings(folder, models)
    if settings.is_new:
        raise ConfigError(
            f"{folder} has no database of a server. Name the server's folder, or its server.yaml "
            "with --models."
        )
    kept = Target(target, settings, is_new=True)
    with Bars() as bars, kept.lease(BACKUP):  # what is read again must not be pruned meanwhile
        name, snapshot, written = back_up(settings, kept, bars)
        bad = kept.damaged(snapshot, bars) if check else []
    if bad:
        raise StoreError(
            f"{counted(len(bad), 'object')} of {target} cannot be read again, such as {bad[0]}. "
            "Use another disk for backups, and delete this one."
        )
    total = sum(entry.bytes for entry in snapshot.entries)
    parts = (name, counted(len(snapshot.entries), "file"), size(total), f"{size(written)} new")
    _say(": ".join((parts[0], ", ".join(parts[1:]))))
    if snapshot.lost:
        _say(
            f"Already missing before the backup: {counted(len(snapshot.lost), 'file')} or models "
            f"that the database names: {', '.join(snapshot.lost[:5])}",
            "yellow",
        )
    if check:
        _say("every object was read again and has its digest")
    if keep is not None:
        if (count := kept.prune(keep)) is None:
            _say("No snapshot was deleted: another backup is running.", "yellow")
        elif count:
            _say(f"deleted {counted(count, 'older snapshot')}")


def restore(
    target: BackupArgument,
    folder: Annotated[
        Path | None,
        typer.Argument(help="New folder of the server; without one, the snapshots are listed."),
    ] = None,
    models: ModelsOption = None,
    snapshot: Annotated[
        str | None, typer.Option(help="Name of the snapshot; default: the newest one.")
    ] = None,
) -> None:
    """Write a server as a backup has it into a new folder; every byte is compared with its digest.

    A database of PostgreSQL that `database` in server.yaml names must be empty.
    """
    from jangin.report.terminal.progress import Bars
    from jangin.report.terminal.tables import size
    from jangin.serving.operations.backup import Target
    from jangin.serving.operations.backup import restore as write

    settings = _settings(folder, models)
    kept = Target(target, settings)
    names = kept.names()
    if folder is None:
        for name in names:
            content = kept.read(name)
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(content.created_at))
            total = sum(entry.bytes for entry in content.entries)
            _say(f"{name}  {moment}  {counted(len(content.entries), 'file')}  {size(total)}")
        return
    wanted = snapshot or (names[-1] if names else "")
    if wanted not in names:
        known = ", ".join(names[-5:]) or "none"
        raise ConfigError(
            f"{target} has no snapshot {wanted}".rstrip() + f". It has: {known}. "
            "Name one with --snapshot, or another backup."
        )
    with Bars() as bars:
        content = write(settings, kept, wanted, bars)
    _say(f"restored {wanted}: {counted(len(content.entries), 'file')}")
    option = f" --models {models}" if models else ""
    _say(f"Start it with: jangin serve --folder {folder}{option}")


def _settings(folder: Path | None, models: Path | None) -> "ServerSettings":
    from jangin.serving.state.settings import read_settings

    return read_settings(models, folder=folder)


def _say(text: str, style: str = "") -> None:
    console.print(escape(said(text)), style=style or None, highlight=False, soft_wrap=True)
