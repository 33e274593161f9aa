"""Options that several commands share."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from jangin.core.errors import ConfigError
from jangin.report.terminal.console import choose_language


def _folder(path: Path | None) -> Path | None:
    """Refuse a URL, which would become the name of a folder."""
    if path is not None and path.parts[:1] == ("s3:",):
        raise ConfigError(
            "--store is a folder of this machine. Name a bucket in the project file: "
            "`store: s3://bucket/prefix`."
        )
    return path


ProjectOption = Annotated[
    Path, typer.Option("--project", "-p", help="Project file, or the folder that holds it.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of the artifacts; default: store/ beside the project file.",
        callback=_folder,
    ),
]
VariantOption = Annotated[
    str | None, typer.Option("--variant", "-v", help="Only this variant; default: all of them.")
]
ClusterOption = Annotated[
    str,
    typer.Option(
        "--cluster",
        help="Ray cluster in place of `cluster` in the project file: `auto`, host:port, or `local` "
        "for none.",
        show_default=False,
    ),
]
LastVariantOption = Annotated[
    str | None, typer.Option("--variant", "-v", help="Variant to use; default: the last one.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        "-f",
        help="Folder of the server: database, files, jobs, trained models. Default: jangin-server.",
    ),
]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="server.yaml: model names and other settings.")
]
FitsOption = Annotated[
    bool, typer.Option("--fits", help="Only show which bases fit which GPUs; no project.")
]
HERE = Path("project.yaml")
LANGUAGE_HELP = "Language of what is printed; auto: that of the locale (LC_ALL, LC_MESSAGES, LANG)."


def choose(language: str) -> str:
    """Take the language that is given before the command."""
    choose_language(language)
    return language


def choose_in_command(language: str | None) -> str | None:
    """Take the language that is given after the command; without one, leave what was chosen."""
    if language is not None and language != "auto":
        choose_language(language)
    return language


def user_name() -> str:
    """The name of the user of this computer; empty where it is unknown."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
