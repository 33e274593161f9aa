"""The `jangin` entry point. Heavy modules are imported inside the commands."""

import errno
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from typer.core import TyperGroup

from jangin import __version__
from jangin.cli.backup import backup, restore
from jangin.cli.chat import chat
from jangin.cli.data import export, prepare, show
from jangin.cli.doubtful import doubtful
from jangin.cli.grade import grade
from jangin.cli.keys import keys
from jangin.cli.model import ask, finish, merge, publish
from jangin.cli.open import open_pages
from jangin.cli.options import LANGUAGE_HELP, choose, choose_in_command
from jangin.cli.project import cluster, doctor, gc, new, plan, run, schema, worker
from jangin.cli.results import compare, report
from jangin.cli.review import review
from jangin.cli.search import search
from jangin.cli.serve import serve
from jangin.cli.terminal import INTERRUPTED, STOPPED, Stopped, console, errors
from jangin.core.errors import JanginError
from jangin.report.terminal.console import heading, said

_WORDS = {
    "new": "init create start setup",
    "plan": "status validate dry-run estimate cost",
    "run": "build make execute resume continue",
    "run sft": "train fit tune finetune fine-tune training",
    "run evaluate": "eval evaluation test benchmark score",
    "gc": "clean cleanup prune purge",
    "worker": "join",
    "review": "label annotate accept reject",
    "report": "html results",
    "search": "find retrieve lookup",
    "ask": "predict infer inference answer question generate",
    "chat": "talk repl console",
    "export": "save download",
    "merge": "gguf quantize convert adapter",
    "finish": "release final",
    "publish": "upload push hub",
    "compare": "diff leaderboard",
    "doctor": "env info diagnose",
    "prepare": "data dataset import preprocess",
    "show": "view print list ls cat inspect",
    "doubtful": "ocr",
    "serve": "server api deploy",
    "open": "ui web gui browser app workbench",
    "--help": "help",
    "--version": "version",
}
"""{what is suggested: words of other tools that are no commands here}."""
STAGES = (
    "load", "read", "catalog", "chunk", "index", "queries", "rank", "synthesize", "evolve",
    "judge", "paraphrase", "curate", "split", "select", "pretrain", "warm_start", "sft",
    "continue_sft", "preferences", "dpo", "evaluate",
)  # fmt: skip
"""Stages that no command is named after; importing them would take seconds."""
MEANT = {word: meant for meant, words in _WORDS.items() for word in words.split()} | {
    stage: f"run {stage}" for stage in STAGES
}


def _spoken(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option `--language` after its name, unless it has its own."""
    signature = inspect.signature(command)
    if "language" in signature.parameters:
        return command

    @functools.wraps(command)
    def run_command(*arguments: Any, _language: Any = None, **options: Any) -> None:
        command(*arguments, **options)

    kind = Annotated[
        Literal["auto", "ko", "en"] | None,
        typer.Option(
            "--language", callback=choose_in_command, help=LANGUAGE_HELP, show_default=False
        ),
    ]
    option = inspect.Parameter(
        "_language", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
    )
    parameters = [*signature.parameters.values(), option]
    run_command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
    run_command.__annotations__ = {**command.__annotations__, "_language": kind}
    return run_command


UsageError: Any = typer.BadParameter.__mro__[1]
"""Of the click that this typer uses, its own or the package."""


class Commands(TyperGroup):
    """The commands; a wrong call is one message, an unknown command with what it probably means."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """As typer's, which reads the options before the name of a command."""
        with _usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """As typer's, which reads the rest of the line and calls the command."""
        with _usage_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, which also suggests commands that are spelled similarly."""
        name = args[0]
        if name.lower() in MEANT and name not in self.commands:
            ctx.fail(f"No such command {name!r}. Did you mean {MEANT[name.lower()]!r}?")
        return super().resolve_command(ctx, args)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Print a wrong call like any other error, and exit with 2; a call for help stays one."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        called = error.ctx.command_path if error.ctx else "jangin"
        _print_errors(error.format_message().rstrip("."))
        errors.print(said(f"How to write it: {called} --help"), highlight=False, soft_wrap=True)
        raise SystemExit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    help="From an organisation's documents to an evaluated specialist language model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"jangin {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    _language: Annotated[
        Literal["auto", "ko", "en"],
        typer.Option("--language", callback=choose, is_eager=True, help=LANGUAGE_HELP),
    ] = "auto",
) -> None:
    """From an organisation's documents to an evaluated specialist language model."""


def _help(docstring: str) -> str:
    """Its paragraphs, each on one line: typer breaks lines itself and keeps those it finds."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


for command in (
    new, plan, run, gc, worker, review, report, search, ask, chat, export, merge, finish, publish,
    compare, grade, schema, doctor, cluster, prepare, show, doubtful, serve,
    backup, restore,
):  # fmt: skip
    app.command(help=_help(command.__doc__ or ""))(_spoken(command))
app.command("open", help=_help(open_pages.__doc__ or ""))(_spoken(open_pages))
app.add_typer(keys, name="keys")


LOCATED = re.compile(r"\S+:\d+: ")
"""How a message begins that is about a line of a file."""


def _missing_package(error: ModuleNotFoundError) -> int:
    """Say which pip extra is missing; returns the exit code. Raises `error` if none is."""
    from jangin.project.setup.extras import extra_of

    extra = extra_of(error.name or "")
    if not extra:
        raise error
    text = f"this needs the package {error.name}. Install it with: pip install 'jangin[{extra}]'"
    _print_errors(text)
    return 2


def _full_or_read_only(error: OSError) -> int:
    """Say that a disk takes no more; returns the exit code. Raises any other `error`."""
    if error.errno == errno.EROFS:
        name = error.filename or "a file"
        text = f"{name} cannot be written: {error.strerror}. Choose another folder."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        while_writing = f" while writing {error.filename}" if error.filename else ""
        text = (
            f"the disk is full{while_writing}. Free some space and run the command again; finished "
            "work is kept."
        )
    else:
        raise error
    _print_errors(text)
    return 1


def _print_errors(text: str) -> None:
    """One message, or several that begin with the file and line that they are about."""
    for number, line in enumerate(said(text).split("\n")):
        mark = f"[red]{heading('error:')}[/] " if number == 0 or LOCATED.match(line) else ""
        errors.print(f"{mark}{escape(line)}", highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; an expected error is one message and exit code 1 or 2."""
    try:
        app(prog_name="jangin")
    except SystemExit as leave:
        if leave.code == INTERRUPTED:  # typer has already turned KeyboardInterrupt into this
            errors.print(leave.text if isinstance(leave, Stopped) else said(STOPPED))
        raise
    except JanginError as error:
        _print_errors(str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        sys.exit(_missing_package(error))
    except KeyboardInterrupt:
        errors.print(said(STOPPED))
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(_full_or_read_only(error))


if __name__ == "__main__":
    main()
