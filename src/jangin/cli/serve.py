"""`jangin serve`: OpenAI's API on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.options import FolderOption, ModelsOption
from jangin.cli.terminal import console, errors
from jangin.report.terminal.console import heading, said

if TYPE_CHECKING:
    from jangin.serving.state.settings import ServerSettings


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
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Take over files and models that another database left."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings and machine, and do not serve.")
    ] = False,
) -> None:
    """Serve OpenAI's files, fine-tuning, models and inference API on this machine.

    Clients need two variables: OPENAI_BASE_URL, which is printed, and OPENAI_API_KEY, any text.
    """
    from jangin.serving.state.settings import read_settings

    given = {"folder": folder, "port": port, "host": host, "project": project}
    settings = read_settings(models, **given)
    if check:
        _check(settings)
    else:
        # Not to stdout, whose first line is the address, for scripts that read it.
        text = f"Starting the server of {settings.folder} ..."
        errors.print(escape(said(text)), highlight=False, soft_wrap=True)
        from jangin.serving.run import serve as run

        def say(line: str) -> None:
            console.print(escape(said(line)), highlight=False, soft_wrap=True)

        run(settings, say, adopt=adopt)


def _check(settings: "ServerSettings") -> None:
    """Print a line per check; exits with the code of the worst problem."""
    from jangin.serving.operations.check import check
    from jangin.serving.run import try_port

    worst = 0
    for finding in check(settings, try_port):
        sign = "[green]ok[/]" if finding.problem is None else f"[yellow]{heading('note')}[/]"
        sign = f"[red]{heading('error').rstrip(':')}[/]" if finding.exit_code else sign
        text = said(finding.name) + (f": {said(finding.problem)}" if finding.problem else "")
        console.print(f"{sign} {escape(text)}", highlight=False, soft_wrap=True)
        worst = max(worst, finding.exit_code)
    raise typer.Exit(worst)
