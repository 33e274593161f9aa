"""`jangin serve`: OpenAI's API on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from jangin.cli.options import FolderOption, ModelsOption
from jangin.cli.terminal import console


def serve(
    folder: FolderOption = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 for any free one. Default: 8080.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; another one than 127.0.0.1 needs keys."),
    ] = None,
    models: ModelsOption = None,
    project: Annotated[
        Path | None,
        typer.Option("--project", "-p", help="Project whose finished models can be called."),
    ] = None,
) -> None:
    """Serve OpenAI's files, fine-tuning, models and inference API on this machine.

    Clients need two variables: OPENAI_BASE_URL, which is printed, and OPENAI_API_KEY, any text.
    """
    from jangin.serving.run import serve as run
    from jangin.serving.state.settings import read_settings

    given = {"folder": folder, "port": port, "host": host, "project": project}
    settings = read_settings(models, **given)
    run(settings, lambda url: console.print(f"OPENAI_BASE_URL={url}", highlight=False))
